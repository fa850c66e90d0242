"""`freehold up`: what it says, what it keeps, how it ends."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import agents
from fault_ground import FaultyPlatform, up
from running import Agent, events_of, new_session, until

pytestmark = pytest.mark.timeout(180)

STOP_SECONDS_MAX = 10


@pytest.fixture(scope="module")
def home(open_directory: Path) -> Path:
    """A short one: the platforms of this module are one after the other on the same state."""
    return open_directory / "up"


@pytest.fixture(scope="module")
def started(home: Path) -> Iterator[FaultyPlatform]:
    platform = FaultyPlatform(home, drain_seconds_max=3)
    platform.start()
    yield platform
    assert platform.stop() == 0


def test_it_says_where_it_is_in_json(started: FaultyPlatform, home: Path) -> None:
    facts = started.facts
    assert facts["endpoint"].startswith("http://127.0.0.1:")
    assert facts["state"] == str(home)
    assert facts["access_key_id"] == started.access_key_id
    assert facts["pid"] == started.process.pid  # type: ignore[union-attr]
    assert facts["tier"] == ("container" if shutil.which("bwrap") else "process")


def test_the_file_for_clients_is_its_owners_alone(home: Path, started: FaultyPlatform) -> None:
    assert (home / "connection.json").stat().st_mode & 0o777 == 0o600
    assert (home / "keys").stat().st_mode & 0o777 == 0o700


def test_a_second_one_on_the_same_state_says_so_and_leaves_the_first_alone(
    started: FaultyPlatform, home: Path
) -> None:
    began = time.monotonic()
    ended = up(home)
    assert time.monotonic() - began < 5
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert f"runs on {home} already (process {started.facts['pid']})" in ended.stderr
    assert started.own("/health")["status"] == "ok"
    assert started.pids("node"), "its processes go on"


def test_a_port_that_is_taken_is_named(open_directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = up(open_directory / "elsewhere", "--port", port)
    assert ended.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port} (Address already in use)" in ended.stderr
    assert "choose another --port" in ended.stderr


def test_a_host_that_is_not_here_is_named(open_directory: Path) -> None:
    ended = up(open_directory / "elsewhere", "--host", "192.0.2.1")
    assert ended.returncode == 1
    assert "cannot listen on 192.0.2.1:8400" in ended.stderr


@pytest.mark.slow
def test_the_access_key_is_made_once(open_directory: Path) -> None:
    platform = FaultyPlatform(open_directory / "twice")
    keys = []
    for _ in range(2):
        platform.start()
        keys.append((platform.access_key_id, platform.secret_access_key))
        assert len(platform.own("/keys")["keys"]) == 1
        assert platform.stop() == 0
        assert platform.remains() == []
    assert keys[0] == keys[1]


def test_it_tells_people_the_endpoint_and_the_next_command(open_directory: Path) -> None:
    state = open_directory / "with a space"
    with _people_start(state) as process:
        assert process.stdout is not None
        said = [process.stdout.readline().rstrip() for _ in range(7)]
        assert said[0].startswith("Freehold ")
        assert said[0].endswith("8400") or "http://127.0.0.1:" in said[0]
        assert f"eval \"$(freehold env --state '{state}')\" && freehold create hello" in said[6]
        assert said[4].endswith(f"/console; name and password are in {state / 'admin-password'}")
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=30)
    assert (process.returncode, rest, errors) == (0, "Stopped.\n", "")


def _people_start(state: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "freehold.cli", "up", "--state", str(state), "--port", "0",
         *arguments],
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith("FREEHOLD_")},
            "FREEHOLD_DATABASE_DURABLE": "false",
        },
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


@pytest.mark.slow
def test_a_state_with_a_very_long_path_works_and_leaves_nothing_elsewhere(
    open_directory: Path,
) -> None:
    """Longer than the name of a unix socket may be: sockets are then elsewhere."""
    state = open_directory / ("long-" * 20) / ("path " * 15).strip() / "state"
    state.parent.mkdir(parents=True)
    platform = FaultyPlatform(state)
    platform.start()
    agent = platform.deploy(agents.plain())
    assert agent.invoke()["boot"]
    elsewhere = [(state / link).readlink() for link in ("run", "postgres/socket")]
    platform.kill("up")
    platform.restart()
    elsewhere += [(state / link).readlink() for link in ("run", "postgres/socket")]
    assert platform.stop() == 0
    assert [path for path in elsewhere if path.exists()] == []
    assert platform.remains() == []


def test_ctrl_c_while_it_starts_ends_it(open_directory: Path) -> None:
    state = open_directory / "impatient"
    for moment in (0.4, 0.9):
        process = _people_start(state)
        time.sleep(moment)  # somewhere in the start, wherever that is on this machine
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode in (0, 130, -signal.SIGINT)
        assert FaultyPlatform(state).remains() == []


# -- its end

SLOWLY = """
def count_slowly(agent, to):
    agent.begin()
    for number in range(to):
        agent.event(number)
        time.sleep(0.1)
    agent.end()

"""
StartAgain = Callable[[float], Agent]


@pytest.fixture(scope="module")
def start_again(open_directory: Path) -> Iterator[StartAgain]:
    """A platform with so many seconds to drain, on a state that has an agent."""
    state = open_directory / "stopped-often"
    first = FaultyPlatform(state).start()
    deployed = first.deploy({"main.py": agents.plain()["main.py"].replace("# -- work", SLOWLY)})
    assert first.stop() == 0
    started: list[FaultyPlatform] = []

    def start(drain_seconds_max: float) -> Agent:
        started.append(FaultyPlatform(state, drain_seconds_max=drain_seconds_max))
        started[-1].start()
        return Agent(started[-1], deployed.id, deployed.arn)

    yield start
    for platform in started:
        assert platform.process is not None
        if platform.process.poll() is None:
            platform.stop()


def _ended(agent: Agent) -> None:
    """By itself and well, with nothing left."""
    platform = agent.platform
    assert isinstance(platform, FaultyPlatform)
    assert platform.process is not None
    assert platform.process.wait(STOP_SECONDS_MAX) == 0
    assert platform.process.stdout is not None
    platform.process.stdout.close()
    assert platform.remains() == []


def _send(agent: Agent, number: signal.Signals) -> None:
    assert agent.platform.process is not None
    agent.platform.process.send_signal(number)


def _runs(agent: Agent) -> bool:
    assert agent.platform.process is not None
    return agent.platform.process.poll() is None


def _listens(agent: Agent) -> bool:
    port = int(agent.platform.endpoint.rpartition(":")[2])
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_request_under_way_finishes_and_new_ones_are_refused(
    start_again: StartAgain, number: signal.Signals
) -> None:
    agent = start_again(20)
    events = events_of(agent.begin({"do": "count_slowly", "to": 20}, new_session()))
    assert next(events) == 0
    _send(agent, number)
    until(lambda: not _listens(agent))
    assert _runs(agent), "it waits for the request"
    assert list(events) == list(range(1, 20))
    _ended(agent)


def test_a_request_that_never_ends_is_cut_off_when_the_time_is_over(
    start_again: StartAgain,
) -> None:
    agent = start_again(1)
    answer = agent.begin({"do": "stream_for_ever"})
    events = events_of(answer)
    assert next(events)
    _send(agent, signal.SIGTERM)
    _read_until_cut_off(events)
    _ended(agent)


def _read_until_cut_off(events: Iterator[object]) -> None:
    try:
        for _ in events:
            pass
    except Exception:  # noqa: BLE001 - in whatever way
        pass


@pytest.mark.slow
def test_who_follows_something_holds_nobody_up_and_is_told_the_end(
    start_again: StartAgain,
) -> None:
    """Each answer ends as a whole one does: no client takes it for a broken connection."""
    agent = start_again(600)
    session = new_session()
    agent.invoke({"do": "whoami"}, session)
    platform = agent.platform
    log = f"/runtimes/{agent.id}/logs"
    with (
        platform.following("/traces/live") as traces,
        platform.following("/audit/follow") as audit,
        platform.following(log, follow="true", sessionId=session) as lines,
        platform.following(log, follow="true") as all_lines,
        ThreadPoolExecutor(4) as pool,
    ):
        assert next(lines) and next(all_lines)
        reading = [pool.submit(list, each) for each in (traces, audit, lines, all_lines)]
        _send(agent, signal.SIGTERM)
        for each in reading:
            each.result(60)
    _ended(agent)


def test_a_second_ctrl_c_does_not_wait(start_again: StartAgain) -> None:
    agent = start_again(60)
    answer = agent.begin({"do": "stream_for_ever"})
    assert next(events_of(answer))
    _send(agent, signal.SIGINT)
    until(lambda: not _listens(agent))
    _send(agent, signal.SIGINT)
    _ended(agent)
    answer["response"].close()


# -- where state cannot be kept

MAY_MOUNT = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare"), reason="mounts a file system of its own"
)


def _up_on(mount: str, place: Path) -> "subprocess.CompletedProcess[str]":
    """On a file system that this process alone sees."""
    place.mkdir()
    command = f"mount -t tmpfs {mount} none {place} && exec {sys.executable} -m freehold.cli up"
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", f"{command} --port 0 --state {place}/state"],
        env={**os.environ, "FREEHOLD_DATABASE_DURABLE": "false"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@MAY_MOUNT
@pytest.mark.parametrize(
    ("mount", "said"),
    [
        ("-o ro", "Read-only file system"),
        ("-o size=64m,mode=711", "has 63 MiB free"),
        ("-o size=0,nr_inodes=2", "No space left"),
    ],
)
def test_a_place_that_cannot_keep_state_is_said_in_one_line(
    open_directory: Path, mount: str, said: str
) -> None:
    ended = _up_on(mount, open_directory / f"bad-{abs(hash(mount))}")
    assert ended.returncode == 1
    (line,) = ended.stderr.strip().splitlines()
    assert said in line


@pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes run as other users only for root")
def test_a_closed_directory_around_the_state_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    ended = up(tmp_path / "state")
    assert ended.returncode == 1
    assert str(tmp_path) in ended.stderr
    assert "/var/lib/freehold" in ended.stderr


def test_an_unknown_variable_is_remarked_upon(open_directory: Path) -> None:
    ended = up(
        open_directory / "elsewhere", "--port", "1", "--host", "192.0.2.1", FREEHOLD_WORKER="3"
    )
    assert "FREEHOLD_WORKER is not a setting; did you mean FREEHOLD_WORKERS?" in ended.stderr


def test_an_error_is_one_object_with_json(open_directory: Path) -> None:
    ended = up(open_directory / "elsewhere", "--json", "--host", "192.0.2.1")
    assert json.loads(ended.stderr)["error"]["code"] == "DidNotStart"
