"""How sessions start when their version was used before, and what is kept warm for that.

The record says how a session came to be; no test measures how fast.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import agents
from running import Agent, RunningPlatform, new_session, until

pytestmark = pytest.mark.timeout(300)

SOON = 60

TICKING = """
import json, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ticks, gap = 0, 0.0

def tick():
    global ticks, gap
    last = time.monotonic()
    while True:
        time.sleep(0.02)
        at = time.monotonic()
        ticks, gap, last = ticks + 1, max(gap, at - last), at

class Agent(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer({"status": "Healthy"})

    def do_POST(self):
        global gap
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(0.1)
        said, gap = {"ticks": ticks, "gap": gap}, 0.0
        self.answer(said)

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

threading.Thread(target=tick, daemon=True).start()
ThreadingHTTPServer(("0.0.0.0", 8080), Agent).serve_forever()
"""


def started(agent: Agent, session: str) -> dict[str, Any]:
    """The session's record, once it says how it came to be."""
    until(lambda: agent.platform.session(session)["status"] != "STARTING")
    return agent.platform.session(session)


def comes_to_start(agent: Agent, start: str, **more: Any) -> dict[str, Any]:
    """New sessions until one starts like this: what is prepared is prepared in the background."""

    def tried() -> dict[str, Any] | None:
        session = new_session()
        agent.invoke(session=session, **more)
        record = started(agent, session)
        return record if record["start"] == start else None

    return dict(until(tried, seconds_max=SOON, every=0.3))


def waiting(platform: RunningPlatform) -> int:
    """Sandboxes that are there, and no session."""
    live = platform.own("/sessions", limit=1000)["sessions"]
    there = [path.name for path in (platform.state / "sessions").iterdir()]
    return len(set(there) - {row["sandboxId"] for row in live})


def templates(platform: RunningPlatform) -> set[str]:
    folder = platform.state / "templates"
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def make(directory: Path, name: str, **settings: object) -> RunningPlatform:
    return RunningPlatform(directory / name, metering_seconds=0.5, **settings)


@pytest.fixture(scope="module")
def alert(open_directory: Path) -> Iterator[RunningPlatform]:
    """Freezes soon what nobody uses."""
    with make(open_directory, "alert", freeze_idle_seconds=0.5, session_idle_seconds=120) as made:
        yield made


@pytest.fixture(scope="module")
def agent(alert: RunningPlatform) -> Agent:
    return alert.deploy(
        agents.plain(), name="ordinary", environmentVariables={"TOKEN": "of the customer"}
    )


# -- templates


def test_a_later_session_is_forked_off_what_the_first_one_left(agent: Agent) -> None:
    first = new_session()
    agent.invoke(session=first)
    assert (started(agent, first)["start"], started(agent, first)["startNote"]) == ("cold", "")
    record = comes_to_start(agent, "forked")
    assert (record["tier"], record["startNote"]) == ("container", "")


def test_a_forked_session_has_the_variables_of_its_version_and_is_alone(agent: Agent) -> None:
    one = comes_to_start(agent, "forked")["sessionId"]
    other = comes_to_start(agent, "forked")["sessionId"]
    said = agent.invoke(session=one)
    assert said["environment"]["TOKEN"] == "of the customer"
    assert said["boot"] != agent.invoke(session=other)["boot"]
    agent.invoke({"do": "tell", "text": "secret"}, one)
    assert agent.invoke(session=other)["tmp"] == []


def test_the_customers_variables_are_not_in_the_template(
    agent: Agent, alert: RunningPlatform
) -> None:
    comes_to_start(agent, "forked")
    environments = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"inside.py" in (process / "cmdline").read_bytes():
                environments.append((process / "environ").read_bytes())
        except OSError:
            continue
    assert environments, "the template is a process"
    assert not any(b"of the customer" in environment for environment in environments)


def test_an_agent_that_cannot_have_a_template_has_a_sandbox_that_waits(
    alert: RunningPlatform,
) -> None:
    """Its own module hides one of the standard library that the template would have imported."""
    hiding = alert.deploy({**agents.plain(), "calendar.py": ""}, name="hiding")
    record = comes_to_start(hiding, "warm")
    assert record["startNote"].startswith("no template: the agent's own modules hide others")
    hiding.delete()
    until(lambda: waiting(alert) == 0)


def test_variables_that_imports_depend_on_make_it_fall_back_too(alert: RunningPlatform) -> None:
    debugged = alert.deploy(
        agents.plain(), name="debugged", environmentVariables={"PYTHONASYNCIODEBUG": "1"}
    )
    record = comes_to_start(debugged, "warm")
    assert "PYTHONASYNCIODEBUG was read while modules were imported" in record["startNote"]
    said = debugged.invoke(session=record["sessionId"])
    assert said["environment"]["PYTHONASYNCIODEBUG"] == "1"
    debugged.delete()
    until(lambda: waiting(alert) == 0)


def test_what_ends_at_once_in_a_fork_is_started_from_nothing(alert: RunningPlatform) -> None:
    """It will not run where its modules are imported already; nobody sees a failure of it."""
    main = agents.plain()["main.py"]
    choosy = "import sys\nif 'http.server' in sys.modules:\n    sys.exit('not like this')\n" + main
    agent = alert.deploy({"main.py": choosy}, name="choosy")
    record = comes_to_start(agent, "warm")
    assert "what came from the template ended at once" in record["startNote"]
    agent.delete()
    until(lambda: waiting(alert) == 0)


# -- a minimum of warm sessions


def test_an_endpoint_keeps_as_many_waiting_as_its_tag_says(
    alert: RunningPlatform, agent: Agent
) -> None:
    agent.control.create_agent_runtime_endpoint(
        agentRuntimeId=agent.id, name="prompt", tags={"freehold:warm": "2"}
    )
    until(lambda: waiting(alert) == 2, seconds_max=SOON)
    session = new_session()
    said = agent.invoke(session=session, qualifier="prompt")
    record = started(agent, session)
    assert (record["start"], record["endpoint"], record["status"]) == ("warm", "prompt", "READY")
    assert said["environment"]["TOKEN"] == "of the customer"
    until(lambda: waiting(alert) == 2, seconds_max=SOON)
    agent.stop(session, qualifier="prompt")
    arn = agent.control.get_agent_runtime_endpoint(agentRuntimeId=agent.id, endpointName="prompt")[
        "agentRuntimeEndpointArn"
    ]
    agent.control.tag_resource(resourceArn=arn, tags={"freehold:warm": "1"})
    until(lambda: waiting(alert) == 1, seconds_max=SOON)
    agent.control.delete_agent_runtime_endpoint(agentRuntimeId=agent.id, endpointName="prompt")
    until(lambda: waiting(alert) == 0, seconds_max=SOON)


def test_what_waits_is_in_no_list_and_costs_nothing(alert: RunningPlatform) -> None:
    kept = alert.deploy(agents.plain(), name="kept")
    kept.control.create_agent_runtime_endpoint(
        agentRuntimeId=kept.id, name="prompt", tags={"freehold:warm": "1"}
    )
    until(lambda: waiting(alert) == 1, seconds_max=SOON)
    assert alert.own("/sessions", runtimeId=kept.id, status="all")["sessions"] == []
    kept.delete()
    until(lambda: waiting(alert) == 0, seconds_max=SOON)


def test_what_a_sandbox_used_before_it_was_given_away_costs_nobody(
    alert: RunningPlatform,
) -> None:
    burning = "import time\nwhile time.process_time() < 1.5:\n    pass\n"
    eager = alert.deploy({"main.py": burning + agents.plain()["main.py"]}, name="eager")
    eager.control.create_agent_runtime_endpoint(
        agentRuntimeId=eager.id, name="prompt", tags={"freehold:warm": "2"}
    )
    # They come one after the other: the first is up when the second is there.
    until(lambda: waiting(alert) == 2, seconds_max=SOON)
    session = new_session()
    eager.invoke(session=session, qualifier="prompt")
    used = until(lambda: started(eager, session)["cpuSeconds"])
    assert started(eager, session)["start"] == "warm"
    assert used < 1
    eager.delete()
    until(lambda: waiting(alert) == 0, seconds_max=SOON)


def test_a_number_that_cannot_be_is_refused(agent: Agent) -> None:
    with pytest.raises(agent.control.exceptions.ValidationException, match="from 0 to 100"):
        agent.control.create_agent_runtime_endpoint(
            agentRuntimeId=agent.id, name="many", tags={"freehold:warm": "101"}
        )


# -- frozen while idle


def test_an_idle_session_stands_still_and_goes_on_when_it_is_asked(alert: RunningPlatform) -> None:
    ticking = alert.deploy({"main.py": TICKING}, name="ticking")
    session = new_session()
    first = ticking.invoke(session=session)
    until(lambda: alert.session(session)["status"] == "FROZEN", seconds_max=SOON)
    frozen_at = time.monotonic()
    until(lambda: time.monotonic() > frozen_at + 1)
    woken = ticking.invoke(session=session)
    assert woken["gap"] > 1, "nothing in it ran meanwhile"
    assert woken["ticks"] > first["ticks"]
    assert ticking.invoke(session=session)["ticks"] > woken["ticks"], "the same, and it runs"


def test_a_busy_session_is_not_frozen(alert: RunningPlatform, agent: Agent) -> None:
    session = new_session()
    agent.invoke({"do": "busy", "busy": True}, session)
    until(lambda: alert.session(session)["status"] == "BUSY", seconds_max=SOON)
    agent.invoke({"do": "busy", "busy": False}, session)
    until(lambda: alert.session(session)["status"] == "FROZEN", seconds_max=SOON)


def test_a_frozen_session_is_ended_like_any_other(alert: RunningPlatform, agent: Agent) -> None:
    session = new_session()
    agent.invoke(session=session)
    until(lambda: alert.session(session)["status"] == "FROZEN", seconds_max=SOON)
    agent.stop(session)
    assert alert.ended(session) == "StopRuntimeSession was called"


# -- scale to zero, and the ceiling


@pytest.mark.slow
def test_what_nobody_uses_goes(open_directory: Path) -> None:
    with make(open_directory, "fleeting", template_idle_seconds=1.5) as platform:
        agent = platform.deploy(agents.plain())
        comes_to_start(agent, "forked")
        assert templates(platform)
        until(lambda: not templates(platform), seconds_max=SOON)
        agent.invoke()  # and is there again when somebody does
        until(lambda: templates(platform), seconds_max=SOON)


@pytest.mark.slow
def test_the_least_recently_used_makes_room(open_directory: Path) -> None:
    """A ceiling under which one template fits, and no second one is begun."""
    with make(open_directory, "pinched", warm_memory_mib_max=70) as platform:
        one, other = platform.deploy(agents.plain()), platform.deploy(agents.plain())
        comes_to_start(one, "forked")
        (first,) = templates(platform)
        comes_to_start(other, "forked")
        (second,) = templates(platform)
        assert second != first
        session = new_session()
        one.invoke(session=session)
        assert started(one, session)["start"] == "cold"


@pytest.mark.slow
def test_without_any_memory_for_it_nothing_is_kept_warm(open_directory: Path) -> None:
    with make(open_directory, "austere", warm_memory_mib_max=0) as platform:
        agent = platform.deploy(agents.plain())
        sessions = [new_session() for _ in range(3)]
        for session in sessions:
            agent.invoke(session=session)
        assert {started(agent, session)["start"] for session in sessions} == {"cold"}
        assert not templates(platform)
        assert waiting(platform) == 0
