"""Further programs in this node's sessions: those with a name stay when their caller goes."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable

import msgspec

from freehold.adapters.placement.local import wire
from freehold.adapters.placement.local.fleet import Fleet
from freehold.adapters.placement.local.session import LiveSession
from freehold.kernel import frames
from freehold.kernel.errors import FreeholdError, PlatformFailed, RuntimeClientFailed, Throttled
from freehold.ports.sandbox import Command, SandboxFailed

log = logging.getLogger(__name__)

NAMED_MAX = 10
REPLAY_BYTES_MAX = 256 << 10
_Key = tuple[str, str]


class Commands:
    """A connection of `{run}/commands.sock` is one caller of one command: see `wire.Execute`."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._named: dict[_Key, _Running] = {}
        self._starting: dict[_Key, asyncio.Task[_Running]] = {}
        self._callers: set[_Caller] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        caller = _Caller(reader, writer)
        self._callers.add(caller)
        try:
            wanted = await frames.read(reader, wire.Execute)
            if wanted is not None:
                await self._serve(caller, wanted)
        except (ValueError, msgspec.DecodeError):
            log.exception("a worker sent what is no message")
        finally:
            self._callers.discard(caller)
            caller.close()

    async def _serve(self, caller: "_Caller", wanted: wire.Execute) -> None:
        try:
            running = await self._running(wanted)
        except FreeholdError as error:
            caller.send(wire.Executed(error.code, error.message))
            return
        except Exception as error:  # a boundary: the worker waits for an answer, whatever happens
            log.exception("a command did not start")
            caller.send(wire.Executed(PlatformFailed.code, f"the node failed: {error}"))
            return
        caller.send(wire.Executed(resumed=running.was_attached))
        running.attach(caller)
        try:
            await caller.speak(running)
        finally:
            running.detach(caller)
            if not wanted.name:
                await running.command.close()

    async def _running(self, wanted: wire.Execute) -> "_Running":
        if not wanted.name:
            return await self._start(wanted)
        key = (wanted.sandbox_id, wanted.name)
        if running := self._named.get(key):
            return running
        task = self._starting.get(key)
        if task is None:
            self._make_room(wanted.sandbox_id)
            task = self._starting[key] = asyncio.create_task(self._start(wanted))
            task.add_done_callback(lambda started: self._started(key, started))
        return await asyncio.shield(task)

    def _started(self, key: _Key, task: "asyncio.Task[_Running]") -> None:
        del self._starting[key]
        if not task.cancelled():
            task.exception()  # whoever still waits has been told

    def _make_room(self, sandbox_id: str) -> None:
        of_session = [key for key in (*self._named, *self._starting) if key[0] == sandbox_id]
        if len(of_session) < NAMED_MAX:
            return
        for key in of_session:
            if (running := self._named.get(key)) and running.is_over:
                del self._named[key]
                return
        raise Throttled(f"a session holds at most {NAMED_MAX} named commands")

    async def _start(self, wanted: wire.Execute) -> "_Running":
        session = self._fleet.find(wanted.sandbox_id)
        if session is None:
            raise RuntimeClientFailed("the session has ended")
        holder = object()
        self._fleet.hold(wanted.sandbox_id, holder)
        try:
            command = await _executed(session, wanted)
        except BaseException:
            self._let_go(session, holder)
            raise
        running = _Running(command, replays=bool(wanted.name))
        running.task.add_done_callback(lambda _: self._let_go(session, holder))
        if wanted.name:
            key = (wanted.sandbox_id, wanted.name)
            self._named[key] = running
            running.alone_seconds_max = session.idle_seconds
            running.when_told = lambda: self._forget(key, running)
            session.gone.add_done_callback(lambda _: self._forget(key, running))
            running.task.add_done_callback(
                lambda _: None if running.is_over else self._forget(key, running)
            )
        return running

    def _let_go(self, session: LiveSession, holder: object) -> None:
        self._fleet.release(session.sandbox_id, holder, idle_seconds=0, invocations=0)

    def _forget(self, key: _Key, running: "_Running") -> None:
        if self._named.get(key) is running:
            del self._named[key]

    async def end(self, sandbox_id: str, name: str) -> bool:
        running = self._named.pop((sandbox_id, name), None)
        if running is None or running.is_over:
            return False
        await running.command.close()
        return True

    async def close(self) -> None:
        for caller in list(self._callers):
            caller.close()
        for running in list(self._named.values()):
            running.task.cancel()
            await running.command.close()


async def _executed(session: LiveSession, wanted: wire.Execute) -> Command:
    if session.ending or session.sandbox is None:
        raise RuntimeClientFailed(f"the session ended: {session.end_reason}")
    await session.thaw()
    try:
        return await session.sandbox.execute(wanted.spec)
    except SandboxFailed as error:
        raise RuntimeClientFailed(error.message) from error


class _Caller:
    """The connection of one who reads a command's output and writes its input."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._sent_away: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def send(self, message: wire.Executed | wire.FromCommand) -> None:
        if not self._writer.is_closing():
            self._writer.write(frames.pack(message))

    async def sent(self) -> None:
        """When there is room for more, or it does not matter any more."""
        if not self._writer.transport.get_write_buffer_size():
            return
        drained = asyncio.ensure_future(self._writer.drain())
        try:
            await asyncio.wait([drained, self._sent_away], return_when=asyncio.FIRST_COMPLETED)
        finally:
            drained.cancel()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await drained

    async def speak(self, running: "_Running") -> None:
        """Until the caller goes, or has been sent away."""
        while message := await frames.read(self._reader, wire.ToCommand):
            if running.caller is not self:
                return
            match message:
                case wire.Input():
                    running.inputs.put_nowait((self, message.data))
                case wire.Resize():
                    running.command.resize(message.rows, message.columns)

    def close(self) -> None:
        """What was sent to it still comes."""
        self._writer.close()

    def send_away(self) -> None:
        self.send(wire.TakenOver())
        self.close()
        if not self._sent_away.done():
            self._sent_away.set_result(None)


class _Running:
    """Its output is read as fast as the caller takes it, or all the time while there is none."""

    def __init__(self, command: Command, *, replays: bool) -> None:
        self.command = command
        self.caller: _Caller | None = None
        self.inputs: asyncio.Queue[tuple[_Caller, bytes]] = asyncio.Queue()
        """A caller waits for Taken before it sends more than a window of them."""
        self.when_told: Callable[[], None] = lambda: None
        """Called when its end has been told to a caller."""
        self.was_attached = False
        self.alone_seconds_max: float | None = None
        """How long one with a name goes on without a caller: it keeps its session from idling."""
        self._alone: asyncio.TimerHandle | None = None
        self._ending: asyncio.Future[None] | None = None
        self._replays = replays
        self._recent: deque[wire.Output] = deque()
        self._recent_bytes = 0
        self._code: int | None = None
        self._input = asyncio.create_task(self._write_inputs())
        self.task = asyncio.create_task(self._run())

    @property
    def is_over(self) -> bool:
        return self._code is not None

    async def _run(self) -> None:
        try:
            while piece := await self.command.read():
                output = wire.Output(piece.stream, piece.data)
                self._keep(output)
                if self.caller is not None:
                    self.caller.send(output)
                    await self.caller.sent()
            self._code = await self.command.wait()
            if self.caller is not None:
                self._tell_end(self.caller)
        finally:
            self._input.cancel()
            if self.caller is not None:
                self.caller.close()
            await self.command.close()

    def _keep(self, output: wire.Output) -> None:
        if not self._replays:
            return
        self._recent.append(output)
        self._recent_bytes += len(output.data)
        while self._recent_bytes > REPLAY_BYTES_MAX:
            oldest = self._recent.popleft()
            surplus = self._recent_bytes - REPLAY_BYTES_MAX
            kept = oldest.data[surplus:]
            self._recent_bytes -= len(oldest.data) - len(kept)
            if kept:
                self._recent.appendleft(wire.Output(oldest.stream, kept))

    async def _write_inputs(self) -> None:
        while True:
            caller, data = await self.inputs.get()
            await self.command.write(data)
            caller.send(wire.Taken(len(data)))

    def attach(self, caller: _Caller) -> None:
        if self.caller is not None:
            self.caller.send_away()
        if self._alone is not None:
            self._alone.cancel()
        self.caller = caller
        self.was_attached = True
        for output in self._recent:
            caller.send(output)
        if self.is_over:
            self._tell_end(caller)

    def _tell_end(self, caller: _Caller) -> None:
        assert self._code is not None
        caller.send(wire.Exited(self._code))
        caller.close()
        self.when_told()

    def detach(self, caller: _Caller) -> None:
        if self.caller is not caller:
            return
        self.caller = None
        if self.alone_seconds_max is not None and not self.task.done():
            loop = asyncio.get_running_loop()
            self._alone = loop.call_later(self.alone_seconds_max, self._end)

    def _end(self) -> None:
        self._ending = asyncio.ensure_future(self.command.close())
