"""Shells in sessions: a terminal over a WebSocket, which outlives its connections.

A message is one byte that names a channel, then its payload. Source: the SDK's
`runtime/shell/protocol.py`; the same channels as Kubernetes' v5.channel.k8s.io.
"""

import asyncio
import re
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec
from websockets.utils import accept_key

from freehold.kernel.caller import Caller
from freehold.kernel.errors import Conflict, FreeholdError, ValidationFailed
from freehold.kernel.sockets import ClientSocket, Conversation
from freehold.ports.placement import Lease, PlacedCommand, Placement
from freehold.ports.sandbox import CommandSpec
from freehold.services.runtime.commands import KILLED, best_shell
from freehold.services.runtime.framed import BinaryWebSocket
from freehold.services.runtime.inbound import check_entering, user_entering
from freehold.services.runtime.invocations import SESSION_HEADER, InvocationService, runtime_id_of
from freehold.services.runtime.model import DEFAULT_ENDPOINT
from freehold.services.runtime.service import RuntimeService
from freehold.services.runtime.splice import GOING_AWAY
from freehold.services.runtime.traces import tell_agent

SHELL_HEADER = "X-Amzn-Bedrock-AgentCore-Shell-Id"
MESSAGE_BYTES_MAX = 64 * 1024
STDIN, STDOUT, STDERR, STATUS, RESIZE, HEARTBEAT, CLOSE = 0, 1, 2, 3, 4, 5, 0xFF
DONE, TAKEN_OVER = 1000, 4000

_SHELL_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,127}")
_TERMINAL = (24, 80)
_SIDES = range(1, 65536)
_PAYLOAD_BYTES_MAX = MESSAGE_BYTES_MAX - 1
_SIGNALLED = 128


class ShellOpening(msgspec.Struct, frozen=True, kw_only=True):
    caller: Caller
    tenant: str
    runtime_arn: str
    endpoint: str | None
    session_id: str | None
    shell_id: str | None
    key: str
    """The client's Sec-WebSocket-Key."""


class ShellService:
    def __init__(
        self,
        *,
        runtimes: RuntimeService,
        invocations: InvocationService,
        placement: Placement,
        seconds_max: float,
    ) -> None:
        self._runtimes, self._invocations = runtimes, invocations
        self._placement, self._seconds_max = placement, seconds_max

    async def open(self, opening: ShellOpening) -> Conversation:
        """The shell of that id, or a new one."""
        shell_id = opening.shell_id or str(uuid.uuid4())
        if not _SHELL_ID.fullmatch(shell_id):
            raise ValidationFailed(
                "shellId: must have 1 to 128 letters, digits, hyphens and underscores, and begin "
                "with a letter or a digit"
            )
        deployment = await self._runtimes.resolve(
            opening.tenant, runtime_id_of(opening.runtime_arn), opening.endpoint or DEFAULT_ENDPOINT
        )
        session_id = opening.session_id or str(uuid.uuid4())
        deployment = deployment.for_session(session_id)
        check_entering(opening.caller, deployment)
        tell_agent(deployment, session_id, user_entering(opening.caller))
        spec = CommandSpec(
            command=best_shell("-i"),
            environment={"TERM": "xterm-256color"},
            terminal=_TERMINAL,
        )
        lease, command = await self._invocations.begin(
            self._invocations.launch(deployment, session_id, user_entering(opening.caller)),
            lambda lease: self._placement.execute(lease.sandbox_id, spec, name=shell_id),
        )
        return _Attached(
            command, lease, shell_id,
            placement=self._placement,
            headers={
                SESSION_HEADER: session_id,
                SHELL_HEADER: shell_id,
                "Sec-WebSocket-Accept": accept_key(opening.key),
            },
            seconds_max=self._seconds_max,
        )  # fmt: skip


class _Attached:
    """One client at a shell. Implements kernel.sockets.Conversation."""

    def __init__(
        self,
        command: PlacedCommand,
        lease: Lease,
        shell_id: str,
        *,
        placement: Placement,
        headers: Mapping[str, str],
        seconds_max: float,
    ) -> None:
        self._command, self._lease, self._shell_id = command, lease, shell_id
        self._placement = placement
        self._seconds_max = seconds_max
        self.headers = headers

    async def run(self, client: ClientSocket) -> None:
        socket = BinaryWebSocket(client, message_bytes_max=MESSAGE_BYTES_MAX)
        said = asyncio.create_task(self._to_shell(socket))
        shown = asyncio.create_task(self._to_client(socket))
        leaving = asyncio.create_task(client.leaving.wait())
        tasks = (said, shown, leaving)
        code, words = DONE, ""
        try:
            done, _ = await asyncio.wait(
                tasks, timeout=self._seconds_max, return_when=asyncio.FIRST_COMPLETED
            )
            if shown in done:
                code, words = shown.result()
            elif leaving in done:
                code, words = GOING_AWAY, "the platform is restarting"
            elif not done:
                code, words = GOING_AWAY, f"open for its limit of {self._seconds_max:g} s"
            else:
                said.result()  # raises what went wrong
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await self.close()
            await socket.close(code, words)

    async def close(self) -> None:
        """The shell stays."""
        try:
            await self._command.close()
        finally:
            self._placement.release(self._lease)

    async def _to_shell(self, socket: BinaryWebSocket) -> None:
        """Until the client goes, or ends the shell."""
        while (message := await socket.receive()) is not None:
            channel, payload = (message[0], message[1:]) if message else (HEARTBEAT, b"")
            if channel == STDIN and payload:
                await self._command.write(payload)
            elif channel == RESIZE:
                if (sides := _sides(payload)) is not None:
                    self._command.resize(*sides)
            elif channel == HEARTBEAT:
                await socket.send(bytes((HEARTBEAT,)))
            elif channel == CLOSE:
                await self._placement.end_command(self._lease.sandbox_id, self._shell_id)
                return

    async def _to_client(self, socket: BinaryWebSocket) -> tuple[int, str]:
        """Close code and reason, once there is nothing more to show."""
        await socket.send(
            _status({"shellId": self._shell_id, "reconnected": self._command.resumed})
        )
        while (output := await self._command.read()) is not None:
            for start in range(0, len(output.data), _PAYLOAD_BYTES_MAX):
                piece = output.data[start : start + _PAYLOAD_BYTES_MAX]
                await socket.send(bytes((STDOUT,)) + piece)
        try:
            code = await self._command.wait()
        except Conflict:
            return TAKEN_OVER, "another client took the shell over"
        except FreeholdError as error:
            ended = await self._placement.why_ended(self._lease.sandbox_id)
            return await self._evict(socket, f"the session ended: {ended}" if ended else str(error))
        if code == KILLED and (ended := await self._placement.why_ended(self._lease.sandbox_id)):
            return await self._evict(socket, f"the session ended: {ended}")
        await socket.send(_ended(code))
        return DONE, ""

    async def _evict(self, socket: BinaryWebSocket, why: str) -> tuple[int, str]:
        await socket.send(bytes((STDERR,)) + f"{why}\r\n".encode())
        await socket.send(bytes((CLOSE,)))
        return DONE, why


def _sides(payload: bytes) -> tuple[int, int] | None:
    """(rows, columns) of a RESIZE; None for one that makes no sense."""
    try:
        size = msgspec.json.decode(payload, type=_Size)
    except msgspec.DecodeError:
        return None
    return (size.height, size.width) if size.height in _SIDES and size.width in _SIDES else None


class _Size(msgspec.Struct):
    width: int
    height: int


def _status(metadata: dict[str, Any], **more: Any) -> bytes:
    """As Kubernetes' metav1.Status."""
    document = {
        "kind": "Status", "apiVersion": "v1", "metadata": metadata, "status": "Success", **more,
    }  # fmt: skip
    return bytes((STATUS,)) + msgspec.json.encode(document)


def _ended(code: int) -> bytes:
    """No metadata: the shell is over."""
    if code == 0:
        return _status({})
    causes = [{"reason": "ExitCode", "message": str(code)}]
    if code > _SIGNALLED:
        causes.append({"reason": "Signal", "message": str(code - _SIGNALLED)})
    return _status(
        {},
        status="Failure",
        reason="NonZeroExitCode",
        message=f"command terminated with exit code {code}",
        details={"causes": causes},
    )
