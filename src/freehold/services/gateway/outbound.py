"""What a gateway shows the targets that it calls, by a target's `credentialProviderConfigurations`.

Nothing here is kept: a credential lives for one call, a token where `services/oauth` keeps it. Who
asks for one is the gateway's own workload identity, for the user of a verified token or a signed-in
person, and never for a user that somebody merely names. Each use is in the audit of whoever gave
it.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from freehold.kernel import tracing
from freehold.kernel.arns import Arn
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import AccessDenied, FreeholdError, Unavailable, ValidationFailed
from freehold.kernel.own_addresses import OwnAddresses
from freehold.ports.inner import InnerCalls
from freehold.ports.oauth import Asked
from freehold.ports.outbound import ApiKeys, AwsRoles, OauthTokens, TokenFlow, TokenWanted
from freehold.ports.targets import Credential, Json, Place
from freehold.ports.workloads import Workload, is_verified
from freehold.services.gateway.agent_sessions import SESSION_HEADER, session_for
from freehold.services.gateway.ports import ConsentNeeded

_FLOWS: Mapping[str, TokenFlow] = {
    "CLIENT_CREDENTIALS": "M2M",
    "AUTHORIZATION_CODE": "USER_FEDERATION",
    "TOKEN_EXCHANGE": "ON_BEHALF_OF_TOKEN_EXCHANGE",
}
_KIND_API_KEY, _KIND_OAUTH = "apikeycredentialprovider", "oauth2credentialprovider"
_PROVIDER_ARN = re.compile(r"token-vault/[A-Za-z0-9-]+/(apikey|oauth2)credentialprovider/([^/:]+)")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_GATEWAY = "gateway"
STDIO = "stdio:"
"""Of the endpoints of MCP servers that the operator configures."""
_WITHOUT_CREDENTIALS = (CallerKind.OAUTH_USER, CallerKind.ANONYMOUS)
_AWS_HOST = re.compile(
    r"(?P<service>[a-z0-9-]+)(?:\.[a-z0-9-]+)*?\.(?P<region>[a-z]{2}(?:-[a-z]+)+-\d)"
    r"\.(?:amazonaws\.com(?:\.cn)?|api\.aws|on\.aws)"
)
# Of these, what stands first in the host's name is not what signatures are for.
_SIGNED_AS = {"execute-api": "execute-api", "lambda-url": "lambda"}
# What a client or the platform says of a request: no key of a tenant's goes by these names.
_NOT_FOR_KEYS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"}
)


class OutboundCredentials:
    """`services/gateway/ports.Outbound`. `public_url` and `region` say what is on this platform."""

    def __init__(
        self,
        *,
        tokens: OauthTokens,
        api_keys: ApiKeys,
        roles: AwsRoles,
        public_url: str,
        region: str,
        inner: InnerCalls | None = None,
    ) -> None:
        self._tokens, self._api_keys, self._roles = tokens, api_keys, roles
        self._own, self._region, self._inner = OwnAddresses(public_url), region, inner
        self._by_type = {
            "GATEWAY_IAM_ROLE": self._role,
            "OAUTH": self._oauth,
            "API_KEY": self._api_key,
            "CALLER_IAM_CREDENTIALS": self._callers_own,
            "JWT_PASSTHROUGH": self._callers_token,
        }

    async def credential(
        self, place: Place, configuration: Json, *, caller: Caller | None, request_id: str
    ) -> Credential:
        if _url(place).startswith(STDIO):
            mark = {SESSION_HEADER: session_for(place, caller)}
            return msgspec.structs.replace(self._as(_gateway(place)), headers=mark)
        if not configuration:
            return Credential()
        kind = configuration.get("credentialProviderType")
        find = self._by_type.get(str(kind))
        if find is None:
            raise ValidationFailed(f"credentialProviderType {kind!r} is not known")
        provider: Json = configuration.get("credentialProvider") or {}
        with tracing.span("credential", attributes=_told(str(kind), provider)) as span:
            name = span.attributes.get("freehold.credential.provider") or str(kind)
            span.name = f"credential {name}"
            try:
                found = await find(place, provider, caller, request_id)
            except ConsentNeeded:
                span.fail("a person's consent is needed")
                raise
            except FreeholdError as error:
                span.fail(error.code)
                raise
        if place.kind == "mcp.mcpServer" and self._own.is_runtime(_url(place)):
            return msgspec.structs.replace(
                found, headers={**found.headers, SESSION_HEADER: session_for(place, caller)}
            )
        return found

    # -- AWS's signatures

    async def _role(
        self, place: Place, provider: Json, caller: Caller | None, request_id: str
    ) -> Credential:
        if place.kind == "mcp.lambda":
            return Credential()  # functions are called as the role
        if self.is_ours(place):
            return self._as(_gateway(place))
        given: Json = provider.get("iamCredentialProvider") or {}
        url = _url(place)
        # What a model says of its service (a Smithy target's), where nobody says otherwise.
        signing: Json = place.server.get("signing") or {}
        service = given.get("service") or signing.get("service")
        region = given.get("region") or signing.get("region")
        if not service or not region:
            found = _service_and_region(urlsplit(url).hostname or "")
            service, region = service or found[0], region or found[1] or self._region
        if not service:
            raise ValidationFailed(
                f"{place.name}: say for which service of AWS's to sign "
                "(credentialProvider.iamCredentialProvider.service)"
            )
        signer = await self._roles.signer(
            place.tenant, place.role_arn, service=service, region=region
        )
        return Credential(signer=signer)

    async def _callers_own(
        self, place: Place, provider: Json, caller: Caller | None, request_id: str
    ) -> Credential:
        """A signature cannot be made again: nobody but its maker has the key."""
        if not self.is_ours(place):
            raise ValidationFailed(
                f"{place.name}: CALLER_IAM_CREDENTIALS is for targets on this platform; whoever "
                "calls keeps their secret key, so nothing can be signed with it for another host"
            )
        if caller is None:
            return self._as(_gateway(place))  # to see what it offers
        if caller.tenant != place.tenant or caller.kind in _WITHOUT_CREDENTIALS:
            raise AccessDenied(f"{place.name} is called by principals of its own account alone")
        return self._as(caller, owner=caller.principal)

    def _as(self, caller: Caller, owner: str = _GATEWAY) -> Credential:
        """It never leaves the process, so that nothing secret is needed."""
        signer = None if self._inner is None else self._inner.signer(caller)
        return Credential(owner=owner, signer=signer)

    def is_ours(self, place: Place) -> bool:
        """Whether the target is a function or a runtime of the same account on this platform; or
        a runtime or a gateway by its URL here, of whatever account: its own policy decides then."""
        arn = _arn(place.configuration)
        if arn is not None:
            parsed = Arn.parse(arn)
            return (
                parsed is not None
                and (parsed.region, parsed.tenant) == (self._region, place.tenant)
                and parsed.service in ("bedrock-agentcore", "lambda")
            )
        return self._own.is_target(_url(place))

    # -- what the caller brought

    async def _callers_token(
        self, place: Place, provider: Json, caller: Caller | None, request_id: str
    ) -> Credential:
        if caller is None:
            return Credential()
        if caller.kind is not CallerKind.OAUTH_USER or not caller.token:
            raise AccessDenied(
                f"{place.name} gets the token that its caller brings: call with a bearer token"
            )
        return Credential(owner=_owner(caller), headers=_bearer(caller.token, place))

    # -- what the vault keeps

    async def _api_key(
        self, place: Place, provider: Json, caller: Caller | None, request_id: str
    ) -> Credential:
        given: Json = provider.get("apiKeyCredentialProvider") or {}
        name = _provider_name(given, place.tenant, _KIND_API_KEY)
        key = await self._api_keys.api_key_for(
            _workload(place, None), name, caller=caller or _itself(place), request_id=request_id
        )
        prefix = given.get("credentialPrefix")
        if given.get("credentialLocation") == "QUERY_PARAMETER":
            value = f"{prefix} {key}" if prefix else key
            return Credential(query={given.get("credentialParameterName") or "api_key": value})
        parameter = given.get("credentialParameterName") or "Authorization"
        if prefix is None and parameter.lower() == "authorization":
            prefix = "Bearer"
        if not _HEADER.fullmatch(parameter) or parameter.lower() in _NOT_FOR_KEYS:
            raise ValidationFailed(f"{place.name}: {parameter!r} is no header for a key")
        value = f"{prefix} {key}" if prefix else key
        return Credential(headers={parameter: _in_header(value, place)})

    async def _oauth(
        self, place: Place, provider: Json, caller: Caller | None, request_id: str
    ) -> Credential:
        given: Json = provider.get("oauthCredentialProvider") or {}
        grant = given.get("grantType") or "CLIENT_CREDENTIALS"
        flow = _FLOWS.get(grant)
        if flow is None:
            raise ValidationFailed(f"grantType {grant!r} is not known")
        of_user = flow != "M2M"
        workload = _workload(place, caller if of_user else None)
        if of_user:
            _check_user(workload, grant, place)
        outcome = await self._tokens.token_for(
            workload,
            TokenWanted(
                provider=_provider_name(given, place.tenant, _KIND_OAUTH),
                flow=flow,
                asked=_asked(given),
                return_url=given.get("defaultReturnUrl") if flow == "USER_FEDERATION" else None,
            ),
            caller=caller or _itself(place),
            request_id=request_id,
        )
        if outcome.access_token:
            owner = _owner(caller) if of_user and caller is not None else _GATEWAY
            return Credential(owner=owner, headers=_bearer(outcome.access_token, place))
        if outcome.authorization_url:
            raise ConsentNeeded(outcome.authorization_url, outcome.session_uri or "")
        raise Unavailable(f"{place.name}: the authorization server gave no token")


# -- who asks


def _workload(place: Place, caller: Caller | None) -> Workload:
    """The gateway's own identity; with a `caller`, for the user that we ourselves made out."""
    user, token, until = None, None, None
    if caller is not None and caller.kind is CallerKind.OAUTH_USER:
        # A token that another account's authorizer took is of a stranger here.
        if caller.user and is_verified(caller.user):
            user, token = caller.user, caller.token
            expires_at = caller.claims.get("exp")
            until = float(expires_at) if isinstance(expires_at, int | float) else None
    elif (
        caller is not None
        and caller.kind in (CallerKind.PERSON, CallerKind.ADMIN)
        and caller.tenant == place.tenant
    ):
        issuer, subject = caller.claims.get("iss"), caller.claims.get("sub")
        user = f"{issuer}|{subject}" if issuer and subject else caller.user
    return Workload(
        tenant=place.tenant, name=place.gateway_id, user=user, user_token=token, user_until=until
    )


def _check_user(workload: Workload, grant: str, place: Place) -> None:
    if workload.user is None:
        raise AccessDenied(
            f"{place.name} is called on behalf of a user ({grant}): call the gateway with the "
            "user's bearer token, or signed in"
        )
    if grant == "TOKEN_EXCHANGE" and workload.user_token is None:
        raise AccessDenied(
            f"{place.name} exchanges its caller's token: call the gateway with a bearer token"
        )


def _gateway(place: Place) -> Caller:
    return Caller(tenant=place.tenant, principal=place.gateway_arn, kind=CallerKind.GATEWAY)


def _itself(place: Place) -> Caller:
    """The platform asks, to see what a target offers."""
    return Caller(tenant=place.tenant, principal=place.gateway_arn, kind=CallerKind.ADMIN)


def _owner(caller: Caller) -> str:
    return caller.user or caller.principal


# -- reading a configuration


def _told(kind: str, provider: Json) -> dict[str, Any]:
    """What a span may say: which one and how, and nothing of its value."""
    told: dict[str, Any] = {"freehold.credential.kind": kind}
    for member in ("oauthCredentialProvider", "apiKeyCredentialProvider"):
        given: Json = provider.get(member) or {}
        if found := _PROVIDER_ARN.search(str(given.get("providerArn", ""))):
            told["freehold.credential.provider"] = found[2]
        if grant := given.get("grantType"):
            told["freehold.credential.flow"] = str(grant)
    return told


def _provider_name(given: Json, tenant: str, kind: str) -> str:
    """Of the tenant's own vault, whatever ARN is named."""
    arn = Arn.parse(str(given.get("providerArn", "")))
    found = _PROVIDER_ARN.fullmatch(arn.resource) if arn is not None else None
    if arn is None or found is None or f"{found[1]}credentialprovider" != kind:
        raise ValidationFailed(f"providerArn is not the ARN of an {kind}")
    if arn.tenant not in ("", tenant):
        raise AccessDenied("providerArn names a credential provider of another account")
    return found[2]


def _asked(given: Json) -> Asked:
    """`customParameters` that RFC 8707 and 8693 have names for are those."""
    more = {str(k): str(v) for k, v in (given.get("customParameters") or {}).items()}
    resource, audience = more.pop("resource", None), more.pop("audience", None)
    return Asked(
        scopes=tuple(given.get("scopes") or ()),
        resources=(resource,) if resource else (),
        audiences=(audience,) if audience else (),
        parameters=more,
    )


def _bearer(token: str, place: Place) -> dict[str, str]:
    return {"Authorization": _in_header(f"Bearer {token}", place)}


def _in_header(value: str, place: Place) -> str:
    if not value.isprintable() or not value.isascii():
        raise ValidationFailed(f"{place.name}: its credential cannot stand in a header")
    return value


def _arn(configuration: Json) -> str | None:
    for member in ("lambdaArn", "arn", "agentRuntimeArn", "runtimeArn"):
        if isinstance(found := configuration.get(member), str):
            return found
    return None


def _url(place: Place) -> str:
    found: Any = place.configuration.get("endpoint") or place.configuration.get("url") or ""
    return str(found)


def _service_and_region(host: str) -> tuple[str, str]:
    """By the names of AWS's hosts: `dynamodb.us-east-1.amazonaws.com`, `x.execute-api. ...`."""
    found = _AWS_HOST.fullmatch(host)
    if found is None:
        return "", ""
    labels = host.split(".")
    for label, service in _SIGNED_AS.items():
        if label in labels:
            return service, found["region"]
    return found["service"], found["region"]
