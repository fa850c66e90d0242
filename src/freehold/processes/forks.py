"""Forks of recorded sessions, put together: what is read, and as whom agents are called."""

import contextlib
import os
from contextlib import AsyncExitStack
from math import inf
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlencode

import msgspec

from freehold.adapters.jobs.postgres import PostgresJobs
from freehold.adapters.web.inner import Inside
from freehold.edges.sigv4 import caller_of
from freehold.kernel.arns import agentcore_arn
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.clock import now
from freehold.kernel.errors import AccessDenied, NotFound, Unavailable
from freehold.kernel.operation import Operation
from freehold.kernel.session import CALLER_STATE
from freehold.kernel.sweep import HOUR_SECONDS, Sweep
from freehold.ports.authorizer import AccessKeys, Authorizer
from freehold.ports.database import Database
from freehold.ports.resources import Resources
from freehold.ports.spans import SpanStore
from freehold.ports.web import Unreachable, WebStream
from freehold.processes.people import People
from freehold.services.access.ports import OpenTenants
from freehold.services.forks import native
from freehold.services.forks.comparing import Comparing
from freehold.services.forks.model import Creator
from freehold.services.forks.ports import Turn
from freehold.services.forks.reading import Sessions
from freehold.services.forks.replays import ForkReplays
from freehold.services.forks.runner import Runner
from freehold.services.forks.service import FORK_ATTEMPTS_MAX, FORK_JOB, FORKS_AT_ONCE
from freehold.services.forks.service import Forks as ForkService
from freehold.services.people import store as people_store
from freehold.services.policy.model import ENGINE
from freehold.settings import Settings

if TYPE_CHECKING:
    from starlette.types import Scope

_SESSION_HEADER = "x-amzn-bedrock-agentcore-runtime-session-id"
_IDLE_SECONDS_MAX = 900.0


class Forks(msgspec.Struct, frozen=True, kw_only=True):
    service: ForkService
    comparing: Comparing
    jobs: PostgresJobs
    sweep: Sweep


def make_replays(database: Database) -> ForkReplays:
    return ForkReplays(database)


def make_forks(
    settings: Settings,
    database: Database,
    resources: Resources,
    *,
    spans: SpanStore,
    people: People,
    authorizer: Authorizer,
    inside: Inside,
) -> Forks:
    """Before `database.start`: it listens."""
    # Of their own: they start once agents can be invoked, and end while they still can.
    jobs = PostgresJobs(database, executor=f"forks-{os.getpid()}")
    sessions = Sessions(spans)
    runner = Runner(
        database,
        spans=spans,
        agents=InnerAgents(inside, public_url=settings.public_url, region=settings.region),
        creators=StoredCreators(database, keys=people.keys, tenants=people.tenants),
        authorizer=authorizer,
    )
    service = ForkService(
        database,
        sessions=sessions,
        jobs=jobs,
        engines=ResourceEngines(resources),
        authorizer=authorizer,
        runner=runner,
    )
    jobs.register(FORK_JOB, runner.work, concurrency=FORKS_AT_ONCE, attempts_max=FORK_ATTEMPTS_MAX)
    return Forks(
        service=service,
        comparing=Comparing(sessions),
        jobs=jobs,
        sweep=Sweep("deleted forks", service.sweep, every_seconds=HOUR_SECONDS),
    )


async def open_forks(forks: Forks, stack: AsyncExitStack) -> None:
    """After all that agents are invoked by; `inside` closes after it."""
    await forks.sweep.start()
    stack.push_async_callback(forks.sweep.close)
    await forks.jobs.start()
    stack.push_async_callback(forks.jobs.close)
    await forks.service.take_up()


def fork_operations(forks: Forks) -> list[Operation]:
    return native.operations(forks.service, forks.comparing)


class InnerAgents:
    """`services.forks.ports.Agents`, by AWS's paths in this process."""

    def __init__(self, inside: Inside, *, public_url: str, region: str) -> None:
        self._inside, self._region = inside, region
        self._host = public_url.partition("://")[2].partition("/")[0]

    async def invoke(self, caller: Caller, turn: Turn) -> WebStream:
        return await self._ask(caller, turn, "invocations")

    async def stop(self, caller: Caller, turn: Turn) -> None:
        stopped = msgspec.structs.replace(turn, payload=b"{}", content_type="application/json")
        try:
            stream = await self._ask(caller, stopped, "stopruntimesession")
        except Unreachable as error:
            raise Unavailable(str(error)) from None
        stream.close()
        if stream.status == AccessDenied.status:
            raise AccessDenied("its session is not yours to stop: it ends when it is idle")
        if stream.status >= 300 and stream.status not in (404, 409):
            raise Unavailable(f"the session was not stopped: status {stream.status}")

    async def _ask(self, caller: Caller, turn: Turn, what: str) -> WebStream:
        arn = agentcore_arn(self._region, turn.tenant, f"runtime/{turn.agent_id}")
        path = f"/runtimes/{quote(arn, safe='')}/{what}"
        said = {
            "host": self._host,
            "accept": "application/json, text/event-stream",
            "content-type": turn.content_type,
            "content-length": str(len(turn.payload)),
            _SESSION_HEADER: turn.session_id,
        }
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode("ascii"),
            "query_string": urlencode({"qualifier": turn.endpoint}).encode("ascii"),
            "root_path": "",
            "headers": [(k.encode("latin-1"), v.encode("latin-1")) for k, v in said.items()],
            "client": None,
            "server": None,
            "state": {CALLER_STATE: caller},
        }
        idle = _IDLE_SECONDS_MAX if what == "invocations" else inf
        return await self._inside.begun(scope, turn.payload, idle_seconds_max=idle)


class StoredCreators:
    """`services.forks.ports.Creators`: nothing that was true when they forked is believed."""

    def __init__(self, database: Database, *, keys: AccessKeys, tenants: OpenTenants) -> None:
        self._database, self._keys, self._tenants = database, keys, tenants

    async def caller(self, tenant: str, creator: Creator) -> Caller:
        found = None
        if creator.access_key_id is not None:
            found = await self._by_key(tenant, creator.access_key_id)
        elif creator.kind == CallerKind.PERSON and creator.user is not None:
            found = await self._by_name(tenant, creator)
        if found is None:
            raise AccessDenied(
                f"{creator.principal}, who forked this, is let in no more: fork again with a key "
                "that is good, or after signing in"
            )
        return found

    async def _by_key(self, tenant: str, id: str) -> Caller | None:
        key = await self._keys.active(id)
        if key is None or key.tenant != tenant:
            return None
        if key.expires_at is not None and key.expires_at <= now():
            return None
        return caller_of(key)

    async def _by_name(self, tenant: str, creator: Creator) -> Caller | None:
        if not await self._tenants.is_open(tenant):
            return None
        async with self._database.connection() as connection:
            members = await people_store.members(connection, tenant, creator.user)
        for member in members:
            if member.person.active and member.person.name == creator.user and member.roles:
                return Caller(
                    tenant=tenant, principal=creator.principal, kind=CallerKind.PERSON,
                    user=creator.user, roles=member.roles,
                )  # fmt: skip
        return None


class ResourceEngines:
    """`services.forks.ports.Engines`."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    async def arn(self, tenant: str, engine_id: str) -> str | None:
        with contextlib.suppress(NotFound):
            engine = await self._resources.get(tenant, ENGINE, engine_id)
            if engine.status == "ACTIVE":
                return engine.arn
        return None
