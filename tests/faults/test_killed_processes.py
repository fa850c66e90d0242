"""kill -9 of one process of the platform, or of several, in the middle of everything."""

import threading
import time
from collections.abc import Iterator

import pytest
from _pytest.mark import ParameterSet
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    ReadTimeoutError,
)

from fault_ground import FaultyPlatform
from running import Agent, events_of, new_session, together, until

pytestmark = pytest.mark.timeout(300)


def later(*kinds: str) -> ParameterSet:
    """In the slow run: all at once is the worst of it."""
    return pytest.param(kinds, marks=pytest.mark.slow)


class Stream:
    """Events of one session, read in a thread until it ends or breaks."""

    def __init__(self, agent: Agent, session: str) -> None:
        self.count = 0
        self.end = ""
        self._answer = agent.begin({"do": "stream_for_ever"}, session)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for event in events_of(self._answer):
                self.count += 1
                if "error" in event:
                    self.end = event["error"]
                    return
            self.end = "ended"
        except Exception as error:  # noqa: BLE001 - closed under its reader it fails in many ways
            self.end = f"broke: {type(error).__name__}"

    def goes_on(self) -> None:
        seen = self.count
        until(lambda: self.count > seen + 5 or self.end)
        assert not self.end

    def ends(self) -> str:
        return str(until(lambda: self.end))

    def close(self) -> None:
        self._answer["response"].close()
        self._thread.join(10)
        assert not self._thread.is_alive()


@pytest.fixture
def live(faulty: FaultyPlatform, victim: Agent) -> Iterator[str]:
    """A session that has been told something."""
    session = new_session()
    victim.invoke({"do": "tell", "text": "before"}, session)
    yield session
    victim.stop(session)


def still_there(agent: Agent, session: str) -> None:
    told = agent.invoke({"do": "tell", "text": "after"}, session)["told"]
    assert told[0] == "before", "the session is a new one"


def test_a_killed_worker_is_replaced_by_one_that_finds_the_sessions(
    faulty: FaultyPlatform, victim: Agent, live: str
) -> None:
    stream = Stream(victim, live)
    stream.goes_on()
    (worker,) = faulty.pids("api")
    faulty.kill("api")
    assert stream.ends().startswith("broke")
    # The socket outlives the worker: the call waits for the next one, and is served.
    still_there(victim, live)
    assert faulty.replaced("api", worker) != worker
    assert victim.invoke({"do": "was_closed"}, live)["closed"], "the agent heard of it"


def test_sessions_outlive_the_node(faulty: FaultyPlatform, victim: Agent, live: str) -> None:
    stream = Stream(victim, live)
    stream.goes_on()
    before = faulty.session(live)
    (node,) = faulty.pids("node")
    faulty.kill("node")
    stream.goes_on()  # what is under way needs no node
    still_there(victim, live)
    faulty.replaced("node", node)
    stream.goes_on()
    stream.close()
    after = faulty.session(live)
    assert after["sandboxId"] == before["sandboxId"]
    assert after["endedAt"] is None
    victim.invoke({"do": "say", "text": "heard after the node came back"}, live)
    until(lambda: any("heard after" in line for line in victim.log(live)))
    assert any("came back" in line for line in victim.log(live))


@pytest.mark.slow
def test_a_session_that_streams_is_not_idle_for_a_new_node(drowsy: Agent) -> None:
    """The worker tells the new node what it uses."""
    platform = drowsy.platform
    assert isinstance(platform, FaultyPlatform)
    session = new_session()
    stream = Stream(drowsy, session)
    (node,) = platform.pids("node")
    platform.kill("node")
    platform.replaced("node", node)
    began = time.monotonic()
    while time.monotonic() < began + 3:  # three times as long as an idle session lives
        stream.goes_on()
    stream.close()
    assert platform.ended(session) == "idle for 1 s"


def test_starts_go_on_when_the_node_is_killed(faulty: FaultyPlatform, victim: Agent) -> None:
    """A start that was cut off leaves nothing, and is made again by the next node."""
    sessions = [new_session() for _ in range(8)]
    (node,) = faulty.pids("node")

    def kill_in_the_middle() -> dict[str, object]:
        until(lambda: len(faulty.session_directories()) >= 3, every=0.002)
        faulty.kill("node")
        return {}

    answers = together(
        kill_in_the_middle, *[lambda s=s: victim.invoke(session=s) for s in sessions]
    )[1:]
    assert len({answer["boot"] for answer in answers}) == len(sessions)
    faulty.replaced("node", node)
    live = faulty.sessions(status="live", limit=100)
    assert sorted(s["sandboxId"] for s in live) == faulty.session_directories()
    assert {s["sessionId"] for s in live} >= set(sessions)
    for row in faulty.sessions(limit=100):
        if row["sessionId"] in sessions and row["endedAt"]:
            assert row["endReason"].startswith("lost")
    together(*[lambda s=s: victim.stop(s) for s in sessions])


@pytest.mark.parametrize("kinds", [later("api"), later("postgres"), ("api", "node", "postgres")])
def test_starts_that_are_cut_off_fail_clearly_and_can_be_asked_for_again(
    faulty: FaultyPlatform, victim: Agent, kinds: tuple[str, ...]
) -> None:
    sessions = [new_session() for _ in range(8)]
    old = {kind: faulty.pids(kind)[0] for kind in kinds}
    lived = len(faulty.session_directories())

    def kill_in_the_middle() -> bool:
        until(lambda: len(faulty.session_directories()) >= lived + 3, every=0.002)
        faulty.kill(*kinds)
        return True

    def ask(session: str) -> bool:
        try:
            return bool(victim.invoke(session=session)["boot"])
        except ClientError as error:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] in (500, 503), error
        except (ConnectionClosedError, ReadTimeoutError, EndpointConnectionError):
            assert "api" in kinds, "only a worker's death breaks a connection"
        return False

    together(kill_in_the_middle, *[lambda s=s: ask(s) for s in sessions])
    for kind in kinds:
        faulty.replaced(kind, old[kind])
    for session in sessions:
        until(lambda s=session: _answers(victim, s))
    until(lambda: _agree(faulty))
    together(*[lambda s=s: victim.stop(s) for s in sessions])


def _agree(platform: FaultyPlatform) -> bool:
    """What is written down, and what is there."""
    live = platform.sessions(status="live", limit=100)
    return sorted(row["sandboxId"] for row in live) == platform.session_directories()


def test_calls_that_need_no_database_go_on_without_it(
    faulty: FaultyPlatform, victim: Agent, live: str
) -> None:
    stream = Stream(victim, live)
    (server,) = faulty.pids("postgres")
    faulty.kill("postgres")
    stream.goes_on()
    # A new call waits for its line of the audit, some seconds at most, and then says so.
    until(lambda: _answers(victim, live))
    still_there(victim, live)
    faulty.replaced("postgres", server)
    stream.goes_on()
    stream.close()
    still_there(victim, live)
    assert victim.settle()[0] == "READY"
    assert victim.invoke()["boot"], "a new session"


@pytest.mark.parametrize(
    "kinds", [later("api", "node"), later("node", "postgres"), ("api", "node", "postgres")]
)
def test_several_killed_at_once_come_back(
    faulty: FaultyPlatform, victim: Agent, live: str, kinds: tuple[str, ...]
) -> None:
    stream = Stream(victim, live)
    stream.goes_on()
    faulty.own("/sessions")
    before = victim.control.list_agent_runtimes()["agentRuntimes"]
    old = {kind: faulty.pids(kind)[0] for kind in kinds}
    faulty.kill(*kinds)
    for kind in kinds:
        faulty.replaced(kind, old[kind])
    until(lambda: _answers(victim, live))
    still_there(victim, live)
    stream.close()
    assert victim.control.list_agent_runtimes()["agentRuntimes"] == before
    assert victim.invoke()["boot"], "a new session"


def _answers(agent: Agent, session: str) -> bool:
    try:
        agent.invoke(session=session)
    except (ClientError, BotoCoreError):
        return False
    return True
