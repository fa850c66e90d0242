"""AgentCore Identity, put together once a worker."""

from collections.abc import Sequence
from datetime import timedelta

import msgspec

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.postgres.resource_sql import CHANNEL as RESOURCES_CHANNEL
from freehold.edges.native.openapi import PREFIX
from freehold.kernel.operation import Operation
from freehold.kernel.request import Handler
from freehold.ports.authorizer import Authorizer
from freehold.ports.resources import Resources
from freehold.ports.secrets import Sealer
from freehold.ports.tokens import TokenRules, TokenVerifier
from freehold.services.identity import api, native
from freehold.services.identity.grants import TokenGrants
from freehold.services.identity.issuers import TrustedIssuers
from freehold.services.identity.keys import KeySchedule, SigningKeys
from freehold.services.identity.ports import RuntimeAuthorizers
from freehold.services.identity.service import WorkloadIdentities
from freehold.services.identity.sessions import SessionIdentities
from freehold.services.identity.tokens import WorkloadTokenService
from freehold.services.runtime.model import RUNTIME
from freehold.settings import Settings, SettingsError, variable

_KEPT_BEYOND = timedelta(minutes=10)


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """`tokens` is `ports.workloads.WorkloadTokens`, and `WorkloadAssertions` too. `keys` is to be
    opened after the database and closed before it."""

    keys: SigningKeys
    identities: WorkloadIdentities
    tokens: WorkloadTokenService
    sessions: SessionIdentities


def make_identity(
    settings: Settings,
    database: PostgresDatabase,
    sealer: Sealer,
    resources: Resources,
    authorizer: Authorizer,
) -> Identity:
    identities = WorkloadIdentities(resources, region=settings.region)
    database.listen(RESOURCES_CHANNEL, identities.heard_change)
    rotation = timedelta(days=settings.signing_key_days)
    schedule = KeySchedule(
        rotation=rotation,
        ahead=min(rotation / 2, timedelta(days=1)),
        kept=timedelta(seconds=settings.workload_token_seconds) + _KEPT_BEYOND,
    )
    keys = SigningKeys(database, sealer, schedule)
    tokens = WorkloadTokenService(
        database,
        sealer,
        keys=keys,
        identities=identities,
        issuer=settings.public_url + PREFIX,
        seconds=settings.workload_token_seconds,
    )
    sessions = SessionIdentities(tokens, identities, authorizer=authorizer)
    return Identity(keys=keys, identities=identities, tokens=tokens, sessions=sessions)


def make_grants(
    settings: Settings,
    database: PostgresDatabase,
    resources: Resources,
    identity: Identity,
    *,
    authorizers: RuntimeAuthorizers,
    verifier: TokenVerifier,
) -> TokenGrants:
    issuers = TrustedIssuers(
        resources,
        runtime_kind=RUNTIME,
        authorizers=authorizers,
        everywhere=trusted_everywhere(settings.user_token_issuers),
    )
    database.listen(RESOURCES_CHANNEL, issuers.heard_change)
    return TokenGrants(identity.tokens, identity.identities, issuers=issuers, verifier=verifier)


def identity_handlers(identity: Identity, grants: TokenGrants) -> dict[str, Handler]:
    return api.handlers(identity.identities, grants)


def identity_operations(identity: Identity) -> list[Operation]:
    return native.operations(identity.tokens, identity.keys)


def trusted_everywhere(text: str) -> Sequence[TokenRules]:
    """From `user_token_issuers`. Without an audience every application's tokens would do."""
    rules = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        url, *audiences = entry.split()
        if not audiences or "/.well-known/" not in url:
            raise SettingsError(
                f"{variable('user_token_issuers')}: {entry!r} is not the address of a discovery "
                "document (https://.../.well-known/openid-configuration), a space and an audience"
            )
        rules.append(TokenRules(discovery_url=url, audiences=frozenset(audiences)))
    return rules
