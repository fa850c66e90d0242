"""A terminal in a session over a WebSocket: it outlives its connections."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest
from socket_clients import SESSION, SHELL, opened, signed, url_of
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

import agents
from running import Agent, RunningPlatform, new_session

pytestmark = pytest.mark.timeout(300)

STDIN, STDOUT, STDERR, STATUS, RESIZE, HEARTBEAT, CLOSE = (
    b"\x00", b"\x01", b"\x02", b"\x03", b"\x04", b"\x05", b"\xff",
)  # fmt: skip
SECONDS_MAX = 120


class Shell:
    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.seen = b""
        self.is_resumed = False

    async def frame(self) -> tuple[bytes, bytes]:
        message = await asyncio.wait_for(self.socket.recv(), SECONDS_MAX)
        assert isinstance(message, bytes)
        assert len(message) <= 65536
        return message[:1], message[1:]

    async def status(self) -> dict:
        while True:
            channel, payload = await self.frame()
            if channel == STATUS:
                return json.loads(payload)
            self.seen += payload

    async def type(self, text: str) -> None:
        await self.socket.send(STDIN + text.encode())

    async def until(self, words: bytes) -> bytes:
        while words not in self.seen:
            channel, payload = await self.frame()
            assert channel == STDOUT, (channel, payload)
            self.seen += payload
        before, _, self.seen = self.seen.partition(words)
        return before

    async def close_code(self) -> int:
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await self.frame()
        assert closed.value.rcvd is not None
        return closed.value.rcvd.code


@contextlib.asynccontextmanager
async def shell_in(
    agent: Agent, session: str, shell: str = "one", **headers: str
) -> AsyncIterator[Shell]:
    url = url_of(agent, "/ws/shells", shellId=shell)
    sent = signed(agent.platform, url, **{SESSION: session, **headers})
    async with opened(url, additional_headers=sent) as socket:
        found = Shell(socket)
        assert socket.response.headers[SHELL] == shell
        assert socket.response.headers[SESSION] == session
        begun = await found.status()
        assert begun["metadata"]["shellId"] == shell
        found.is_resumed = begun["metadata"]["reconnected"]
        yield found


async def test_what_is_typed_runs_in_a_terminal_of_the_session(plain: Agent) -> None:
    session = new_session()
    plain.invoke({"do": "tell", "text": "mine"}, session)
    async with shell_in(plain, session) as shell:
        await shell.type("test -t 0 && test -t 2 && echo is-a-$((1+1))-terminal; ls $HOME\n")
        await shell.until(b"is-a-2-terminal")
        await shell.until(b"mine")


async def test_the_terminal_has_the_size_that_the_client_says(plain: Agent) -> None:
    async with shell_in(plain, new_session()) as shell:
        await shell.socket.send(RESIZE + b'{"width": 123, "height": 45}')
        await shell.socket.send(RESIZE + b'{"width": -1, "height": "x"}')
        await shell.type("stty size; echo done\n")
        await shell.until(b"45 123")


async def test_ctrl_c_reaches_the_program_and_not_the_shell(plain: Agent) -> None:
    async with shell_in(plain, new_session()) as shell:
        # Said by the program itself: before its exec, bash's fork could lose the signal.
        await shell.type("sh -c \"echo bef''ore; exec sleep 100\"; echo after-$((6*7))\n")
        await shell.until(b"before")
        await shell.type("\x03")
        await shell.type("echo still-$((6*7))\n")
        await shell.until(b"still-42")


@pytest.mark.parametrize(
    ("said", "status", "causes"),
    [
        ("exit", "Success", []),
        ("exit 3", "Failure", [{"reason": "ExitCode", "message": "3"}]),
        (
            "kill -TERM $$; kill -HUP $$",
            "Failure",
            [{"reason": "ExitCode", "message": "129"}, {"reason": "Signal", "message": "1"}],
        ),
    ],
)
async def test_the_end_of_the_shell_is_told_as_a_status(
    plain: Agent, said: str, status: str, causes: list
) -> None:
    async with shell_in(plain, new_session()) as shell:
        await shell.type(said + "\n")
        end = await shell.status()
        assert (end["metadata"], end["status"]) == ({}, status)
        assert end.get("details", {}).get("causes", []) == causes
        assert await shell.close_code() == 1000


async def test_a_shell_outlives_its_connection_and_shows_what_was_missed(plain: Agent) -> None:
    session = new_session()
    async with shell_in(plain, session) as shell:
        assert not shell.is_resumed
        await shell.type("cd /tmp; mark=here; (sleep 1; echo mis''sed) &\n")
        await shell.until(b"\n")
    await asyncio.sleep(1.5)
    async with shell_in(plain, session) as shell:
        assert shell.is_resumed
        await shell.until(b"missed")
        await shell.type("echo $mark-in-$PWD\n")
        await shell.until(b"here-in-/tmp")


async def test_at_least_256_kib_are_shown_again(plain: Agent) -> None:
    session = new_session()
    async with shell_in(plain, session) as shell:
        await shell.type("head -c 600000 /dev/zero | tr '\\0' x; echo; echo end-$((6*7))\n")
        await shell.until(b"end-42")
    async with shell_in(plain, session) as shell:
        replayed = await shell.until(b"end-42")
    assert 250_000 < len(replayed) <= 256 * 1024


async def test_a_second_client_takes_a_shell_over_and_the_first_is_told(plain: Agent) -> None:
    session = new_session()
    async with shell_in(plain, session) as first, shell_in(plain, session) as second:
        assert await first.close_code() == 4000
        await second.type("echo mine-$((6*7))\n")
        await second.until(b"mine-42")


async def test_two_shells_of_a_session_are_two_and_an_eleventh_is_too_many(
    plain: Agent,
) -> None:
    session = new_session()
    async with contextlib.AsyncExitStack() as stack:
        shells = [
            await stack.enter_async_context(shell_in(plain, session, f"shell-{number}"))
            for number in range(10)
        ]
        await shells[0].type("mark=zero\n")
        await shells[1].type("echo [$mark]\n")
        await shells[1].until(b"[]")
        with pytest.raises(InvalidStatus) as refused:
            await stack.enter_async_context(shell_in(plain, session, "eleventh"))
        assert refused.value.response.status_code == 429


async def test_a_client_that_says_close_ends_the_shell(plain: Agent) -> None:
    session = new_session()
    async with shell_in(plain, session) as shell:
        await shell.type("mark=old; echo ready-$((6*7))\n")
        await shell.until(b"ready-42")
        await shell.socket.send(CLOSE)
        assert await shell.close_code() == 1000
    async with shell_in(plain, session) as shell:
        await shell.type("echo [$mark]\n")
        await shell.until(b"[]")


async def test_a_heartbeat_is_answered(plain: Agent) -> None:
    async with shell_in(plain, new_session()) as shell:
        await shell.socket.send(HEARTBEAT)
        while (await shell.frame())[0] != HEARTBEAT:
            pass


async def test_a_session_that_ends_sends_its_shells_away(plain: Agent) -> None:
    session = new_session()
    async with shell_in(plain, session) as shell:
        await shell.type("echo ready-$((6*7))\n")
        await shell.until(b"ready-42")
        await asyncio.to_thread(plain.stop, session)
        frames = {}
        with pytest.raises(ConnectionClosed):
            while True:
                channel, payload = await shell.frame()
                frames[channel] = payload
    assert CLOSE in frames
    assert b"StopRuntimeSession" in frames[STDERR]


async def test_a_message_that_is_too_long_ends_the_connection_not_the_shell(plain: Agent) -> None:
    session = new_session()
    async with shell_in(plain, session) as shell:
        await shell.type("mark=kept; echo ready-$((6*7))\n")
        await shell.until(b"ready-42")
        await shell.socket.send(STDIN + b"x" * 65536)
        assert await shell.close_code() == 1009
    async with shell_in(plain, session) as shell:
        await shell.type("echo [$mark]\n")
        await shell.until(b"[kept]")


async def test_much_that_is_pasted_arrives_whole(plain: Agent) -> None:
    async with shell_in(plain, new_session()) as shell:
        await shell.type("stty raw -echo; echo read''y; head -c 500000 | cksum; echo done\n")
        await shell.until(b"ready")
        for _ in range(10):
            await shell.type("x" * 50_000)
        assert b"500000" in await shell.until(b"done")


@pytest.mark.parametrize("shell", ["", "-x", "a b", "x" * 129, "ä"])
async def test_a_shell_id_that_cannot_be_is_refused(plain: Agent, shell: str) -> None:
    url = url_of(plain, "/ws/shells", shellId=shell)
    headers = signed(plain.platform, url, **{SESSION: new_session()})
    if shell == "":
        async with opened(url, additional_headers=headers) as socket:
            assert len(socket.response.headers[SHELL]) == 36
        return
    with pytest.raises(InvalidStatus) as refused:
        async with opened(url, additional_headers=headers):
            pass
    assert refused.value.response.status_code == 400


async def test_another_tenant_gets_no_shell(plain: Agent, second_tenant: RunningPlatform) -> None:
    session = new_session()
    url = url_of(plain, "/ws/shells", shellId="one")
    async with shell_in(plain, session):
        with pytest.raises(InvalidStatus) as refused:
            async with opened(
                url, additional_headers=signed(second_tenant, url, **{SESSION: session})
            ):
                pass
    assert refused.value.response.status_code == 404


@pytest.mark.slow
async def test_a_shell_that_nobody_comes_back_to_lets_its_session_idle(
    hasty: RunningPlatform,
) -> None:
    agent = await asyncio.to_thread(lambda: hasty.deploy(agents.plain()))
    session = new_session()
    async with shell_in(agent, session) as shell:
        await shell.type("sleep 1.5; echo ready-$((6*7))\n")  # longer than it may idle
        await shell.until(b"ready-42")
    assert "idle" in await asyncio.to_thread(hasty.ended, session)
