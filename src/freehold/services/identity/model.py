"""Workload identities, what their tokens claim, and the two kinds of users that they name."""

from datetime import datetime

import msgspec

from freehold.kernel.arns import Arn, agentcore_arn
from freehold.kernel.errors import ValidationFailed
from freehold.ports.resources import ResourceKind
from freehold.ports.tokens import TokenRefused
from freehold.ports.workloads import ISSUER

RUNTIME_KIND = "agent-runtime"
_DIRECTORY = "workload-identity-directory/default/workload-identity/"

WORKLOAD_IDENTITY = ResourceKind(
    name="workload-identity", noun="workload identity", arn_resource=_DIRECTORY + "{name}"
)
# The same kind, in the same list; the runtime is its parent, so that it goes with the runtime in
# one transaction, and no identity is made for a runtime that is gone.
OF_RUNTIME = msgspec.structs.replace(WORKLOAD_IDENTITY, parent_kind=RUNTIME_KIND)
OF_GATEWAY = msgspec.structs.replace(WORKLOAD_IDENTITY, parent_kind="gateway")

ACTORS_MAX = 8
RETURN_URLS_MAX = 100
_SCRIPTS = ("javascript:", "data:", "vbscript:")


class SigningKey(msgspec.Struct, frozen=True, kw_only=True):
    """As stored. It signs from `signs_from` until its successor does."""

    id: str
    sealed_private: bytes
    signs_from: datetime

    def __repr__(self) -> str:
        return f"SigningKey({self.id}, {self.signs_from})"


class Claims(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of a workload access token. `act` (RFC 8693): the workload that called this one, in which
    the one that called that stands, and so on. `user_token`: the user's JWT is kept under `jti`.
    `user_until`: when the user's own token ends, and so every one that is derived from it.
    `born`: when the identity was made, in microseconds: a later one of the same name is another.
    """

    iss: str
    sub: str
    aud: str
    tenant: str
    iat: int
    exp: int
    jti: str
    born: int
    user: str | None = None
    session: str | None = None
    act: dict[str, object] | None = None
    user_token: bool = False
    user_until: int | None = None


def identity_arn(region: str, tenant: str, name: str) -> str:
    return agentcore_arn(region, tenant, _DIRECTORY + name)


def arn_of_runtime(runtime_arn: str) -> str:
    """Of the identity that belongs to an agent runtime: it has the runtime's id for a name."""
    arn = Arn.parse(runtime_arn)
    assert arn is not None, "an agent runtime's ARN is one"
    return str(arn._replace(resource=_DIRECTORY + arn.resource.rpartition("/")[2]))


def identity_name(arn: str) -> str | None:
    """From a workload identity's ARN."""
    parsed = Arn.parse(arn)
    if parsed is None or not parsed.resource.startswith(_DIRECTORY):
        return None
    return parsed.resource.removeprefix(_DIRECTORY)


def checked_user_id(user: str) -> str:
    """Of a user that a caller vouches for. Users of verified tokens have another form, so that
    no word of a caller can stand for a token."""
    if not user or len(user) > 128 or not user.isprintable():
        raise ValidationFailed("a user id has 1 to 128 printable characters")
    if ISSUER.match(user):
        raise ValidationFailed(
            "a user id does not begin with an issuer and '|': that is the form of users whose "
            "token was verified (GetWorkloadAccessTokenForJWT)"
        )
    return user


def verified_user(issuer: str, subject: str) -> str:
    """ "{issuer}|{subject}", or TokenRefused where that could be read as a user id of the other
    kind."""
    user = f"{issuer}|{subject}"
    if not issuer or not subject or not ISSUER.match(f"{issuer}|") or not user.isprintable():
        raise TokenRefused("the token does not say who its user is (iss, sub)")
    return user


def checked_return_urls(urls: list[str]) -> list[str]:
    if len(urls) > RETURN_URLS_MAX:
        raise ValidationFailed(
            f"allowedResourceOauth2ReturnUrls: at most {RETURN_URLS_MAX} are possible"
        )
    for url in urls:
        if url.lower().startswith(_SCRIPTS) or "#" in url:
            raise ValidationFailed(
                f"allowedResourceOauth2ReturnUrls: a browser cannot be sent to {url!r}"
            )
    return list(dict.fromkeys(urls))


def act_claim(actors: tuple[str, ...], tenant_arn: str) -> dict[str, object] | None:
    """`actors`: names of the tenant's workloads, the nearest first."""
    claim: dict[str, object] | None = None
    for name in reversed(actors):
        claim = {"sub": tenant_arn + name} | ({"act": claim} if claim else {})
    return claim
