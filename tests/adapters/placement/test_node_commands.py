"""Programs beside an agent, started by an API worker through a real node."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import agents
from freehold.adapters.placement.local.client import LocalPlacement
from freehold.kernel.errors import Conflict, RuntimeClientFailed, Throttled, Unavailable
from freehold.ports.sandbox import Command, CommandSpec
from running import Agent, RunningPlatform, new_session, until

pytestmark = pytest.mark.timeout(120)

SECONDS_MAX = 120
IDLE_SECONDS = 2
_PIECE_BYTES_MAX = 66_000


@pytest.fixture(scope="module")
def attended(open_directory: Path) -> Iterator[Agent]:
    """On a platform of its own, where a session that nobody uses ends soon."""
    running = RunningPlatform(
        open_directory / "commands", session_idle_seconds=IDLE_SECONDS, metering_seconds=0.5
    )
    with running:
        if running.facts["tier"] != "container":
            pytest.skip("an agent that is no ASGI application needs the container tier")
        yield running.deploy(agents.plain(), name="attended")


@pytest.fixture
async def placement(attended: Agent) -> AsyncIterator[LocalPlacement]:
    run = attended.platform.state / "run"
    made = LocalPlacement(run, doorway=run / "no-doorway.sock")
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def sandbox_id(attended: Agent) -> AsyncIterator[str]:
    session = new_session()
    await asyncio.to_thread(attended.invoke, None, session)
    yield attended.platform.session(session)["sandboxId"]
    await asyncio.to_thread(attended.stop, session)


def shell(script: str, **options: object) -> CommandSpec:
    return CommandSpec(command=("/bin/sh", "-c", script), **options)  # type: ignore[arg-type]


async def everything(command: Command) -> tuple[bytes, bytes, int]:
    """stdout, stderr, exit code."""
    said = {"stdout": b"", "stderr": b""}
    async with asyncio.timeout(SECONDS_MAX):
        while piece := await command.read():
            said[piece.stream] += piece.data
        code = await command.wait()
    await command.close()
    return said["stdout"], said["stderr"], code


async def until_said(command: Command, text: bytes) -> bytes:
    said = bytearray()
    async with asyncio.timeout(SECONDS_MAX):
        while said.find(text, max(0, len(said) - _PIECE_BYTES_MAX)) < 0:
            piece = await command.read()
            assert piece, said
            said += piece.data
    return bytes(said)


async def test_a_command_says_what_it_has_to_and_how_it_ended(
    placement: LocalPlacement, sandbox_id: str
) -> None:
    command = await placement.execute(sandbox_id, shell("echo out; echo err >&2; exit 7"))
    assert await everything(command) == (b"out\n", b"err\n", 7)


async def test_what_it_is_told_it_reads_to_the_end(
    placement: LocalPlacement, sandbox_id: str
) -> None:
    command = await placement.execute(sandbox_id, shell("wc -c"))
    await command.write(b"x" * 1_000_000)
    await command.write(b"")
    assert await everything(command) == (b"1000000\n", b"", 0)


async def test_a_terminal_has_the_size_that_it_is_given(
    placement: LocalPlacement, sandbox_id: str
) -> None:
    command = await placement.execute(
        sandbox_id, shell("stty size; read x; stty size", terminal=(24, 80))
    )
    assert await until_said(command, b"\n") == b"24 80\r\n"
    command.resize(50, 132)
    await command.write(b"\n")
    out, _, code = await everything(command)
    assert (out, code) == (b"\r\n50 132\r\n", 0)


async def test_what_cannot_be_started_says_why(placement: LocalPlacement, sandbox_id: str) -> None:
    with pytest.raises(RuntimeClientFailed, match="nowhere: no such program"):
        await placement.execute(sandbox_id, CommandSpec(command=("nowhere",)))
    with pytest.raises(RuntimeClientFailed, match="ended"):
        await placement.execute("s-no-such-session", shell("true"))


async def test_a_named_one_stays_and_repeats_itself_to_whom_comes_next(
    placement: LocalPlacement, sandbox_id: str
) -> None:
    spec = shell("echo begun; read x; echo got $x; exit 3")
    first = await placement.execute(sandbox_id, spec, name="mine")
    await until_said(first, b"begun\n")
    await first.close()
    second = await placement.execute(sandbox_id, spec, name="mine")
    assert await until_said(second, b"begun\n") == b"begun\n"
    await second.write(b"it\n")
    assert await everything(second) == (b"got it\n", b"", 3)
    # It is over, and its name free.
    third = await placement.execute(sandbox_id, shell("echo anew"), name="mine")
    assert await everything(third) == (b"anew\n", b"", 0)


async def test_the_end_of_a_named_one_waits_for_somebody_who_asks(
    placement: LocalPlacement, sandbox_id: str
) -> None:
    script = "until test -e /tmp/alone; do sleep 0.02; done; exit 9"
    command = await placement.execute(sandbox_id, shell(script), name="left")
    await command.close()
    await everything(await placement.execute(sandbox_id, shell("touch /tmp/alone")))
    again = await placement.execute(sandbox_id, shell("true"), name="left")
    assert (await everything(again))[2] == 9


async def test_only_the_last_of_much_output_is_repeated(
    placement: LocalPlacement, sandbox_id: str
) -> None:
    script = "head -c 600000 /dev/zero | tr '\\0' a; echo; echo last; read x"
    first = await placement.execute(sandbox_id, shell(script), name="much")
    assert len(await until_said(first, b"last\n")) == 600_006
    await first.close()
    second = await placement.execute(sandbox_id, shell(script), name="much")
    assert len(await until_said(second, b"last\n")) == 256 << 10
    await second.close()
    assert await placement.end_command(sandbox_id, "much")


async def test_who_takes_a_named_one_over_has_it_alone(
    placement: LocalPlacement, sandbox_id: str
) -> None:
    first = await placement.execute(sandbox_id, shell("cat"), name="shared")
    second = await placement.execute(sandbox_id, shell("cat"), name="shared")
    async with asyncio.timeout(SECONDS_MAX):
        assert await first.read() is None
        with pytest.raises(Conflict):
            await first.wait()
    await first.write(b"lost\n")
    await first.close()
    await second.write(b"heard\n")
    assert await until_said(second, b"\n") == b"heard\n"
    await second.close()
    assert await placement.end_command(sandbox_id, "shared")


async def test_one_who_does_not_read_can_be_relieved(
    placement: LocalPlacement, sandbox_id: str
) -> None:
    script = "head -c 50000000 /dev/zero; echo end"
    slow = await placement.execute(sandbox_id, shell(script), name="flood")
    other = await placement.execute(sandbox_id, shell(script), name="flood")
    await until_said(other, b"end\n")
    assert await other.wait() == 0
    await slow.close()
    await other.close()


async def test_a_session_has_ten_names(placement: LocalPlacement, sandbox_id: str) -> None:
    ten = [await placement.execute(sandbox_id, shell("cat"), name=str(n)) for n in range(10)]
    with pytest.raises(Throttled, match="10 named"):
        await placement.execute(sandbox_id, shell("cat"), name="one too many")
    assert await everything(await placement.execute(sandbox_id, shell("echo hi"))) == (
        b"hi\n", b"", 0,
    )  # fmt: skip
    assert await placement.end_command(sandbox_id, "3")
    assert not await placement.end_command(sandbox_id, "3")
    async with asyncio.timeout(SECONDS_MAX):
        assert await ten[3].wait() == 128 + 1  # hung up
    ten.append(await placement.execute(sandbox_id, shell("cat"), name="now"))
    for command in ten:
        await command.close()


async def test_without_a_name_it_ends_with_its_caller(
    placement: LocalPlacement, sandbox_id: str
) -> None:
    pid_of = "echo $$; exec sleep 600"
    command = await placement.execute(sandbox_id, shell(pid_of))
    pid = int(await until_said(command, b"\n"))
    await command.close()
    look = shell(f"kill -0 {pid} 2>/dev/null && echo there")
    assert (await everything(await placement.execute(sandbox_id, look)))[0] == b""


async def test_without_a_name_it_ends_with_the_worker(
    attended: Agent, placement: LocalPlacement, sandbox_id: str
) -> None:
    """The worker's sockets close when it is killed."""
    command = await placement.execute(sandbox_id, shell("echo $$; exec sleep 600"))
    pid = int(await until_said(command, b"\n"))
    command._writer.transport.abort()  # type: ignore[attr-defined]
    look = shell(f"while kill -0 {pid} 2>/dev/null; do sleep 0.05; done; echo gone")
    assert (await everything(await placement.execute(sandbox_id, look)))[0] == b"gone\n"
    await command.close()


async def test_a_session_is_used_while_a_command_runs(
    attended: Agent, placement: LocalPlacement
) -> None:
    session = new_session()
    await asyncio.to_thread(attended.invoke, None, session)
    found = attended.platform.session(session)["sandboxId"]
    command = await placement.execute(found, shell(f"sleep {IDLE_SECONDS * 3}; echo still"))
    assert await everything(command) == (b"still\n", b"", 0)
    reason = await asyncio.to_thread(attended.platform.ended, session)
    assert "idle" in reason


async def test_the_end_of_the_session_is_the_end_of_its_commands(
    attended: Agent, placement: LocalPlacement
) -> None:
    session = new_session()
    await asyncio.to_thread(attended.invoke, None, session)
    found = attended.platform.session(session)["sandboxId"]
    commands = [await placement.execute(found, shell("cat"), name=name) for name in (None, "kept")]
    await asyncio.to_thread(attended.stop, session)
    for command in commands:
        assert (await everything(command))[2] == 128 + 9
    with pytest.raises(RuntimeClientFailed, match="ended"):
        await placement.execute(found, shell("cat"), name="kept")


async def test_a_node_that_dies_takes_commands_with_it_and_the_next_one_starts_others(
    attended: Agent, placement: LocalPlacement, sandbox_id: str
) -> None:
    command = await placement.execute(sandbox_id, shell("echo up; cat"))
    await until_said(command, b"up\n")
    (node,) = attended.platform.pids("node")
    os.kill(node, signal.SIGKILL)
    async with asyncio.timeout(SECONDS_MAX):
        assert await command.read() is None
        with pytest.raises(Unavailable):
            await command.wait()
    await command.close()
    await asyncio.to_thread(until, lambda: attended.platform.pids("node") not in ([], [node]))
    async with asyncio.timeout(SECONDS_MAX):
        while True:
            try:
                # Its environment is that of the session still.
                again = await placement.execute(sandbox_id, shell('echo "$HOME"'))
                break
            except (Unavailable, RuntimeClientFailed):
                await asyncio.sleep(0.05)
    assert await everything(again) == (b"/home/agent\n", b"", 0)
