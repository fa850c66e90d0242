"""Workload access tokens: who an agent is and for whom it acts, signed by the platform."""

import logging
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from freehold.kernel import clock
from freehold.kernel.errors import AccessDenied, NotFound, Unavailable
from freehold.ports.database import Database
from freehold.ports.resources import Resource
from freehold.ports.secrets import SealBroken, Sealer
from freehold.ports.tokens import TokenRefused
from freehold.ports.workloads import Workload
from freehold.services.identity import store
from freehold.services.identity.jwts import ACCESS_TOKEN, ASSERTION, Jwts
from freehold.services.identity.keys import SigningKeys
from freehold.services.identity.model import ACTORS_MAX, Claims, act_claim, identity_name
from freehold.services.identity.service import WorkloadIdentities

log = logging.getLogger("freehold.identity")

ASSERTION_SECONDS = 300
_CLOCKS_DIFFER_SECONDS = 30
_NO_LONGER_GOOD = "the workload access token is no longer good; get a new one"


class WorkloadTokenService:
    """Implements `ports.workloads.WorkloadTokens` and `WorkloadAssertions`.

    A token dies with its time, with its identity, and with the user's own token, whichever is
    first. `issuer` is the address of the platform's own API, where others find its keys; it may
    change, and `audience` never does.
    """

    def __init__(
        self,
        database: Database,
        sealer: Sealer,
        *,
        keys: SigningKeys,
        identities: WorkloadIdentities,
        issuer: str,
        seconds: int,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._database, self._sealer = database, sealer
        self._keys, self._jwts, self._identities = keys, Jwts(keys), identities
        self._now = now
        self.issuer, self.seconds = issuer, seconds

    @property
    def audience(self) -> str:
        return f"urn:freehold:{self._keys.platform_id}"

    async def issue(self, workload: Workload) -> str:
        return (await self.issued(workload))[0]

    async def issued(self, workload: Workload) -> tuple[str, float]:
        """(token, when it ends). NotFound for an identity that is not there."""
        if len(workload.actors) > ACTORS_MAX:
            raise AccessDenied(f"more than {ACTORS_MAX} agents called one another for this request")
        identity = await self._identities.get(workload.tenant, workload.name)
        now = int(self._now().timestamp())
        until = None if workload.user_until is None else int(workload.user_until)
        if until is not None and until <= now:
            raise TokenRefused("the user's token has expired")
        claims = Claims(
            iss=self.issuer,
            sub=identity.arn,
            aud=self.audience,
            tenant=workload.tenant,
            iat=now,
            exp=min(now + self.seconds, until or now + self.seconds),
            jti=str(uuid.uuid4()),
            born=_born(identity),
            user=workload.user,
            session=workload.session,
            act=act_claim(workload.actors, identity.arn.removesuffix(workload.name)),
            user_token=workload.user_token is not None,
            user_until=until,
        )
        if workload.user_token is not None:
            await self._keep(claims, workload.user_token)
        return self._jwts.sign(claims, ACCESS_TOKEN), claims.exp

    async def read(self, token: str, *, tenant: str) -> Workload:
        payload = await self._jwts.verified(token, ACCESS_TOKEN)
        try:
            claims = msgspec.json.decode(payload, type=Claims)
        except msgspec.DecodeError:
            raise TokenRefused(_NO_LONGER_GOOD) from None
        now = self._now().timestamp()
        if claims.aud != self.audience or claims.tenant != tenant:
            raise TokenRefused("the workload access token is not for use here")
        if claims.exp <= now or claims.iat > now + _CLOCKS_DIFFER_SECONDS:
            raise TokenRefused(_NO_LONGER_GOOD)
        name = identity_name(claims.sub)
        if name is None:
            raise TokenRefused(_NO_LONGER_GOOD)
        await self._check_identity(tenant, name, claims)
        return Workload(
            tenant=tenant,
            name=name,
            user=claims.user,
            user_token=await self._kept(claims) if claims.user_token else None,
            session=claims.session,
            actors=_actors(claims.act),
            user_until=claims.user_until,
        )

    async def assertion(self, workload: Workload, *, audience: str) -> str:
        """Implements `WorkloadAssertions`."""
        if not audience or audience == self.audience:
            raise AccessDenied("an assertion is for somebody else than this platform")
        arn = (await self._identities.get(workload.tenant, workload.name)).arn
        now = int(self._now().timestamp())
        claims = {
            "iss": self.issuer,
            "sub": arn,
            "aud": audience,
            "iat": now,
            "exp": now + ASSERTION_SECONDS,
            "jti": str(uuid.uuid4()),
        }
        return self._jwts.sign(claims, ASSERTION)

    async def _check_identity(self, tenant: str, name: str, claims: Claims) -> None:
        try:
            identity = await self._identities.get(tenant, name)
        except NotFound:
            raise TokenRefused(_NO_LONGER_GOOD) from None
        if claims.born != _born(identity):
            raise TokenRefused(_NO_LONGER_GOOD)

    async def _keep(self, claims: Claims, user_token: str) -> None:
        """Sealed, and only for as long as the token that stands for it."""
        sealed = self._sealer.seal(user_token.encode(), context=_context(claims))
        async with self._database.connection() as connection:
            await store.keep_user_token(
                connection,
                tenant=claims.tenant,
                jti=claims.jti,
                sealed_token=sealed,
                expires_at=datetime.fromtimestamp(claims.exp, UTC),
                now=self._now(),
            )

    async def _kept(self, claims: Claims) -> str:
        async with self._database.connection() as connection:
            sealed = await store.user_token(
                connection, tenant=claims.tenant, jti=claims.jti, now=self._now()
            )
        if sealed is None:
            raise TokenRefused(_NO_LONGER_GOOD)
        try:
            return self._sealer.open(sealed, context=_context(claims)).decode()
        except SealBroken as error:
            log.error("the user's token behind %s cannot be opened: %s", claims.jti, error)
            raise Unavailable("the user's token cannot be read just now") from error


def _born(identity: Resource) -> int:
    return int(identity.created_at.timestamp() * 1_000_000)


def _context(claims: Claims) -> str:
    return f"{claims.tenant}|workload_user_token|{claims.jti}"


def _actors(act: object) -> tuple[str, ...]:
    """The names in an `act` claim of ours, the nearest first."""
    actors: list[str] = []
    while isinstance(act, dict):
        name = identity_name(str(act.get("sub")))
        if name is None or len(actors) >= ACTORS_MAX:
            raise TokenRefused(_NO_LONGER_GOOD)
        actors.append(name)
        act = act.get("act")
    return tuple(actors)
