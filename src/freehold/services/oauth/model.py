"""Grants and authorization sessions: what they are for, how they stand, how long they last."""

import hashlib
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from freehold.ports.credentials import Oauth2Provider
from freehold.ports.oauth import Asked, Tokens
from freehold.ports.workloads import Workload, is_verified

SESSION_URN = "urn:ietf:params:oauth:request_uri:"
SESSION_MINUTES = 10
"""A person has this long to sign in at the provider and agree."""
FINISHED_KEPT = timedelta(hours=1)
"""An agent that polls still learns how it ended."""
OPEN_SESSIONS_MAX = 20
"""Of one user and agent: the oldest goes when there is one more."""

RENEWAL_SECONDS = 25.0
"""Who renews a grant has this long; then, if it died, another may. Longer than the client takes."""
_EARLY_SECONDS = 60.0
_UNSAID_SECONDS = 900.0


class Flow(StrEnum):
    M2M = "M2M"
    USER_FEDERATION = "USER_FEDERATION"
    ON_BEHALF_OF = "ON_BEHALF_OF_TOKEN_EXCHANGE"


class Phase(StrEnum):
    ASKED = "ASKED"
    UNDER_WAY = "UNDER_WAY"
    """The browser went to the provider."""
    CODE = "CODE"
    """It came back; who sat before it is yet to be proven."""
    REDEEMING = "REDEEMING"
    GRANTED = "GRANTED"
    FAILED = "FAILED"
    DENIED = "DENIED"


OPEN = (Phase.ASKED, Phase.UNDER_WAY, Phase.CODE, Phase.REDEEMING)


class GrantKey(msgspec.Struct, frozen=True, kw_only=True):
    """All that a grant is for. Another of any of these is another grant.

    `user` is "" for an agent's own, "id:..." for one that a caller vouched for and "jwt:..." for
    the "{issuer}|{subject}" of a verified token: neither can pass for the other. `subject` is a
    digest of the exchanged token. `client` names the client at the provider, and the provider as it
    was made once: another's grants are of no use, but a new secret changes none.
    """

    tenant: str
    provider: str
    client: str
    workload: str
    user: str
    flow: Flow
    scopes: tuple[str, ...]
    resources: tuple[str, ...]
    audiences: tuple[str, ...]
    parameters: tuple[tuple[str, str], ...] = ()
    subject: str = ""

    @property
    def id(self) -> str:
        # JSON, so that no two keys are written the same.
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()

    @classmethod
    def of(
        cls, flow: Flow, workload: Workload, provider: Oauth2Provider, asked: Asked
    ) -> "GrantKey":
        user = "" if flow is Flow.M2M else user_of(workload)
        exchanged = workload.user_token if flow is Flow.ON_BEHALF_OF else None
        return cls.made(
            flow, provider, asked, tenant=workload.tenant, workload=workload.name, user=user,
            subject="" if exchanged is None else digest(exchanged).hex(),
        )  # fmt: skip

    @classmethod
    def made(
        cls,
        flow: Flow,
        provider: Oauth2Provider,
        asked: Asked,
        *,
        tenant: str,
        workload: str,
        user: str,
        subject: str = "",
    ) -> "GrantKey":
        # A person's consent does not depend on how the provider's page was asked to look.
        federated = flow is Flow.USER_FEDERATION
        return cls(
            tenant=tenant,
            provider=provider.name,
            client=f"{provider.client_id} {provider.token_endpoint} {provider.callback_id}",
            workload=workload,
            user=user,
            flow=flow,
            scopes=tuple(sorted(set(asked.scopes))),
            resources=tuple(sorted(set(asked.resources))),
            audiences=tuple(sorted(set(asked.audiences))),
            parameters=() if federated else tuple(sorted(asked.parameters.items())),
            subject=subject,
        )


def user_of(workload: Workload) -> str:
    if workload.user is None:
        return ""
    return f"{'jwt' if is_verified(workload.user) else 'id'}:{workload.user}"


def digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """As sealed. A token is good until `expires_at`, and renewed from `renew_at` on; both None
    where the provider gave it no end."""

    access_token: str
    refresh_token: str | None
    renew_at: datetime | None
    expires_at: datetime | None

    def __repr__(self) -> str:
        return f"Grant(until {self.expires_at})"

    def fresh(self, now: datetime) -> bool:
        return self.renew_at is None or now < self.renew_at

    def valid(self, now: datetime) -> bool:
        return self.expires_at is None or now < self.expires_at

    @classmethod
    def of(
        cls, tokens: Tokens, now: datetime, *, flow: Flow, earlier: str | None = None
    ) -> "Grant":
        """`earlier`: the refresh token that stays good where the answer has no other."""
        refresh_token = tokens.refresh_token or earlier
        lasts = tokens.expires_in
        if lasts is None and (refresh_token is not None or flow is not Flow.USER_FEDERATION):
            lasts = _UNSAID_SECONDS  # we can have another: better than to find out by a failure
        if lasts is None:
            return cls(
                access_token=tokens.access_token, refresh_token=None, renew_at=None, expires_at=None
            )
        early = min(_EARLY_SECONDS, lasts / 5)
        return cls(
            access_token=tokens.access_token,
            refresh_token=refresh_token,
            renew_at=now + timedelta(seconds=lasts - early),
            expires_at=now + timedelta(seconds=lasts),
        )


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A grant's row. `sealed` is None until the first token came; `renewal` says who fetches."""

    version: int
    sealed: bytes | None
    renewal: str | None
    renewal_left_seconds: float


class Secrets(msgspec.Struct, frozen=True, kw_only=True):
    """Of a session, as sealed."""

    parameters: dict[str, str] = {}
    custom_state: str | None = None
    verifier: str | None = None
    code: str | None = None

    def __repr__(self) -> str:
        return "Secrets(...)"


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """An authorization under way. `return_url` is the application's; None: the console's page."""

    tenant: str
    id: str
    grant_id: str
    provider: str
    workload: str
    user: str
    scopes: tuple[str, ...]
    resources: tuple[str, ...]
    audiences: tuple[str, ...]
    return_url: str | None
    redirect_uri: str
    phase: Phase
    failure: str
    sealed: bytes | None
    browser_hash: bytes | None
    expires_at: datetime

    def __repr__(self) -> str:
        return f"Session({self.tenant}, {self.id[:8]}..., {self.phase})"

    @property
    def uri(self) -> str:
        return SESSION_URN + self.id

    @property
    def context(self) -> str:
        return f"oauth_session|{self.id}"

    @property
    def asked(self) -> Asked:
        return Asked(scopes=self.scopes, resources=self.resources, audiences=self.audiences)


def session_id(uri: str) -> str:
    return uri.removeprefix(SESSION_URN)


def shown_user(user: str) -> str:
    """Without our mark of how it is known."""
    return user.partition(":")[2]
