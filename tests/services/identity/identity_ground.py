"""The parts of identity over the real database, with a clock that tests turn."""

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.postgres.resource_sql import CHANNEL
from freehold.adapters.postgres.resources import PostgresResources
from freehold.adapters.secrets.envelope import EnvelopeSealer
from freehold.adapters.secrets.keyring import Keyring
from freehold.kernel import ids
from freehold.kernel.caller import Caller, CallerKind
from freehold.services.identity.keys import KeySchedule, SigningKeys
from freehold.services.identity.service import WorkloadIdentities
from freehold.services.identity.tokens import WorkloadTokenService
from freehold.services.runtime.model import RUNTIME

MakeDsn = Callable[[], Awaitable[str]]

REGION = "us-east-1"
SECONDS = 900
ISSUER = "https://agents.example.test/freehold/v1"
SCHEDULE = KeySchedule(kept=timedelta(seconds=SECONDS + 60))
SEALER = EnvelopeSealer(Keyring({1: bytes(32)}))


class Clock:
    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


class Worker:
    """An API worker, as far as identity goes: its own pool, ear and caches."""

    def __init__(
        self,
        dsn: str,
        stack: AsyncExitStack,
        *,
        clock: Clock | None = None,
        schedule: KeySchedule = SCHEDULE,
        seconds: int = SECONDS,
        sealer: EnvelopeSealer = SEALER,
    ) -> None:
        self._stack, self.clock = stack, clock or Clock()
        self.database = PostgresDatabase(dsn, pool_size_max=4, application_name="identity test")
        self.resources = PostgresResources(self.database, region=REGION)
        self.identities = WorkloadIdentities(self.resources, region=REGION)
        self.database.listen(CHANNEL, self.identities.heard_change)
        self.keys = SigningKeys(self.database, sealer, schedule, now=self.clock)
        self.tokens = WorkloadTokenService(
            self.database, sealer, keys=self.keys, identities=self.identities,
            issuer=ISSUER, seconds=seconds, now=self.clock,
        )  # fmt: skip

    async def start(self) -> "Worker":
        await self.database.start()
        self._stack.push_async_callback(self.database.close)
        await self.keys.open()
        self._stack.push_async_callback(self.keys.close)
        return self

    async def identity(self, tenant: str, name: str = "") -> str:
        """A new one's name."""
        name = name or f"agent-{ids.random_text(8)}"
        await self.identities.create(tenant, {"name": name})
        return name

    async def runtime(self, tenant: str, **document: Any) -> str:
        """The id of a new runtime, as bare as a row."""
        id = ids.suffixed("agent")
        await self.resources.create(
            tenant, RUNTIME, id=id, name=id.replace("-", "_"), status="READY", document=document
        )
        return id


def key_of(tenant: str, *roles: str) -> Caller:
    return Caller(
        tenant=tenant, principal=f"arn:aws:iam::{tenant}:access-key/FHIA", roles=frozenset(roles),
        kind=CallerKind.ACCESS_KEY, access_key_id="FHIA",
    )  # fmt: skip


def runtime_arn(tenant: str, runtime_id: str) -> str:
    return f"arn:aws:bedrock-agentcore:{REGION}:{tenant}:runtime/{runtime_id}"


def session_of(
    tenant: str, runtime_id: str, session: str = "session-1", user: str | None = None
) -> Caller:
    return Caller(
        tenant=tenant, principal=f"{runtime_arn(tenant, runtime_id)}/session/{session}",
        kind=CallerKind.SESSION, user=user,
    )  # fmt: skip


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(header, claims), unverified."""
    header, claims, _ = (
        base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in token.split(".")
    )
    return json.loads(header), json.loads(claims)


def claims_of(token: str) -> dict[str, Any]:
    return parts(token)[1]


def encoded(document: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")


async def soon(condition: Callable[[], bool | Awaitable[bool]], *, within: float = 10) -> float:
    """How long until it held."""
    started = time.monotonic()
    async with asyncio.timeout(within):
        while True:
            held = condition()
            if held if isinstance(held, bool) else await held:
                return time.monotonic() - started
            await asyncio.sleep(0.005)
