"""WebSockets, shells and commands in sessions, put together once a worker."""

import msgspec

from freehold.adapters.agents.websocket import WebSocketAgents
from freehold.ports.placement import Placement
from freehold.services.runtime.commands import CommandService
from freehold.services.runtime.invocations import InvocationService
from freehold.services.runtime.service import RuntimeService
from freehold.services.runtime.shells import ShellService
from freehold.services.runtime.websockets import WebSocketService
from freehold.settings import Settings


class Streams(msgspec.Struct, frozen=True, kw_only=True):
    websockets: WebSocketService
    shells: ShellService
    commands: CommandService


def make_streams(
    settings: Settings,
    runtimes: RuntimeService,
    invocations: InvocationService,
    placement: Placement,
) -> Streams:
    return Streams(
        websockets=WebSocketService(
            runtimes=runtimes,
            invocations=invocations,
            placement=placement,
            agents=WebSocketAgents(
                placement.connect, begin_seconds_max=settings.invocation_seconds_max
            ),
            seconds_max=settings.stream_seconds_max,
        ),
        shells=ShellService(
            runtimes=runtimes,
            invocations=invocations,
            placement=placement,
            seconds_max=settings.stream_seconds_max,
        ),
        commands=CommandService(runtimes=runtimes, invocations=invocations, placement=placement),
    )
