"""What every sandbox tier does, isolating or not."""

import asyncio
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from sandbox_ground import (
    CGROUP,
    PYTHON,
    SECONDS_MAX,
    SITE_PACKAGES,
    SLOW_TIERS,
    TIERS_FIRST,
    VM,
    Ground,
    HostView,
    ground_of,
    nothing_is_left,
)

from freehold.ports.sandbox import LAUNCHER, Limits, Mount, SandboxFailed

ECHO_AGENT = """
import asyncio, os, sys
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    name = os.environ["NAME"].encode()
    headers = [(b"content-length", str(len(name)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": name})
if __name__ == "__main__":
    import uvicorn
    uvicorn.run(app, host="127.0.0.1", port=8080, log_level="warning")
"""
BEDROCK_AGENT = """
from bedrock_agentcore import BedrockAgentCoreApp
app = BedrockAgentCoreApp()
@app.entrypoint
def invoke(payload):
    return {"echo": payload["prompt"]}
if __name__ == "__main__":
    app.run()
"""
TCP_SERVER = """
import socket, sys, time
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening")
while True:
    connection, _ = server.accept()
    connection.sendall(sys.argv[2].encode())
    connection.close()
"""
WAIT = "import time\nprint('up')\ntime.sleep(600)"


@pytest.fixture(scope="module", params=[*TIERS_FIRST, *SLOW_TIERS])
async def ground(request: pytest.FixtureRequest) -> AsyncIterator[Ground]:
    root = Path(tempfile.mkdtemp(prefix="freehold-contract-"))
    async with ground_of(request.param, root) as made:
        probe = await made.driver.probe()
        if not probe.available:
            pytest.skip(probe.detail)
        yield made


def agent(ground: Ground, code: str, name: str = "agent") -> dict[str, object]:
    """Options of a sandbox that runs `code` as an agent's main.py with the launcher."""
    folder = ground.root / f"code-{name}"
    folder.mkdir(mode=0o755, exist_ok=True)
    (folder / "main.py").write_text(code)
    command = (PYTHON, LAUNCHER, "--code", "/var/task", "--layer", "/opt/layer", "main.py")
    return {
        "command": command,
        "environment": {"NAME": name},
        "workdir": "/var/task",
        "mounts": (Mount(str(folder), "/var/task"), Mount(SITE_PACKAGES, "/opt/layer")),
    }


async def test_a_probe_has_tried_it_and_says_what_the_tier_is(ground: Ground) -> None:
    probe = await ground.driver.probe()
    assert probe.available
    assert ("isolates nothing" in probe.detail) == (ground.tier == "process")


async def test_output_and_exit_code_come_out(ground: Ground) -> None:
    code = "import sys; print('to stdout'); print('to stderr', file=sys.stderr); sys.exit(3)"
    end, output = await ground.run(code)
    assert end.code == 3
    assert "3" in end.reason
    assert "to stdout" in output
    assert "to stderr" in output


async def test_a_good_end_says_so(ground: Ground) -> None:
    end, _ = await ground.run("pass")
    assert (end.code, end.reason) == (0, "ended by itself")


async def test_a_death_by_signal_is_named(ground: Ground) -> None:
    end, _ = await ground.run("import os; os.kill(os.getpid(), 11)")
    assert end.code == 128 + 11
    assert "SIGSEGV" in end.reason


async def test_the_environment_is_what_was_given_and_little_more(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORM_SECRET", "hunter2")
    code = "import os; print(sorted(os.environ)); print(os.environ['GIVEN'], os.environ['HOME'])"
    _, output = await ground.run(code, environment={"GIVEN": "a=b\nc"})
    names = set(eval(output.splitlines()[0]))
    added = {"PATH", "HOME", "TMPDIR", "PWD", "LC_CTYPE"}
    ours = {"FREEHOLD_SANDBOX", "FREEHOLD_AGENT_SOCKETS"} if ground.tier == "process" else set()
    assert "GIVEN" in names
    assert names - {"GIVEN"} <= added | ours
    assert "a=b\nc" in output


async def test_home_and_temporary_directory_are_its_own_and_writable(ground: Ground) -> None:
    code = """
import os, tempfile
for folder in (os.environ["HOME"], tempfile.gettempdir()):
    print(os.listdir(folder), open(folder + "/mine", "w").write("x"))
"""
    for _ in range(2):
        _, output = await ground.run(code)
        assert output.splitlines() == ["[] 1", "[] 1"]


async def test_a_mount_is_read_at_its_target(ground: Ground) -> None:
    source = ground.root / "readable"
    source.mkdir(mode=0o755)
    (source / "note.txt").write_text("from the host")
    _, output = await ground.run(
        "",
        command=(PYTHON, "-c", "import sys; print(open(sys.argv[1]).read())", "/data/note.txt"),
        mounts=(Mount(str(source), "/data"),),
    )
    assert output.strip() == "from the host"


async def test_a_mount_is_reached_through_folders_that_were_not_there(ground: Ground) -> None:
    source = ground.root / "layer-below"
    source.mkdir(mode=0o755)
    (source / "note.txt").write_text("from below")
    target = "/opt/layers/more/0"
    code = "import sys; print(open(sys.argv[1]).read())"
    _, output = await ground.run(
        "",
        command=(PYTHON, "-c", code, f"{target}/note.txt"),
        mounts=(Mount(str(source), target),),
    )
    assert output.strip() == "from below"


async def test_what_is_written_to_a_writable_mount_stays_and_is_ours_again(ground: Ground) -> None:
    source = ground.root / "writable"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "old").write_text("old")
    code = """
import os, sys
base = sys.argv[1]
open(base + "/deep/old", "a").write("+new")
os.makedirs(base + "/made/below")
open(base + "/made/below/file", "w").write("built")
"""
    end, output = await ground.run(
        "",
        command=(PYTHON, "-c", code, "/out"),
        mounts=(Mount(str(source), "/out", writable=True),),
    )
    assert end.code == 0, output
    assert (source / "deep" / "old").read_text() == "old+new"
    built = source / "made" / "below" / "file"
    assert built.read_text() == "built"
    assert built.stat().st_uid == os.geteuid()


async def test_a_port_inside_is_refused_until_something_listens(ground: Ground) -> None:
    running = await ground.start(WAIT)
    for _ in range(6):
        with pytest.raises(ConnectionRefusedError):
            await running.sandbox.connect(8080)


async def test_a_server_inside_is_reached_over_and_over(ground: Ground) -> None:
    command = (PYTHON, "-u", "-c", TCP_SERVER, "18080", "hello")
    running = await ground.start(command=command)
    loop = asyncio.get_running_loop()
    for _ in range(10):
        with await running.reachable(18080) as stream:
            assert await loop.sock_recv(stream, 100) == b"hello"


async def test_agents_on_the_same_port_live_side_by_side(ground: Ground) -> None:
    boxes = [await ground.start(**agent(ground, ECHO_AGENT, name)) for name in ("a", "b", "c")]
    answers = await asyncio.gather(*(box.http("/") for box in boxes))
    assert answers == [b"a", b"b", b"c"]


async def test_the_unmodified_agentcore_sdk_answers(ground: Ground) -> None:
    box = await ground.start(**agent(ground, BEDROCK_AGENT, "bedrock"))
    assert b'"status":"Healthy"' in await box.http("/ping")
    assert await box.http("/invocations", b'{"prompt": "hi"}') == b'{"echo": "hi"}'


async def test_each_sandbox_has_its_own_doorway(ground: Ground) -> None:
    code = """
import os, socket
with socket.create_connection(("127.0.0.1", int(os.environ["DOORWAY"]))) as s:
    s.sendall(os.environ["NAME"].encode()); print(s.recv(100).decode())
"""
    for name in ("first", "second"):
        environment = {"DOORWAY": "${LOOPBACK_7400}", "NAME": name}
        box = await ground.start(code, environment=environment, loopback_ports=(7400,))
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(SECONDS_MAX):
            stream, _ = await loop.sock_accept(box.sandbox.listeners[7400])
            with stream:
                assert await loop.sock_recv(stream, 100) == name.encode()
                await loop.sock_sendall(stream, f"welcome {name}".encode())
        await box.end()
        assert box.output.strip() == f"welcome {name}"


async def test_a_loopback_port_that_was_not_asked_for_is_an_error(ground: Ground) -> None:
    with pytest.raises(SandboxFailed, match="LOOPBACK_7401"):
        await ground.start(WAIT, environment={"X": "${LOOPBACK_7401}"}, loopback_ports=(7400,))


async def test_frozen_it_does_nothing_and_thawed_it_goes_on(ground: Ground) -> None:
    running = await ground.start(command=(PYTHON, "-u", "-c", TCP_SERVER, "18081", "hello"))
    (await running.reachable(18081)).close()
    loop = asyncio.get_running_loop()
    await running.sandbox.freeze()
    if ground.tier == "restored":  # what relays its connections is frozen as well
        with pytest.raises(ConnectionError, match="frozen"):
            await running.sandbox.connect(18081)
        await running.sandbox.thaw()
        (await running.reachable(18081)).close()
        return
    with await running.sandbox.connect(18081) as stream:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.sock_recv(stream, 100), 0.2)
        await running.sandbox.thaw()
        async with asyncio.timeout(SECONDS_MAX):
            assert await loop.sock_recv(stream, 100) == b"hello"


async def test_a_frozen_sandbox_can_be_stopped(ground: Ground) -> None:
    running = await ground.start(WAIT)
    await running.says("up")
    await running.sandbox.freeze()
    async with asyncio.timeout(SECONDS_MAX):
        await running.sandbox.stop()
    assert (await running.end()).reason == "stopped by the platform"


async def test_stop_lets_it_say_goodbye_within_the_grace(ground: Ground) -> None:
    code = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("goodbye"), sys.exit(0)))
print("up")
while True:  # a signal right before a sleep is heeded only after it
    time.sleep(0.05)
"""
    running = await ground.start(code)
    await running.says("up")
    await running.sandbox.stop(grace_seconds=SECONDS_MAX)
    assert "goodbye" in running.output
    assert (await running.end()).reason == "stopped by the platform"


async def test_stop_ends_what_ignores_the_grace(ground: Ground) -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up'); time.sleep(600)"
    running = await ground.start(code)
    await running.says("up")
    async with asyncio.timeout(SECONDS_MAX):
        await running.sandbox.stop(grace_seconds=0.05)
        await running.sandbox.stop()
    with pytest.raises(ConnectionError):
        await running.sandbox.connect(8080)


async def test_nothing_is_left_of_a_stopped_sandbox(ground: Ground) -> None:
    code = """
import os, socket, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print("daemon is up"); time.sleep(600)
time.sleep(600)
"""
    await ground.run("pass", loopback_ports=(7400,))  # whatever is made once has been made
    before = HostView.of(ground.root)
    output = ground.root / "left.log"
    output.touch()
    running = await ground.start(code, loopback_ports=(7400,), output=str(output))
    await running.says("daemon is up")
    assert HostView.of(ground.root).processes > before.processes
    with pytest.raises(ConnectionRefusedError):
        await running.sandbox.connect(8080)
    await running.sandbox.stop()
    output.unlink()
    assert nothing_is_left(before, ground.root)


async def test_a_sandbox_that_ended_is_cleared_away_by_stop(ground: Ground) -> None:
    running = await ground.start("pass")
    assert (await running.end()).code == 0
    assert Path(running.spec.directory).exists()
    await running.sandbox.stop()
    assert not Path(running.spec.directory).exists()
    again = await ground.start("pass", id=running.spec.id)
    assert (await again.end()).code == 0


async def test_a_new_driver_adopts_what_runs(ground: Ground) -> None:
    options = agent(ground, ECHO_AGENT, "adopted")
    box = await ground.start(**options, loopback_ports=(7400,))
    assert await box.http("/") == b"adopted"
    await ground.replace_driver()
    found = await ground.driver.adopt(box.spec)
    assert found is not None
    assert found is await ground.driver.adopt(box.spec)
    box.sandbox = found
    assert await box.http("/") == b"adopted"
    assert set(found.listeners) == {7400}
    await found.freeze()
    await found.thaw()
    assert (found.usage().cpu_seconds is None) == (ground.tier == "process")
    await found.stop()
    assert (await box.end()).reason == "stopped by the platform"
    assert await ground.driver.adopt(box.spec) is None


async def test_an_adopted_sandbox_is_seen_to_end(ground: Ground) -> None:
    code = """
import socket
gate = socket.create_server(("127.0.0.1", 18084))
print("up")
gate.accept()[0].recv(1)
"""
    box = await ground.start(code)
    await box.says("up")
    await ground.replace_driver()
    found = await ground.driver.adopt(box.spec)
    assert found is not None
    box.sandbox = found
    (await box.reachable(18084)).close()
    # No child of ours any more: only a machine's agent can still tell how it ended.
    assert (await box.end()).code == (0 if ground.tier in VM else None)
    await found.stop()


async def test_what_ended_meanwhile_is_not_adopted_and_is_cleared_away(ground: Ground) -> None:
    box = await ground.start("pass")
    await box.end()
    await ground.replace_driver()
    assert await ground.driver.adopt(box.spec) is None
    assert not Path(box.spec.directory).exists()


async def test_a_reused_pid_is_never_taken_for_the_sandbox(ground: Ground) -> None:
    box = await ground.start(WAIT)
    record = ground.root / "driver" / "records" / f"{box.spec.id}.json"
    written = record.read_text()
    await box.sandbox.stop()
    # The pids now name this very process, which must survive the clearing away.
    for pid in {
        word.strip(",}") for word in written.split('"pid":')[1:] for word in [word.split(",")[0]]
    }:
        written = written.replace(f'"pid":{pid},', f'"pid":{os.getpid()},')
    record.write_text(written)
    await ground.replace_driver()
    assert await ground.driver.adopt(box.spec) is None
    assert not record.exists()


async def test_a_start_that_was_never_written_down_is_found_and_swept(ground: Ground) -> None:
    """As when the platform dies between starting the processes and recording them."""
    box = await ground.start(f"# unwritten\n{WAIT}", id="unwritten")
    await box.says("up")
    record = ground.root / "driver" / "records" / f"{box.spec.id}.json"
    await ground.replace_driver()
    known = msgspec.json.decode(record.read_bytes())
    record.write_bytes(msgspec.json.encode(known | {"monitor": None, "init": None}))
    assert any("unwritten" in line for _, line in HostView.of(ground.root).processes)
    assert box.spec.id in await ground.driver.sweep(set())
    assert not any("unwritten" in line for _, line in HostView.of(ground.root).processes)
    assert not Path(box.spec.directory).exists()


async def test_a_sweep_ends_what_nobody_keeps(ground: Ground) -> None:
    kept, known, unknown = [await ground.start(WAIT) for _ in range(3)]
    await unknown.says("up")
    await ground.replace_driver()
    adopted = await ground.driver.adopt(kept.spec)
    also = await ground.driver.adopt(known.spec)
    assert adopted is not None
    assert also is not None
    ended = await ground.driver.sweep({kept.spec.id})
    assert {known.spec.id, unknown.spec.id} <= set(ended)
    assert kept.spec.id not in ended
    assert not Path(unknown.spec.directory).exists()
    kept.sandbox = adopted
    await adopted.stop()
    assert (await kept.end()).reason == "stopped by the platform"


async def test_sandboxes_outlive_a_killed_platform_and_are_swept_or_adopted(ground: Ground) -> None:
    """A process of its own starts two sandboxes and is killed with SIGKILL."""
    first, second = ground.spec(WAIT), ground.spec(WAIT)
    program = f"""
import asyncio, pathlib, sys
sys.path[:0] = {[str(Path(__file__).parent)]!r}
import sandbox_ground, msgspec
from freehold.ports.sandbox import SandboxSpec
sandbox_ground.CGROUP = {CGROUP!r}
async def main():
    directory = pathlib.Path({str(ground.root / "driver")!r})
    driver = sandbox_ground.make_driver({ground.tier!r}, directory)
    for line in sys.argv[1:]:
        await driver.start(msgspec.json.decode(line, type=SandboxSpec))
    print("started", flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""
    lines = [msgspec.json.encode(spec).decode() for spec in (first, second)]
    platform = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, *lines, stdout=asyncio.subprocess.PIPE
    )
    assert platform.stdout
    async with asyncio.timeout(SECONDS_MAX):
        assert await platform.stdout.readline() == b"started\n"
    platform.send_signal(signal.SIGKILL)
    await platform.wait()

    found = await ground.driver.adopt(first)
    assert found is not None
    ended = await ground.driver.sweep({first.id})
    assert second.id in ended
    await found.stop()
    assert not Path(first.directory).exists()
    assert not Path(second.directory).exists()


async def test_an_id_is_one_sandbox_at_a_time(ground: Ground) -> None:
    box = await ground.start(WAIT)
    with pytest.raises(SandboxFailed, match="exists already"):
        await ground.driver.start(box.spec)
    assert await ground.driver.adopt(box.spec) is box.sandbox


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "x" * 129, "new\nline"])
async def test_an_id_that_could_be_a_path_is_refused(ground: Ground, name: str) -> None:
    with pytest.raises(SandboxFailed, match="cannot name a sandbox"):
        await ground.driver.start(ground.spec("pass", id=name, output="/dev/null"))


async def test_what_cannot_start_is_an_error_and_leaves_nothing(ground: Ground) -> None:
    await ground.run("pass", loopback_ports=(7400,))
    before = HostView.of(ground.root)
    missing = Mount(str(ground.root / "not-there"), "/data")
    environment = {"A=B": "c"}
    with pytest.raises(SandboxFailed, match="A=B"):
        await ground.driver.start(ground.spec("pass", environment=environment))
    if ground.tier != "process":
        with pytest.raises(SandboxFailed, match="does not exist"):
            await ground.driver.start(ground.spec("pass", mounts=(missing,)))
    else:
        with pytest.raises(SandboxFailed, match="not a program"):
            await ground.driver.start(ground.spec(command=("/nowhere/python", "x")))
    assert nothing_is_left(before, ground.root)


async def test_a_start_that_is_cancelled_leaves_nothing(ground: Ground) -> None:
    await ground.run("pass", loopback_ports=(7400,))
    before = HostView.of(ground.root)
    for steps in range(0, 40, 3):
        start = asyncio.ensure_future(
            ground.driver.start(ground.spec(WAIT, loopback_ports=(7400,)))
        )
        for _ in range(steps):
            await asyncio.sleep(0)
        start.cancel()
        try:
            sandbox = await start
        except asyncio.CancelledError:
            continue
        await sandbox.stop()
    assert nothing_is_left(before, ground.root)


async def test_a_fifo_as_output_survives_its_reader(ground: Ground) -> None:
    fifo = ground.root / "fifo"
    os.mkfifo(fifo)
    first = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    code = """
import socket
server = socket.create_server(("127.0.0.1", 18082))
while True:
    server.accept()
    print("said")
"""
    running = await ground.start(code, output=str(fifo))
    os.close(first)
    (await running.reachable(18082)).close()  # it writes with nobody reading
    second = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    loop = asyncio.get_running_loop()
    readable = loop.create_future()
    loop.add_reader(second, lambda: readable.done() or readable.set_result(None))
    try:
        await asyncio.wait_for(readable, SECONDS_MAX)
        assert os.read(second, 100).startswith(b"said")
    finally:
        loop.remove_reader(second)
        os.close(second)
    await running.sandbox.stop()
    fifo.unlink()


async def test_too_many_open_files_are_refused(ground: Ground) -> None:
    code = """
import os
kept = []
try:
    while True: kept.append(os.open("/dev/null", os.O_RDONLY))
except OSError as error: print(error.errno, len(kept))
"""
    _, output = await ground.run(code, limits=Limits(open_files_max=64))
    number, count = (int(word) for word in output.split())
    assert number == 24
    assert count < 64


async def test_more_memory_than_allowed_is_not_had(ground: Ground) -> None:
    code = "b = bytearray(300 << 20)\nfor i in range(0, len(b), 4096): b[i] = 1\nprint('had it')"
    end, output = await ground.run(code, limits=Limits(memory_bytes_max=64 << 20))
    assert end.code != 0
    assert "had it" not in output


async def test_a_refused_connection_costs_next_to_nothing(ground: Ground) -> None:
    running = await ground.start(WAIT)
    await running.says("up")
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(100):
        with pytest.raises(ConnectionRefusedError):
            await running.sandbox.connect(8080)
    assert (loop.time() - began) / 100 < 0.01
    assert isinstance(running.sandbox.listeners, dict)
    assert not any(isinstance(each, socket.socket) for each in running.sandbox.listeners.values())
