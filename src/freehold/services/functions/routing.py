"""Whose function an ARN names, and what comes of an event: `ports.functions.Functions`."""

import asyncio
from typing import Any

import msgspec

from freehold.kernel.arns import Arn
from freehold.kernel.errors import Conflict, NotFound, ValidationFailed
from freehold.ports.functions import FunctionFailed, Invoked
from freehold.services.functions.instances import InstancePools
from freehold.services.functions.model import EVENT_BYTES_MAX, Function
from freehold.services.functions.ports import InstanceBroke, Instances, RemoteFunctions
from freehold.services.functions.service import FunctionService

_TEXT_MAX = 2000
_TIMED_OUT = "Sandbox.Timedout"
_EXITED = "Runtime.ExitError"
_PREFIX = "function:"
_START_SECONDS = 60.0
"""An instance may need so long to start, besides its event's own time."""


class _Error(msgspec.Struct, rename="camel"):
    error_message: str = ""
    error_type: str = ""


class _Answer(msgspec.Struct):
    """Of the bootstrap's."""

    value: msgspec.Raw = msgspec.Raw(b"null")
    error: _Error | None = None
    busy: bool = False


_answers = msgspec.json.Decoder(_Answer)


class FunctionRouter:
    def __init__(
        self,
        *,
        functions: FunctionService,
        instances: Instances,
        remote: RemoteFunctions,
        region: str,
        instances_max: int = 8,
    ) -> None:
        self._functions, self._instances, self._remote = functions, instances, remote
        self._region = region
        self._pools = InstancePools(instances_max=instances_max)
        self._ending: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        await asyncio.gather(*self._ending, return_exceptions=True)

    async def invoke(self, invoked: Invoked) -> Any:
        name = self._own(invoked)
        if name is not None:
            function = await self._functions.find(invoked.tenant, name)
            if function is not None:
                return await self._run(function, invoked)
            # A tenant's account may be the number of its AWS account, too.
            if not self._remote.may_call(invoked.tenant, invoked.role):
                raise NotFound(f"function {name!r} does not exist")
        return await self._remote.invoke(invoked)

    def _own(self, invoked: Invoked) -> str | None:
        """The name of the function where the ARN is of the tenant's own account, here. Another
        tenant's is never looked for."""
        arn = Arn.parse(invoked.arn)
        if arn is None or arn.service != "lambda" or not arn.resource.startswith(_PREFIX):
            raise ValidationFailed(f"{invoked.arn} is not the ARN of a function")
        if (arn.region, arn.tenant) != (self._region, invoked.tenant):
            return None
        name, _, qualifier = arn.resource.removeprefix(_PREFIX).partition(":")
        if qualifier not in ("", "$LATEST"):
            raise ValidationFailed(
                f"{invoked.arn}: functions of this platform have no versions and aliases; leave "
                f"out {qualifier!r}"
            )
        return name

    async def _run(self, function: Function, invoked: Invoked) -> Any:
        # A handler that never yields keeps its instance from ending it.
        seconds = min(invoked.seconds_max, function.seconds_max + _START_SECONDS)
        try:
            async with asyncio.timeout(seconds):
                return await self._ask(function, invoked)
        except TimeoutError:
            raise FunctionFailed(f"no answer within {seconds:g} seconds", type="Timeout") from None

    async def _ask(self, function: Function, invoked: Invoked) -> Any:
        tenant, runtime_id = invoked.tenant, function.runtime_id
        body = _request(function, invoked)
        try:
            version = await self._instances.version(tenant, runtime_id)
        except (Conflict, NotFound) as error:
            raise FunctionFailed(
                f"the function {function.name} does not run yet: {error.message}",
                type="NotReady", unreached=True,
            ) from error  # fmt: skip
        async with self._pools.of(tenant, runtime_id, version).lease() as lease:
            try:
                answer = await self._instances.send(
                    tenant, runtime_id, lease.session_id, body, request_id=invoked.request_id
                )
            except InstanceBroke as broke:
                raise FunctionFailed(
                    broke.message[:_TEXT_MAX], type=_EXITED, unreached=broke.unreached
                ) from broke
            except asyncio.CancelledError:
                self._end_soon(tenant, runtime_id, lease.session_id)
                raise
            said = _decoded(answer)
            # It ended itself, or has the event of somebody whom we do not know.
            lease.gone = said.busy or (
                said.error is not None and said.error.error_type == _TIMED_OUT
            )
        return _value(said)

    def _end_soon(self, tenant: str, runtime_id: str, session_id: str) -> None:
        """Nobody waits for its event any more; it might go on with it for ever."""
        ending = asyncio.create_task(
            self._instances.stop(tenant, runtime_id, session_id), name="function instance"
        )
        self._ending.add(ending)
        ending.add_done_callback(self._ended)

    def _ended(self, ending: asyncio.Task[None]) -> None:
        self._ending.discard(ending)
        if not ending.cancelled():
            ending.exception()  # seen: a session that could not be stopped goes idle, and ends


def _request(function: Function, invoked: Invoked) -> bytes:
    event = msgspec.json.encode(invoked.event)
    if len(event) > EVENT_BYTES_MAX:
        raise ValidationFailed(f"an event has at most {EVENT_BYTES_MAX} bytes")
    seconds = min(function.seconds_max, invoked.seconds_max)
    return msgspec.json.encode(
        {
            "event": msgspec.Raw(event),
            "context": invoked.context,
            "arn": function.arn,
            "requestId": invoked.request_id,
            "timeoutMs": max(1, int(seconds * 1000)),
        }
    )


def _decoded(answer: bytes) -> _Answer:
    try:
        return _answers.decode(answer)
    except msgspec.MsgspecError:
        raise FunctionFailed(
            "the instance answered what the platform's bootstrap never says", type=_EXITED
        ) from None


def _value(said: _Answer) -> Any:
    if said.busy:
        raise FunctionFailed("the instance is busy", type="Busy", unreached=True)
    if said.error is None:
        return msgspec.json.decode(said.value)
    kind = "Timeout" if said.error.error_type == _TIMED_OUT else said.error.error_type
    raise FunctionFailed(said.error.error_message[:_TEXT_MAX], type=kind[:200])
