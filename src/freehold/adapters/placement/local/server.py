"""The node's unix socket: links to API workers, and descriptors into sandboxes."""

import asyncio
import contextlib
import itertools
import logging
import socket
from pathlib import Path

import msgspec

from freehold.adapters.placement.local import wire
from freehold.adapters.placement.local.commands import Commands
from freehold.adapters.placement.local.fleet import Fleet
from freehold.adapters.placement.local.logs import tail
from freehold.adapters.placement.local.session import LiveSession
from freehold.kernel import frames
from freehold.kernel.errors import FreeholdError, PlatformFailed

log = logging.getLogger(__name__)


class Link:
    """One API worker, as long as its connection lasts."""

    def __init__(self, fleet: Fleet, commands: Commands, writer: asyncio.StreamWriter) -> None:
        self._fleet, self._commands, self._writer = fleet, commands, writer
        self.doorway = ""
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._watching: set[str] = set()

    def take(self, message: wire.ToNode) -> None:
        match message:
            case wire.Hello():
                self.doorway = message.doorway
            case wire.Hold():
                self._fleet.hold(message.sandbox_id, self)
                self._watch(message.sandbox_id)
            case wire.Used():
                self._fleet.count(message.sandbox_id, message.invocations)
            case wire.Release():
                self._fleet.release(
                    message.sandbox_id, self,
                    idle_seconds=message.idle_seconds, invocations=message.invocations,
                )  # fmt: skip
            case wire.KeepWarm():
                self._fleet.keep_warm(message.wanted)
            case wire.EgressRefused():
                self._fleet.note_refused(message.sandbox_id, message.why, message.count)
            case wire.StopReading():
                if task := self._tasks.get(message.id):
                    task.cancel()
            case _:
                task = asyncio.create_task(self._answer(message))
                self._tasks[message.id] = task
                task.add_done_callback(lambda _: self._tasks.pop(message.id, None))

    async def _answer(
        self,
        message: wire.Question | wire.ReadLog,
    ) -> None:
        try:
            match message:
                case wire.Acquire():
                    lease = await self._fleet.acquire(message.launch, self)
                    self._watch(lease.sandbox_id)
                    self.send(wire.Granted(message.id, lease))
                case wire.Stop():
                    stopped = await self._fleet.stop(message.key, message.reason)
                    self.send(wire.Answer(message.id, stopped))
                case wire.StopRuntime():
                    count = await self._fleet.stop_runtime(
                        message.tenant, message.runtime_id, message.reason
                    )
                    self.send(wire.Answer(message.id, count))
                case wire.WhyEnded():
                    reason = await self._fleet.why_ended(message.sandbox_id)
                    self.send(wire.Answer(message.id, reason))
                case wire.EndCommand():
                    ended = await self._commands.end(message.sandbox_id, message.name)
                    self.send(wire.Answer(message.id, ended))
                case wire.ReadLog():
                    await self._read_log(message)
        except FreeholdError as error:
            self.send(wire.Refused(message.id, error.code, error.message))
        except Exception as error:  # a boundary: the worker waits for an answer, whatever happens
            log.exception("%s failed", type(message).__name__)
            self.send(wire.Refused(message.id, PlatformFailed.code, f"the node failed: {error}"))

    def _watch(self, sandbox_id: str) -> None:
        """Tell the worker when a session that it holds comes to its end."""
        session = self._fleet.find(sandbox_id)
        if session is None or sandbox_id in self._watching:
            return
        self._watching.add(sandbox_id)

        def tell(doomed: "asyncio.Future[str]") -> None:
            self._watching.discard(sandbox_id)
            self.send(wire.Ended(sandbox_id, doomed.result()))

        session.doomed.add_done_callback(tell)

    async def _read_log(self, message: wire.ReadLog) -> None:
        if not message.sandbox_id:
            await self._follow_runtime(message)
            return
        path, session = self._fleet.log_of(message.tenant, message.runtime_id, message.sandbox_id)
        if session is not None:
            session.log.take_what_is_there()
        if session is None or not message.follow:
            self.send(wire.LogLines(message.id, "", tail(path, message.tail), ended=True))
            return
        await self._follow(message, session)
        self.send(wire.LogLines(message.id, "", [], ended=True))

    async def _follow(self, message: wire.ReadLog, session: LiveSession) -> None:
        with contextlib.suppress(ConnectionError):
            async for lines in session.log.follow(message.tail):
                said = wire.LogLines(message.id, session.key.session_id, lines, ended=False)
                self.send(said)
                await self._writer.drain()

    async def _follow_runtime(self, message: wire.ReadLog) -> None:
        """Until the reader is cancelled."""
        async with asyncio.TaskGroup() as readers:
            with self._fleet.logs_of_runtime(
                message.tenant,
                message.runtime_id,
                lambda session: readers.create_task(self._follow(message, session)),
            ):
                await asyncio.Event().wait()

    def send(self, message: wire.ToWorker) -> None:
        if not self._writer.is_closing():
            self._writer.write(frames.pack(message))

    def close(self) -> None:
        for task in list(self._tasks.values()):
            task.cancel()
        self._fleet.forget_holder(self)


class NodeServer:
    """Listens on `{run}/node.sock` (links), `{run}/connect.sock` (descriptors) and
    `{run}/commands.sock` (further programs in sessions)."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._links: list[Link] = []
        self._turn = itertools.count()
        self._fleet: Fleet | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._commands = Commands(fleet)
        self._connects = _listen(self._run / "connect.sock")
        self._accepting = asyncio.create_task(self._accept_connects())
        self._server = await asyncio.start_unix_server(
            self._serve_link, sock=_listen(self._run / "node.sock")
        )
        self._command_server = await asyncio.start_unix_server(
            self._commands.serve, sock=_listen(self._run / "commands.sock")
        )

    async def close(self) -> None:
        self._accepting.cancel()
        self._connects.close()
        self._server.close()
        self._command_server.close()
        await self._commands.close()
        for link in list(self._links):
            link._writer.close()
        for task in list(self._tasks):
            task.cancel()

    async def _serve_link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._fleet is not None
        link = Link(self._fleet, self._commands, writer)
        self._links.append(link)
        try:
            while message := await frames.read(reader, wire.ToNode):
                link.take(message)
        except (ValueError, msgspec.DecodeError):
            log.exception("a worker sent what is no message")
        finally:
            self._links.remove(link)
            link.close()
            writer.close()

    async def _accept_connects(self) -> None:
        async for sock in frames.accepted(self._connects):
            task = asyncio.create_task(self._give_connection(sock))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _give_connection(self, sock: socket.socket) -> None:
        assert self._fleet is not None
        with sock, contextlib.suppress(ConnectionError):
            sock.setblocking(False)
            message, _ = await frames.receive_with_descriptor(sock, wire.Connect)
            session = self._fleet.find(message.sandbox_id)
            if session is None or session.sandbox is None:
                frames.send_now(sock, wire.Connected("the session has ended"), None)
                return
            try:
                inside = await session.connect(message.port)
            except OSError as error:
                frames.send_now(sock, wire.Connected(str(error) or "refused"), None)
                return
            with inside:
                frames.send_now(sock, wire.Connected(), inside.fileno())

    async def take_doorway(self, session: LiveSession, connection: socket.socket) -> None:
        """Hand a connection from inside a sandbox to one of the workers, in turn."""
        links = [link for link in self._links if link.doorway]
        if not links:
            log.warning("no API worker takes the doorway of %s just now", session.sandbox_id)
            return
        link = links[next(self._turn) % len(links)]
        message = wire.DoorwayConnection(
            tenant=session.key.tenant, runtime_id=session.key.runtime_id,
            runtime_arn=session.runtime_arn, endpoint=session.key.endpoint,
            session_id=session.key.session_id, sandbox_id=session.sandbox_id,
            version=str(session.version), user=session.user,
        )  # fmt: skip
        with contextlib.suppress(OSError):
            await frames.send_with_descriptor(link.doorway, message, connection.fileno())


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    sock.bind(str(path))
    path.chmod(0o600)
    sock.listen(256)
    return sock
