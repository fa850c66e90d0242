"""Both ends of a machine's line joined without a machine: the guest's own code runs in a thread."""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from freehold.adapters.sandbox.vm import sockets
from freehold.adapters.sandbox.vm.command import VmCommand
from freehold.adapters.sandbox.vm.guest import frames
from freehold.adapters.sandbox.vm.guest.line import IN, Line, Poll
from freehold.adapters.sandbox.vm.guest.streams import Streams
from freehold.adapters.sandbox.vm.link import Link
from freehold.ports.sandbox import CommandSpec

SECONDS_MAX = 120
DOORWAY = 7400
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


class Guest:
    """The agent's loop, with its streams, and nothing else of it."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._poll = Poll()
        self._line = Line(self._poll, connection.fileno(), self._on_frame)
        self._streams = Streams(self._poll, self._line)
        self._doorway = socket.create_server(("127.0.0.1", 0))
        self.doorway_port = self._doorway.getsockname()[1]
        self._poll.watch(self._doorway.fileno(), IN, self._on_knock)
        self._end, self._stop = socket.socketpair()
        self._running = True
        self._poll.watch(self._end.fileno(), IN, lambda _: setattr(self, "_running", False))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while self._running:
            self._poll.once()
        self._streams.close_all()

    def _on_frame(self, kind: int, stream: int, payload: bytes) -> None:
        if kind == frames.ATTACH:
            said = {"nonce": payload.hex(), "state": "running"}
            self._line.send(frames.HELLO, 0, json.dumps(said).encode())
        elif kind == frames.OPEN:
            self._streams.open(stream, frames.NUMBER.unpack(payload)[0])
        else:
            self._streams.received(kind, stream, payload)

    def _on_knock(self, events: int) -> None:
        self._streams.announce(frames.ACCEPTED, self._doorway.accept()[0], DOORWAY)

    def close(self) -> None:
        self._stop.close()
        self._thread.join(SECONDS_MAX)
        assert not self._thread.is_alive()
        for each in (self._connection, self._doorway, self._end):
            each.close()


class Ends:
    """`link` is the host's end. What it was told is in `heard`, `lost`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "control.sock"
        self._listener = sockets.listening(self._path, 1)
        self.heard: list[tuple[int, dict[str, Any]]] = []
        self.lost: list[str] = []
        self.attached = asyncio.Event()
        self.broken = asyncio.Event()
        self.doorway: socket.socket | None = None
        self.link = Link(
            on_event=self._on_event, on_lost=self._on_lost, on_accepted=self._on_accepted
        )

    def _on_event(self, kind: int, said: dict[str, Any]) -> None:
        self.heard.append((kind, said))
        self.attached.set()

    def _on_lost(self, reason: str) -> None:
        self.lost.append(reason)
        self.broken.set()

    def _on_accepted(self, kind: int, about: int) -> socket.socket | None:
        if about != DOORWAY:
            return None
        ours, self.doorway = socket.socketpair()
        self.doorway.setblocking(False)
        return ours

    async def join(self) -> socket.socket:
        """The other end, for a guest."""
        await self.link.connect(self._path)
        connection, _ = self._listener.accept()
        return connection

    def close(self) -> None:
        self.link.close()
        self._listener.close()


@pytest.fixture
async def ends(tmp_path: Path) -> AsyncIterator[Ends]:
    made = Ends(tmp_path)
    yield made
    made.close()
    await asyncio.sleep(0)


@pytest.fixture
async def guest(ends: Ends) -> AsyncIterator[Guest]:
    made = Guest(await ends.join())
    await asyncio.wait_for(ends.attached.wait(), SECONDS_MAX)
    yield made
    await asyncio.to_thread(made.close)


@contextlib.asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[int]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


async def opened(ends: Ends, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    stream = await asyncio.wait_for(ends.link.open(port), SECONDS_MAX)
    return await asyncio.open_connection(sock=stream)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def test_megabytes_go_both_ways_at_once_unharmed(ends: Ends, guest: Guest) -> None:
    await megabytes_both_ways(ends)


async def test_uvloop_does_it_as_well(tmp_path: Path) -> None:
    async def whole() -> None:
        ends = Ends(tmp_path)
        guest = Guest(await ends.join())
        await asyncio.wait_for(ends.attached.wait(), SECONDS_MAX)
        await megabytes_both_ways(ends)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            await ends.link.open(port)
        ends.close()
        await asyncio.to_thread(guest.close)

    await asyncio.to_thread(uvloop.run, whole())


async def megabytes_both_ways(ends: Ends) -> None:
    content = bytes(range(256)) * (12 << 10)
    async with serving(echo) as port, asyncio.timeout(SECONDS_MAX):
        reader, writer = await opened(ends, port)

        async def send() -> None:
            writer.write(content)
            await writer.drain()
            writer.write_eof()

        sent, back = await asyncio.gather(send(), reader.read(-1))
        writer.close()
        await writer.wait_closed()
    assert sent is None
    assert back == content


async def test_who_has_said_all_can_still_be_answered(ends: Ends, guest: Guest) -> None:
    async def answer_at_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"you said " + await reader.read(-1))
        writer.close()
        await writer.wait_closed()

    async with serving(answer_at_the_end) as port, asyncio.timeout(SECONDS_MAX):
        reader, writer = await opened(ends, port)
        writer.write(b"this")
        writer.write_eof()
        assert await reader.read(-1) == b"you said this"
        writer.close()
        await writer.wait_closed()


async def test_a_port_where_nobody_listens_is_refused(ends: Ends, guest: Guest) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        await ends.link.open(port)


async def test_who_does_not_read_holds_up_the_sender_and_nobody_else(
    ends: Ends, guest: Guest
) -> None:
    sent = 0
    blocked = asyncio.Event()

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        try:
            while True:
                writer.write(bytes(1 << 16))
                sent += 1 << 16
                try:
                    await asyncio.wait_for(writer.drain(), 0.3)
                except TimeoutError:
                    blocked.set()
                    await reader.read()
                    return
        finally:
            writer.transport.abort()

    async with serving(pour) as flood, serving(echo) as port, asyncio.timeout(SECONDS_MAX):
        stalled = await ends.link.open(flood)
        await blocked.wait()
        before = sent
        reader, writer = await opened(ends, port)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        assert sent == before
        stalled.close()
        writer.close()
        await writer.wait_closed()
    # Our windows, and what the kernel keeps for each of three sockets.
    assert sent < frames.WINDOW_BYTES + (16 << 20)


async def test_what_knocks_inside_arrives_and_is_answered(ends: Ends, guest: Guest) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        reader, writer = await asyncio.open_connection("127.0.0.1", guest.doorway_port)
        writer.write(b"knock")
        writer.write_eof()
        while ends.doorway is None:
            await asyncio.sleep(0.002)
        platform = await asyncio.open_connection(sock=ends.doorway)
        assert await platform[0].read(-1) == b"knock"
        platform[1].write(b"come in")
        platform[1].close()
        await platform[1].wait_closed()
        assert await reader.read(-1) == b"come in"
        writer.close()
        await writer.wait_closed()


async def test_a_connection_that_is_dropped_outside_ends_inside(ends: Ends, guest: Guest) -> None:
    ended = asyncio.Event()

    async def until_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read(-1)
        ended.set()
        writer.close()

    async with serving(until_the_end) as port, asyncio.timeout(SECONDS_MAX):
        (await ends.link.open(port)).close()
        await ended.wait()


HELLO = frames.HELLO, 0
HOSTILE = {
    "no JSON": [frames.encoded(frames.ENDED, 0, b"\xff{")],
    "a number that is none": [frames.encoded(frames.ACCEPTED, 2, b"123")],
    "a stream twice": [frames.encoded(frames.ACCEPTED, 2, frames.NUMBER.pack(DOORWAY))] * 2,
    "a stream of ours": [frames.encoded(frames.ACCEPTED, 3, frames.NUMBER.pack(DOORWAY))],
    "more than the window": [
        frames.encoded(frames.ACCEPTED, 2, frames.NUMBER.pack(DOORWAY)),
        *[frames.encoded(frames.DATA, 2, bytes(frames.CHUNK_BYTES_MAX))] * 200,
    ],
    "a frame without end": [bytes(3 * frames.FRAME_BYTES_MAX)],
}


async def greeted(ends: Ends) -> tuple[socket.socket, bytes]:
    """The guest's end, and what it has to answer."""
    connection = await ends.join()
    greeting = await asyncio.to_thread(connection.recv, 1000)
    nonce = next(
        payload for kind, _, payload in frames.Decoder().frames(greeting) if kind == frames.ATTACH
    )
    said = json.dumps({"nonce": nonce.hex(), "state": "x"}).encode()
    return connection, frames.encoded(*HELLO, said)


@pytest.mark.parametrize("what", HOSTILE)
async def test_a_guest_that_breaks_the_protocol_loses_the_line(ends: Ends, what: str) -> None:
    connection, hello = await greeted(ends)

    def misbehave() -> None:
        with contextlib.suppress(ConnectionError):
            connection.sendall(hello + b"".join(HOSTILE[what]))

    await asyncio.to_thread(misbehave)
    await asyncio.wait_for(ends.broken.wait(), SECONDS_MAX)
    assert "broke its protocol" in ends.lost[0]
    if ends.doorway:
        ends.doorway.close()
    connection.close()


EXECUTED = {
    "more than the window": [frames.encoded(frames.DATA, 1, bytes(frames.CHUNK_BYTES_MAX))] * 9,
    "an exit code that is none": [frames.encoded(frames.EXITED, 1, b'{"code": 4711}')],
    "an end without a code": [frames.encoded(frames.EXITED, 1, b"{}")],
}


@pytest.mark.parametrize("what", EXECUTED)
async def test_a_program_inside_cannot_break_the_protocol_either(ends: Ends, what: str) -> None:
    connection, hello = await greeted(ends)
    connection.sendall(hello)
    await asyncio.wait_for(ends.attached.wait(), SECONDS_MAX)
    beginning = asyncio.create_task(VmCommand.begun(ends.link, CommandSpec(command=("x",))))
    await asyncio.to_thread(connection.recv, 1000)
    connection.sendall(frames.encoded(frames.OPENED, 1))
    command = await asyncio.wait_for(beginning, SECONDS_MAX)

    def misbehave() -> None:
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"".join(EXECUTED[what]))

    await asyncio.to_thread(misbehave)
    await asyncio.wait_for(ends.broken.wait(), SECONDS_MAX)
    assert "broke its protocol" in ends.lost[0]
    assert await asyncio.wait_for(command.wait(), SECONDS_MAX) == 137
    connection.close()


async def test_what_was_meant_for_an_earlier_process_is_not_believed(ends: Ends) -> None:
    connection = await ends.join()
    said = json.dumps({"nonce": "00" * 16, "state": "running"}).encode()
    old = [
        frames.encoded(frames.ENDED, 0, b'{"code":0,"memory_kills":0}'),
        frames.encoded(frames.ACCEPTED, 2, frames.NUMBER.pack(DOORWAY)),
        frames.encoded(*HELLO, said),
        b"\x00\x01half of a frame",
    ]
    greeting = await asyncio.to_thread(connection.recv, 1000)
    nonce = next(
        payload for kind, _, payload in frames.Decoder().frames(greeting) if kind == frames.ATTACH
    )
    own = json.dumps({"nonce": nonce.hex(), "state": "ready"}).encode()
    connection.sendall(b"".join(old) + frames.fresh_start() + frames.encoded(*HELLO, own))
    await asyncio.wait_for(ends.attached.wait(), SECONDS_MAX)
    assert [said["state"] for _, said in ends.heard] == ["ready"]
    assert ends.doorway is None
    connection.close()
