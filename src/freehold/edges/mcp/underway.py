"""What is under way in this worker, by session: calls, streams, questions to clients.

A client's next request may come to another worker. What it is about is handed over by letters:
an answer to a question, a cancellation, the wish to resume a stream, the end of a session.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

from freehold.edges.mcp.interruption import Interruption
from freehold.edges.mcp.streams import Keeping, Stream, event_position
from freehold.edges.mcp.talk import Questions
from freehold.kernel.errors import Unavailable
from freehold.ports.mcp import Handover, Letter

GRACE_SECONDS = 30.0
"""How long a stream waits for its client to come back, and is kept once it has ended."""
_RELAY_SECONDS_MAX = 2.0
_STREAMS_MAX = 2000


class UnderWay:
    grace_seconds = GRACE_SECONDS

    def __init__(self, handover: Handover | None) -> None:
        self.questions = Questions(handover)
        self._handover = handover
        self._calls: dict[tuple[str, str | int], Interruption] = {}
        self._standing: dict[str, set[Interruption]] = {}
        self.keeping = Keeping()
        self._streams: dict[str, Stream] = {}
        self._relays: dict[str, asyncio.Queue[bytes]] = {}
        self._sinks: dict[str, tuple[Stream, Callable[[bytes], Awaitable[None]]]] = {}
        self._posting: set[asyncio.Task[None]] = set()
        if handover is not None:
            handover.listen(self._wanted, self._heard)

    def call_begins(self, session: str, id: str | int, call: Interruption) -> None:
        self._calls[session, id] = call

    def call_ends(self, session: str, id: str | int, call: Interruption) -> None:
        if self._calls.get((session, id)) is call:
            del self._calls[session, id]

    async def cancel(self, session: str, id: str | int) -> None:
        """The client's own wish. What is not here, may be elsewhere, or over."""
        call = self._calls.get((session, id))
        if call is not None:
            call.interrupt("cancelled")
        elif self._handover is not None:
            key = f"{type(id).__name__}:{id}"
            await self._handover.send(Letter(session=session, kind="cancel", key=key))

    def stands(self, session: str, stream: Interruption) -> None:
        self._standing.setdefault(session, set()).add(stream)

    def stood(self, session: str, stream: Interruption) -> None:
        standing = self._standing.get(session, set())
        standing.discard(stream)
        if not standing:
            self._standing.pop(session, None)

    def stop(self) -> None:
        """The worker ends: streams that would stand for ever, end now, and so do the calls whose
        clients are away."""
        for kept in self._streams.values():
            kept.give_up()
        for standing in list(self._standing.values()):
            for stream in list(standing):
                stream.interrupt("stopped")

    def keep(self, stream: Stream) -> None:
        """So that it can be resumed."""
        self._streams[stream.id] = stream
        while len(self._streams) > _STREAMS_MAX:
            self._forget(next(iter(self._streams)))

    def forget_later(self, stream: Stream) -> None:
        if stream.id not in self._streams:
            return
        loop = asyncio.get_running_loop()
        loop.call_later(self.grace_seconds, self._forget, stream.id)

    def _forget(self, stream_id: str) -> None:
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            stream.forget()

    async def resume(
        self, session: str, last_event: str, sink: Callable[[bytes], Awaitable[None]]
    ) -> "Resumed | None":
        """None where no such stream of this session is known anywhere."""
        position = event_position(last_event)
        if position is None:
            return None
        stream = self._streams.get(position[0])
        if stream is not None:
            if stream.session != session:
                return None
            await stream.attach(sink, position[1])
            return Resumed(stream.ended.wait, lambda: stream.detach(sink))
        if self._handover is None:
            return None
        return await self._relayed(self._handover, session, position, sink)

    async def _relayed(
        self,
        handover: Handover,
        session: str,
        position: tuple[str, int],
        sink: Callable[[bytes], Awaitable[None]],
    ) -> "Resumed | None":
        token = secrets.token_hex(8)
        queue = self._relays[token] = asyncio.Queue()

        def letter(**body: object) -> Letter:
            return Letter(
                session=session, kind="resume", key=position[0], body={"to": token, **body}
            )

        def leave() -> None:
            self._relays.pop(token, None)
            self._post(handover, letter(stop=True))

        async def pump() -> None:
            while data := await queue.get():
                await sink(data)
            await sink(b"")
            self._relays.pop(token, None)

        await handover.send(letter(after=position[1]))
        try:
            async with asyncio.timeout(_RELAY_SECONDS_MAX):
                await sink(await queue.get())
        except TimeoutError:
            leave()
            return None
        return Resumed(pump, leave)

    def _post(self, handover: Handover, letter: Letter) -> None:
        async def send() -> None:
            with suppress(Unavailable):  # who waits for it, gives up by itself
                await handover.send(letter)

        self._start(send())

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._posting.add(task)
        task.add_done_callback(self._posting.discard)

    def _wanted(self, letter: Letter) -> bool:
        match letter.kind:
            case "reply":
                return self.questions.waits(letter.session, letter.key)
            case "cancel":
                return self._call_of(letter) is not None
            case "resume":
                stream = self._streams.get(letter.key)
                return stream is not None and stream.session == letter.session
            case "events":
                return letter.key in self._relays
            case "ended":
                return True

    def _heard(self, letter: Letter) -> None:
        match letter.kind:
            case "reply":
                self.questions.settle(letter.session, letter.key, letter.body)
            case "cancel":
                if (call := self._call_of(letter)) is not None:
                    call.interrupt("cancelled")
            case "resume":
                self._relay(letter)
            case "events":
                if (queue := self._relays.get(letter.key)) is not None:
                    queue.put_nowait(letter.body["data"].encode())
            case "ended":
                self._session_ended(letter.session)

    def _call_of(self, letter: Letter) -> Interruption | None:
        kind, _, text = letter.key.partition(":")
        return self._calls.get((letter.session, int(text) if kind == "int" else text))

    def _session_ended(self, session: str) -> None:
        for stream in list(self._standing.get(session, ())):
            stream.interrupt("ended")
        for (owner, _), call in list(self._calls.items()):
            if owner == session:
                call.interrupt("cancelled")

    def _relay(self, letter: Letter) -> None:
        """The client of a stream of ours has come back to another worker."""
        stream, token, handover = self._streams.get(letter.key), letter.body["to"], self._handover
        assert handover is not None, "letters come through it"
        if stream is None:
            return
        if letter.body.get("stop"):
            if (known := self._sinks.pop(token, None)) is not None:
                known[0].detach(known[1])
            return

        async def sink(data: bytes) -> None:
            body = {"data": data.decode()}
            await handover.send(Letter(session=letter.session, kind="events", key=token, body=body))
            if not data:
                self._sinks.pop(token, None)

        async def attach() -> None:
            await sink(b": resumed\n\n")
            await stream.attach(sink, letter.body["after"])

        self._sinks[token] = stream, sink
        self._start(attach())


class Resumed:
    """A stream that goes on: `end` returns when it is over, `leave` is for a client that goes
    before that."""

    def __init__(self, end: Callable[[], Awaitable[object]], leave: Callable[[], None]) -> None:
        self.end, self.leave = end, leave
