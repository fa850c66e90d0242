"""The console, put together and mounted on the governed path."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from starlette.types import ASGIApp, Receive, Scope

from freehold import __version__
from freehold.adapters.web.inner import Inside
from freehold.console.app import Console
from freehold.console.pages.agents import AgentPages
from freehold.console.pages.audit import AuditPages
from freehold.console.pages.consent import ConsentPages
from freehold.console.pages.costs import CostPages
from freehold.console.pages.decisions import DecisionPages
from freehold.console.pages.device import DevicePages
from freehold.console.pages.erasures import ErasurePages
from freehold.console.pages.forking import ForkingPages
from freehold.console.pages.forks import ForkPages
from freehold.console.pages.gateways import GatewayPages
from freehold.console.pages.home import HomePages
from freehold.console.pages.identities import IdentityPages
from freehold.console.pages.keys import KeyPages
from freehold.console.pages.memory import MemoryPages
from freehold.console.pages.overview import OverviewPages
from freehold.console.pages.people import PeoplePages
from freehold.console.pages.policies import PolicyPages
from freehold.console.pages.sessions import SessionPages
from freehold.console.pages.sign_in import SignInPages
from freehold.console.pages.traces import TracePages
from freehold.console.pages.trying_agents import TryingAgents
from freehold.console.pages.trying_tools import ToolPages
from freehold.console.platform import InnerPlatform
from freehold.console.ports import Fragments, Govern, Platform
from freehold.console.rendering import Renderer
from freehold.console.routes import Route
from freehold.console.static_files import StaticFiles
from freehold.edges.pipeline import Call, Pipeline
from freehold.kernel.caller import Caller
from freehold.ports.consent import Consents
from freehold.ports.sign_in import Devices, SignIn


def make_console(
    *,
    pipeline: Pipeline,
    sign_in: SignIn,
    devices: Devices,
    consents: Consents,
    platform: Platform,
    public_url: str,
    region: str,
) -> dict[bytes, ASGIApp]:
    """By first path segment, as `edges.serving.Root` takes it. `public_url` has no slash at its
    end."""
    files = StaticFiles()
    renderer = Renderer(files)
    console = Console(
        console_routes(sign_in, devices, consents, platform, renderer, region=region),
        govern=_governed_by(pipeline),
        sign_in=sign_in,
        files=files,
        renderer=renderer,
        public_url=public_url,
    )
    return {b"/console": console}


def console_platform(inside: Inside) -> Platform:
    return InnerPlatform(inside.begun)


def console_routes(
    sign_in: SignIn,
    devices: Devices,
    consents: Consents,
    platform: Platform,
    fragments: Fragments,
    *,
    region: str,
) -> list[Route]:
    """Every page; the operations that they name stand in services/access/actions.py."""
    return [
        *OverviewPages(platform).routes(),
        *HomePages(sign_in, version=__version__, region=region).routes(),
        *SignInPages(sign_in).routes(),
        *DevicePages(devices).routes(),
        *ConsentPages(consents).routes(),
        *GatewayPages(platform).routes(),
        *ToolPages(platform).routes(),
        *PolicyPages(platform).routes(),
        *DecisionPages(platform).routes(),
        *MemoryPages(platform).routes(),
        *ErasurePages(platform).routes(),
        *IdentityPages(platform).routes(),
        *PeoplePages(platform).routes(),
        *KeyPages(platform).routes(),
        *AuditPages(platform).routes(),
        *CostPages(platform).routes(),
        *AgentPages(platform).routes(),
        *TryingAgents(platform, fragments).routes(),
        *TracePages(platform, fragments).routes(),
        *SessionPages(platform).routes(),
        *ForkPages(platform).routes(),
        *ForkingPages(platform).routes(),
    ]


def _governed_by(pipeline: Pipeline) -> Govern:
    @asynccontextmanager
    async def govern(
        operation: str,
        scope: Scope,
        receive: Receive,
        *,
        request_id: str,
        authenticate: Callable[[], Awaitable[Caller]],
        prepare: Callable[[], Awaitable[None]],
    ) -> AsyncIterator[Call]:
        async def by_session(call: Call) -> Caller:
            return await authenticate()

        async def by_form(call: Call) -> None:
            await prepare()

        call = Call(
            edge="console", operation=operation, scope=scope, receive=receive,
            authenticator=by_session, prepare=by_form, request_id=request_id,
        )  # fmt: skip
        async with pipeline.governed(call):
            yield call

    return govern
