"""InvokeAgentRuntimeCommand: a shell command in a session, its output told as it comes."""

import asyncio
import codecs
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import msgspec

from freehold.kernel import tracing
from freehold.kernel.caller import Caller
from freehold.kernel.errors import RuntimeClientFailed, ValidationFailed
from freehold.ports.placement import Lease, Placement
from freehold.ports.sandbox import Command, CommandSpec
from freehold.services.runtime.inbound import check_entering, user_entering
from freehold.services.runtime.invocations import InvocationService, runtime_id_of
from freehold.services.runtime.model import DEFAULT_ENDPOINT
from freehold.services.runtime.service import RuntimeService
from freehold.services.runtime.traces import tell_agent

SECONDS_DEFAULT = 300
SECONDS_MAX = 3600
TIMED_OUT_EXIT_CODE = 124
"""As timeout(1) has it."""

KILLED = 128 + 9
"""The exit code also of what ended with its session."""

Event = dict[str, dict[str, Any]]

_IN_BEST_SHELL = "if command -v bash >/dev/null 2>&1; then exec bash {0}; else exec sh {0}; fi"


def best_shell(options: str, *words: str) -> tuple[str, ...]:
    """bash where the sandbox has one, else sh. `options` stand in a script: ours alone."""
    return ("/bin/sh", "-c", _IN_BEST_SHELL.format(options), "sh", *words)


class CommandRequest(msgspec.Struct, frozen=True, kw_only=True):
    caller: Caller
    tenant: str
    runtime_arn: str
    endpoint: str | None
    session_id: str | None
    command: str
    seconds_max: int | None


class CommandService:
    def __init__(
        self, *, runtimes: RuntimeService, invocations: InvocationService, placement: Placement
    ) -> None:
        self._runtimes, self._invocations = runtimes, invocations
        self._placement = placement

    async def run(self, request: CommandRequest) -> "tuple[str, CommandEvents]":
        """(session id, events). The events are closed by whoever gets them."""
        seconds_max = SECONDS_DEFAULT if request.seconds_max is None else request.seconds_max
        if not 1 <= seconds_max <= SECONDS_MAX:
            raise ValidationFailed(f"timeout: must be from 1 to {SECONDS_MAX} seconds")
        if "\0" in request.command:
            raise ValidationFailed("command: must not hold the character U+0000")
        deployment = await self._runtimes.resolve(
            request.tenant, runtime_id_of(request.runtime_arn), request.endpoint or DEFAULT_ENDPOINT
        )
        session_id = request.session_id or str(uuid.uuid4())
        deployment = deployment.for_session(session_id)
        check_entering(request.caller, deployment)
        tell_agent(deployment, session_id, user_entering(request.caller))
        carried = {name.upper(): value for name, value in tracing.headers().items()}
        spec = CommandSpec(command=best_shell('-c "$1"', request.command), environment=carried)
        lease, command = await self._invocations.begin(
            self._invocations.launch(deployment, session_id, user_entering(request.caller)),
            lambda lease: self._placement.execute(lease.sandbox_id, spec),
        )
        return session_id, CommandEvents(command, lease, self._placement, seconds_max)


class CommandEvents:
    """`contentStart`, `contentDelta` for what is written, `contentStop` with the exit code.

    The command ends with it, read to its end or not. Who reads slowly slows the command down.
    """

    def __init__(
        self, command: Command, lease: Lease, placement: Placement, seconds_max: float
    ) -> None:
        self._command, self._lease, self._placement = command, lease, placement
        self._events = self._told(asyncio.get_running_loop().time() + seconds_max)
        self._closed = False

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        try:
            return await anext(self._events)
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            await self._events.aclose()
            await self._command.close()
        finally:
            self._placement.release(self._lease)

    async def _told(self, deadline: float) -> AsyncGenerator[Event, None]:
        decoders = {name: codecs.getincrementaldecoder("utf-8")("replace") for name in _STREAMS}
        yield _chunk(contentStart={})
        try:
            async with asyncio.timeout_at(deadline):
                output = await self._command.read()
            while output is not None:
                if text := decoders[output.stream].decode(output.data):
                    yield _chunk(contentDelta={output.stream: text})
                async with asyncio.timeout_at(deadline):
                    output = await self._command.read()
            async with asyncio.timeout_at(deadline):
                code, status = await self._command.wait(), "COMPLETED"
        except TimeoutError:
            await self._command.close()
            code, status = TIMED_OUT_EXIT_CODE, "TIMED_OUT"
        if code == KILLED and (why := await self._placement.why_ended(self._lease.sandbox_id)):
            raise RuntimeClientFailed(f"the session ended: {why}")
        for name, decoder in decoders.items():
            if text := decoder.decode(b"", final=True):
                yield _chunk(contentDelta={name: text})
        yield _chunk(contentStop={"exitCode": code, "status": status})


_STREAMS = ("stdout", "stderr")


def _chunk(**content: dict[str, Any]) -> Event:
    return {"chunk": content}
