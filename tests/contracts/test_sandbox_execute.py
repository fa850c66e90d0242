"""A further program in a running sandbox: whatever the tier, it is one of the sandbox's own."""

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sandbox_ground import (
    GVISOR,
    PYTHON,
    SECONDS_MAX,
    SLOW_TIERS,
    TIERS_FIRST,
    VM,
    Ground,
    HostView,
    Running,
    ground_of,
    nothing_is_left,
)

from freehold.ports.sandbox import Command, CommandSpec, Limits, SandboxFailed

WAIT = "import time\nprint('up', flush=True)\ntime.sleep(600)"


@pytest.fixture(scope="module", params=[*TIERS_FIRST, *SLOW_TIERS])
async def ground(request: pytest.FixtureRequest) -> AsyncIterator[Ground]:
    root = Path(tempfile.mkdtemp(prefix="freehold-execute-"))
    async with ground_of(request.param, root) as made:
        probe = await made.driver.probe()
        if not probe.available:
            pytest.skip(probe.detail)
        yield made


@pytest.fixture(scope="module")
async def box(ground: Ground) -> Running:
    """One sandbox for all that leaves it as it was."""
    running = await ground.start(WAIT, environment={"OF_THE_SESSION": "a=b\nc"})
    await running.says("up")
    return running


def shell(script: str, **options: Any) -> CommandSpec:
    return CommandSpec(command=("/bin/sh", "-c", script), **options)


def python(code: str, *arguments: str, **options: Any) -> CommandSpec:
    return CommandSpec(command=(PYTHON, "-c", code, *arguments), **options)


async def said_by(command: Command) -> tuple[bytes, bytes, int]:
    """stdout, stderr, exit code."""
    said = {"stdout": bytearray(), "stderr": bytearray()}
    try:
        async with asyncio.timeout(SECONDS_MAX):
            while piece := await command.read():
                assert 0 < len(piece.data) <= 64 << 10
                said[piece.stream] += piece.data
            return bytes(said["stdout"]), bytes(said["stderr"]), await command.wait()
    finally:
        await command.close()


async def run(box: Running, spec: CommandSpec) -> tuple[bytes, bytes, int]:
    return await said_by(await box.sandbox.execute(spec))


async def seen(box: Running, code: str, *arguments: str) -> Any:
    """What the code printed as JSON."""
    out, errors, status = await run(box, python("import json, os, sys\n" + code, *arguments))
    assert status == 0, errors.decode()
    return json.loads(out)


async def until_said(command: Command, text: bytes) -> bytes:
    said = b""
    async with asyncio.timeout(SECONDS_MAX):
        while text not in said:
            piece = await command.read()
            assert piece, said
            said += piece.data
    return said


async def test_both_outputs_come_apart_with_the_exit_code(box: Running) -> None:
    assert await run(box, shell("echo out; echo err >&2; exit 7")) == (b"out\n", b"err\n", 7)


async def test_a_death_by_signal_is_128_and_the_signal(box: Running) -> None:
    assert (await run(box, shell("kill -KILL $$")))[2] == 128 + 9
    assert (await run(box, shell("kill -TERM $$")))[2] == 128 + 15


async def test_input_is_read_to_its_end_whatever_bytes_it_has(box: Running) -> None:
    content = bytes(range(256)) * 2000
    command = await box.sandbox.execute(shell("cat"))

    async def feed() -> None:
        await command.write(content)
        await command.write(b"")

    feeding = asyncio.create_task(feed())
    assert await said_by(command) == (content, b"", 0)
    await feeding


async def test_input_that_nobody_reads_is_dropped(box: Running) -> None:
    command = await box.sandbox.execute(shell("exec <&-; echo closed; sleep 0.1"))
    async with asyncio.timeout(SECONDS_MAX):
        await until_said(command, b"closed")
        await command.write(b"x" * 1_000_000)
        assert await command.wait() == 0
        await command.write(b"x" * 1_000_000)
    await command.close()


async def test_a_slow_reader_slows_it_down(box: Running) -> None:
    code = """
import os, sys
written = 0
os.set_blocking(1, False)
try:
    while written < 1 << 26: written += os.write(1, b"x" * 65536)
except BlockingIOError: pass
os.set_blocking(1, True)
print(written, file=sys.stderr, flush=True)
"""
    command = await box.sandbox.execute(python(code))
    assert await asyncio.wait_for(command.wait(), SECONDS_MAX) == 0
    out, errors, _ = await said_by(command)
    assert len(out) == int(errors) < 4 << 20


async def test_much_output_comes_whole(box: Running) -> None:
    out, _, status = await run(box, shell("head -c 20000000 /dev/zero; echo end >&2"))
    assert (len(out), status) == (20_000_000, 0)


async def test_what_it_leaves_running_does_not_hold_its_end(box: Running) -> None:
    out, _, status = await run(box, shell("sleep 601 & echo done"))
    assert (out, status) == (b"done\n", 0)
    await run(box, shell("pkill -f 'sleep 601' || kill $(ps ax | grep 'sleep 60[1]' | cut -c1-7)"))


async def test_it_has_the_sessions_environment_and_its_own(
    box: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORM_SECRET", "hunter2")
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    out, _, _ = await run(box, python(code, environment={"MORE": "ä=1", "HOME": "/tmp"}))
    environment = json.loads(out)
    assert environment["OF_THE_SESSION"] == "a=b\nc"
    assert (environment["MORE"], environment["HOME"]) == ("ä=1", "/tmp")
    assert environment["PATH"]
    added = {"PATH", "HOME", "TMPDIR", "PWD", "LC_CTYPE", "MORE", "OF_THE_SESSION"}
    ours = {"FREEHOLD_SANDBOX", "FREEHOLD_AGENT_SOCKETS"}
    assert set(environment) <= added | ours


async def test_it_begins_where_it_is_told(ground: Ground, box: Running) -> None:
    elsewhere = await ground.start(WAIT, workdir="/usr/lib")
    await elsewhere.says("up")
    assert (await run(elsewhere, shell("pwd")))[0] == b"/usr/lib\n"
    assert (await run(elsewhere, shell("pwd", workdir="/usr/bin")))[0] == b"/usr/bin\n"
    with pytest.raises(SandboxFailed, match="/not/there"):
        await elsewhere.sandbox.execute(shell("pwd", workdir="/not/there"))
    await elsewhere.sandbox.stop()


@pytest.mark.parametrize("name", ["no-such-program", "/no/such/program"])
async def test_what_is_not_there_cannot_be_started(box: Running, name: str) -> None:
    with pytest.raises(SandboxFailed, match=name):
        await box.sandbox.execute(CommandSpec(command=(name,)))


async def test_what_is_no_command_is_refused(box: Running) -> None:
    for refused in (CommandSpec(command=()), CommandSpec(command=("a\0b",))):
        with pytest.raises(SandboxFailed, match="a command is"):
            await box.sandbox.execute(refused)
    with pytest.raises(SandboxFailed, match="A=B"):
        await box.sandbox.execute(shell("true", environment={"A=B": "c"}))


async def test_it_sees_the_files_and_processes_of_the_session_and_changes_them(
    box: Running,
) -> None:
    folder = (await run(box, shell("echo $HOME")))[0].decode().strip()
    await run(box, shell(f"echo mine > {folder}/note"))
    assert (await run(box, shell(f"cat {folder}/note")))[0] == b"mine\n"
    if "process" in box.sandbox.tier:
        return
    lines = (await run(box, shell("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")))[0]
    assert b"time.sleep(600)" in lines or b"prepared.py" in lines  # restored
    count = len((await run(box, shell("ls -d /proc/[0-9]*")))[0].splitlines())
    assert count < 8


async def test_many_at_once_do_not_mix(box: Running) -> None:
    # In those tiers each takes some memory of the session beside its own.
    count = 8 if box.sandbox.tier in (*VM, *GVISOR) else 40
    commands = await asyncio.gather(
        *(box.sandbox.execute(shell(f"read x; echo {n} $x; exit {n}")) for n in range(count))
    )
    for n, command in enumerate(commands):
        await command.write(b"told %d\n" % n)
    found = await asyncio.gather(*(said_by(command) for command in commands))
    assert found == [(b"%d told %d\n" % (n, n), b"", n) for n in range(count)]


# -- terminals


async def test_a_terminal_is_one_and_has_its_size(box: Running) -> None:
    script = "test -t 0 && test -t 1 && test -t 2 && stty size; read x; stty size; echo $TERM"
    command = await box.sandbox.execute(shell(script, terminal=(24, 80)))
    assert await until_said(command, b"\n") == b"24 80\r\n"
    command.resize(50, 132)
    await command.write(b"\n")
    assert await said_by(command) == (b"\r\n50 132\r\nxterm-256color\r\n", b"", 0)


async def test_what_is_typed_reaches_jobs_and_ends_them(box: Running) -> None:
    spec = CommandSpec(
        command=("bash", "--norc", "-i"), terminal=(24, 80), environment={"PS1": "> "}
    )
    command = await box.sandbox.execute(spec)
    await until_said(command, b"> ")
    await command.write(b"sh -c 'echo run''ning; exec sleep 600'\n")
    await until_said(command, b"running\r\n")
    await command.write(b"\x03")
    await until_said(command, b"> ")
    await command.write(b"exit 4\n")
    assert await asyncio.wait_for(command.wait(), SECONDS_MAX) == 4
    await command.close()


async def test_the_end_of_input_ends_what_reads_a_terminal(box: Running) -> None:
    command = await box.sandbox.execute(shell("cat", terminal=(24, 80)))
    await command.write(b"line\n")
    await until_said(command, b"line\r\nline\r\n")
    await command.write(b"")
    assert (await said_by(command))[2] == 0


# -- the end


async def test_closing_hangs_up_and_then_kills(box: Running) -> None:
    loop = asyncio.get_running_loop()
    for script, terminal in (("exec sleep 600", None), ("exec sleep 600", (24, 80)),
                             ("trap '' HUP; echo on; sleep 600; sleep 600", None)):  # fmt: skip
        command = await box.sandbox.execute(shell(script, terminal=terminal))
        if "trap" in script:
            await until_said(command, b"on\n")
        began = loop.time()
        await asyncio.wait_for(command.close(), SECONDS_MAX)
        await command.close()
        code = await command.wait()
        assert code == (128 + 9 if "trap" in script else 128 + 1)
        assert loop.time() - began < SECONDS_MAX / 4
        assert await command.read() is None


async def test_who_reads_is_woken_by_the_close(box: Running) -> None:
    command = await box.sandbox.execute(shell("sleep 600"))
    reading = asyncio.create_task(command.read())
    await asyncio.sleep(0)
    await command.close()
    assert await asyncio.wait_for(reading, SECONDS_MAX) is None


async def test_the_sandboxs_end_is_its_end_too(ground: Ground) -> None:
    running = await ground.start(WAIT)
    await running.says("up")
    commands = [
        await running.sandbox.execute(shell("trap '' HUP TERM; echo on; sleep 600", terminal=size))
        for size in (None, (24, 80))
    ]
    for command in commands:
        await until_said(command, b"on")
    await asyncio.wait_for(running.sandbox.stop(), SECONDS_MAX)
    for command in commands:
        assert (await said_by(command))[2] == 128 + 9
    with pytest.raises(SandboxFailed, match="ended"):
        await running.sandbox.execute(shell("true"))


async def test_nothing_is_left_of_commands(ground: Ground) -> None:
    async def some() -> None:
        running = await ground.start(WAIT)
        await running.says("up")
        await run(running, shell("true"))
        await run(running, shell("true", terminal=(1, 1)))
        with pytest.raises(SandboxFailed):
            await running.sandbox.execute(CommandSpec(command=("nowhere",)))
        command = await running.sandbox.execute(shell("sleep 600"))
        await running.sandbox.stop()
        await command.close()

    await some()
    before = HostView.of(ground.root)
    await some()
    assert nothing_is_left(before, ground.root)


async def test_a_start_that_is_given_up_leaves_nothing(ground: Ground, box: Running) -> None:
    await run(box, shell("true"))
    before = HostView.of(ground.root)
    for steps in range(0, 30, 2):
        start = asyncio.ensure_future(box.sandbox.execute(shell("sleep 602")))
        for _ in range(steps):
            await asyncio.sleep(0)
        start.cancel()
        try:
            command = await start
        except asyncio.CancelledError:
            continue
        await command.close()
    async with asyncio.timeout(SECONDS_MAX):
        while before.processes != (after := HostView.of(ground.root)).processes:
            await asyncio.sleep(0.02)
    assert after.descriptors <= before.descriptors


# -- what it must not have


STATUS = """
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
ids = {"uid": os.getresuid(), "gid": os.getresgid(), "groups": os.getgroups()}
powers = {name: value.strip() for name, value in status.items()
          if name.startswith("Cap") or name in ("Seccomp", "NoNewPrivs")}
import resource
limits = {name: resource.getrlimit(getattr(resource, name))
          for name in ("RLIMIT_NOFILE", "RLIMIT_NPROC", "RLIMIT_CORE", "RLIMIT_DATA", "RLIMIT_AS")}
groups = sorted(open("/proc/self/cgroup").read().splitlines())
spaces = {name: os.readlink("/proc/self/ns/" + name) for name in os.listdir("/proc/self/ns")}
umask = os.umask(0o022)
print(json.dumps([ids, powers, limits, groups, spaces, umask, os.uname().nodename]))
"""


async def test_it_has_what_the_agent_has_and_nothing_more(ground: Ground) -> None:
    """Users, capabilities, filter, limits, control groups, namespaces."""
    code = "import json, os, sys, time\n" + STATUS + "sys.stdout.flush()\ntime.sleep(600)"
    agent = await ground.start(code, limits=Limits(memory_bytes_max=256 << 20, open_files_max=99))
    await agent.says("]\n")
    of_agent, of_command = json.loads(agent.output), await seen(agent, STATUS)
    if ground.tier in (*GVISOR, *VM):
        for one in (of_agent, of_command):
            one[4].pop("user", None)  # gVisor numbers those when they are asked for
            one[2].pop("RLIMIT_NPROC")  # a restored one's relay is counted too
            if ground.tier in GVISOR:
                assert one[1].pop("Seccomp") == "2"
    assert of_command == of_agent
    if ground.tier != "process":
        assert {int(value, 16) for name, value in of_command[1].items() if "Cap" in name} == {0}
    await agent.sandbox.stop()


async def test_no_descriptor_of_ours_comes_with_it(box: Running) -> None:
    code = """
found = {}
for name in os.listdir("/proc/self/fd"):
    try: found[int(name)] = os.readlink("/proc/self/fd/" + name)
    except OSError: pass
print(json.dumps(found))
"""
    found = await seen(box, code)
    assert set(found) == {"0", "1", "2"}


async def test_what_it_uses_counts_for_the_session(ground: Ground) -> None:
    running = await ground.start(WAIT, limits=Limits(memory_bytes_max=160 << 20))
    await running.says("up")
    code = "b = bytearray(b'x') * (300 << 20)\nprint('had it')"
    try:
        out, _, status = await run(running, python(code))
    except SandboxFailed:
        pass
    else:
        assert status != 0
        assert b"had it" not in out
    await running.sandbox.stop()


@pytest.mark.parametrize("tier", ["container", "process"])
@pytest.mark.skipif(os.geteuid() != 0, reason="becomes a normal user")
async def test_a_normal_user_can_do_it_too(tier: str) -> None:
    root = Path(tempfile.mkdtemp(prefix="freehold-user-"))
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    path = [str(Path(__file__).parents[2] / "src"), str(Path(__file__).parent), packages]
    try:
        os.chown(root, 65534, 65534)
        process = await asyncio.create_subprocess_exec(
            PYTHON,
            str(Path(__file__).with_name("sandbox_execute_as_user.py")),
            tier,
            str(root),
            user=65534,
            group=65534,
            extra_groups=[],
            env={"PYTHONPATH": ":".join(path), "PATH": os.environ["PATH"], "HOME": str(root)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(SECONDS_MAX):
            output, _ = await process.communicate()
    finally:
        shutil.rmtree(root)
    assert output.decode().splitlines()[-1] == "all well", output.decode()


# Last: who replaces the driver lets go of every sandbox.
async def test_an_adopted_sandbox_takes_commands_in_the_same_environment(ground: Ground) -> None:
    running = await ground.start(WAIT, environment={"KEPT": "yes"}, workdir="/usr")
    await running.says("up")
    await run(running, shell("true"))
    await ground.replace_driver()
    found = await ground.driver.adopt(msgspec.structs.replace(running.spec, environment={}))
    assert found is not None
    running.sandbox = found
    out, _, status = await run(running, shell("echo $KEPT; pwd; echo $HOME"))
    assert (out.splitlines()[:2], status) == ([b"yes", b"/usr"], 0)
    assert out.splitlines()[2]
    await found.stop()
