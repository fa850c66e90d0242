"""Request bodies over ASGI: spooled while hashed, or streamed; bounded in bytes and in time."""

import asyncio
import contextlib
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator
from typing import IO, Any

from starlette.types import Message, Receive, Scope

from freehold.edges.pipeline import Call
from freehold.edges.sigv4 import Verifier
from freehold.kernel.caller import Caller
from freehold.kernel.errors import Unavailable, ValidationFailed

MEMORY_BYTES_MAX = 256 * 1024
# Hashing and writing go to a thread in pieces of this size: a hop per network chunk costs more.
BATCH_BYTES = 1024 * 1024
READ_BYTES = 256 * 1024
DRAIN_BYTES_MAX = 16 * 1024 * 1024


class ClientDisconnected(Exception):
    """The client went away: there is nobody left to answer."""

    status = 499
    code = "ClientDisconnected"


class Inbound:
    """The receiving half of one exchange: an ASGI `receive` that knows how far the body has come.

    Whoever reads the body, reads it through here, so that the edge can tell when to watch for a
    disconnect, and whether a connection may be kept after an early refusal.
    """

    def __init__(self, scope: Scope, receive: Receive, *, idle_seconds_max: float = 60.0) -> None:
        self._receive = receive
        self._idle_seconds_max = idle_seconds_max
        self.declared_bytes: int | None = None
        self.expects_continue = False
        self.received_bytes = 0
        self.body_ended = False
        self._ended = asyncio.Event()
        self._gone = asyncio.Event()
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit():
                self.declared_bytes = int(value[:18])  # an exabyte is too much already
            elif name == b"expect":
                self.expects_continue = True

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._gone.set()
        elif not self.body_ended:
            self.received_bytes += len(message.get("body", b""))
            self.body_ended = not message.get("more_body", False)
            if self.body_ended:
                self._ended.set()
        return message

    async def chunk(self) -> bytes:
        """The body's next bytes, perhaps none; look at `body_ended` first.

        Raises ClientDisconnected, and ValidationFailed for a body that stands still.
        """
        try:
            async with asyncio.timeout(self._idle_seconds_max):
                message = await self()
        except TimeoutError:
            raise ValidationFailed("The request body did not arrive in time.") from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        data: bytes = message.get("body", b"")
        if self.body_ended and self.declared_bytes not in (None, self.received_bytes):
            raise ValidationFailed("The request body's length differs from Content-Length.")
        return data

    async def disconnected(self) -> None:
        """Returns when the client is gone. Takes no byte of a body that others may still read."""
        await self._ended.wait()
        while not self._gone.is_set():
            await self()

    async def known_gone(self) -> None:
        """Returns once somebody else saw the client go: for any number of waiters."""
        await self._gone.wait()

    async def drain(self) -> bool:
        """Before an early answer: drop a body's rest, so that the client reads the answer.

        False when too much is left: then the connection has to be closed.
        """
        left = DRAIN_BYTES_MAX
        while not self.body_ended:
            if self.expects_continue and not self.received_bytes:
                return False  # the client waits for leave to send; it gets the answer instead
            if left <= 0 or (self.declared_bytes or 0) - self.received_bytes > left:
                return False
            try:
                left -= len(await self.chunk())
            except ValidationFailed:
                return False
        return True

    def refuse_over(self, bytes_max: int) -> None:
        if max(self.declared_bytes or 0, self.received_bytes) > bytes_max:
            raise ValidationFailed(f"The request body must not be larger than {bytes_max} bytes.")


class StreamingBody:
    """A body handed on as it comes, for a caller who is known already. May be read once."""

    def __init__(self, inbound: Inbound, *, bytes_max: int) -> None:
        inbound.refuse_over(bytes_max)
        self._inbound = inbound
        self._bytes_max = bytes_max

    @property
    def size_bytes(self) -> int | None:
        return self._inbound.declared_bytes

    async def chunks(self) -> AsyncIterator[bytes]:
        while not self._inbound.body_ended:
            data = await self._inbound.chunk()
            self._inbound.refuse_over(self._bytes_max)
            if data:
                yield data

    async def read(self) -> bytes:
        held: list[bytes] = []
        while not self._inbound.body_ended:
            held.append(await self._inbound.chunk())
            self._inbound.refuse_over(self._bytes_max)
        return held[0] if len(held) == 1 else b"".join(held)


class SpoolSpace:
    """Where bodies too large for memory wait, and how much they may take together.

    Files have no name from the start, so that a crash leaves nothing behind.
    """

    def __init__(self, directory: str, *, bytes_max: int) -> None:
        self._directory = directory
        self._bytes_max = bytes_max
        self.used_bytes = 0

    def take(self, size: int) -> None:
        if self.used_bytes + size > self._bytes_max:
            raise Unavailable("Too many large requests at once; try again shortly.")
        self.used_bytes += size

    def give_back(self, size: int) -> None:
        self.used_bytes -= size

    def open(self) -> IO[bytes]:
        return tempfile.TemporaryFile(dir=self._directory, buffering=0)


class SpooledBody:
    """A whole body and its SHA-256 (hex). In memory, or in a file of a SpoolSpace: close it."""

    def __init__(self, space: SpoolSpace) -> None:
        self._space = space
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._file: IO[bytes] | None = None
        self._digest = hashlib.sha256()
        self.file_bytes = 0
        self.sha256 = ""

    @property
    def size_bytes(self) -> int:
        return self.file_bytes + self._held_bytes

    async def add(self, data: bytes) -> None:
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > (MEMORY_BYTES_MAX if self._file is None else BATCH_BYTES):
            await self._spill()

    async def finish(self) -> None:
        """No more bytes will come: `sha256` is known from here on."""
        if self._file is not None and self._held:
            await self._spill()
        for data in self._held:
            self._digest.update(data)
        self.sha256 = self._digest.hexdigest()

    async def chunks(self) -> AsyncIterator[bytes]:
        for data in self._held:
            if data:
                yield data
        if self._file is None:
            return
        descriptor, offset = self._file.fileno(), 0
        while offset < self.file_bytes:
            piece = await _in_thread(os.pread, descriptor, READ_BYTES, offset)
            if not piece:
                raise Unavailable("The request body could not be read back.")
            offset += len(piece)
            yield piece

    async def read(self) -> bytes:
        if self._file is None:
            return self._held[0] if len(self._held) == 1 else b"".join(self._held)
        return b"".join([piece async for piece in self.chunks()])

    def close(self) -> None:
        self._held, self._held_bytes = [], 0
        if self._file is not None:
            self._file.close()
            self._file = None
            self._space.give_back(self.file_bytes)

    async def _spill(self) -> None:
        held, size = self._held, self._held_bytes
        self._held, self._held_bytes = [], 0
        self._space.take(size)
        try:
            if self._file is None:
                self._file = self._space.open()
            await _in_thread(_write, self._file.fileno(), self._digest, held)
            self.file_bytes += size
        except OSError as error:
            self._space.give_back(size)
            raise Unavailable("The request body could not be stored.") from error
        except BaseException:
            self._space.give_back(size)
            raise


def _write(descriptor: int, digest: Any, held: list[bytes]) -> None:
    for data in held:
        digest.update(data)
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]


async def _in_thread(function: Any, *arguments: Any) -> Any:
    """To its end even when the caller is cancelled: a closed descriptor may be another's next."""
    work = asyncio.get_running_loop().run_in_executor(None, function, *arguments)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([work])
        raise


async def spool(inbound: Inbound, space: SpoolSpace, *, bytes_max: int) -> SpooledBody:
    """The whole body, hashed. Raises ValidationFailed beyond `bytes_max`."""
    inbound.refuse_over(bytes_max)
    body = SpooledBody(space)
    try:
        while not inbound.body_ended:
            data = await inbound.chunk()
            inbound.refuse_over(bytes_max)
            if data:
                await body.add(data)
        await body.finish()
    except BaseException:
        body.close()
        raise
    return body


class SignatureAuthenticator:
    """The pipeline's authenticate step for signed requests: spool, hash, verify.

    `call.receive` is an Inbound. Leaves the verified body in `call.body`; the edge closes it.
    """

    def __init__(self, verifier: Verifier, space: SpoolSpace, *, body_bytes_max: int) -> None:
        self._verifier = verifier
        self._space = space
        self._body_bytes_max = body_bytes_max

    async def __call__(self, call: Call) -> Caller:
        assert isinstance(call.receive, Inbound)
        signed = self._verifier.read(call.scope)
        # With a declared hash the signature can be checked first, and a forger stores nothing.
        caller = await self._verifier.verify(signed, None) if signed.payload else None
        body = await spool(call.receive, self._space, bytes_max=self._body_bytes_max)
        try:
            if caller is None:
                caller = await self._verifier.verify(signed, body.sha256)
            signed.check_body(body.sha256)
        except BaseException:
            body.close()
            raise
        call.body = body
        return caller
