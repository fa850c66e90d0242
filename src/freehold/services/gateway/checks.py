"""What the model cannot say of a gateway and of a target. All raise ValidationFailed."""

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from freehold.kernel.arns import Arn
from freehold.kernel.errors import NotFound, QuotaExceeded, ValidationFailed
from freehold.kernel.own_addresses import OwnAddresses
from freehold.ports.resources import Resource, Resources
from freehold.ports.targets import Json
from freehold.ports.tokens import check_authorizer
from freehold.services.gateway.documents import has_static_tools, kind_of, member
from freehold.services.gateway.model import MCP_VERSIONS, TOOLS_PER_TARGET_MAX
from freehold.services.gateway.outbound import STDIO
from freehold.services.gateway.ports import Connectors

Params = Mapping[str, Any]

_NOT_YET_OF_GATEWAYS = {
    "kmsKeyArn": "choose the account's key with SetTokenVaultCMK; it seals the credentials of all "
    "its targets",
    "domainOverride": "a gateway has the platform's own address; put a proxy in front for others",
    "wafConfiguration": "there is no AWS WAF here",
    "customTransformConfiguration": "use interceptorConfigurations",
}
_NOT_YET_OF_TARGETS = {
    "privateEndpoint": "the platform reaches what its own network does; the operator lists private "
    "hosts in its settings",
    "certificateConfigurations": "add the certificate to what the platform's machine trusts",
}
_WITH_TOKENS = ("CUSTOM_JWT", "AUTHENTICATE_ONLY")


def check_gateway(params: Params) -> None:
    _refuse(params, _NOT_YET_OF_GATEWAYS)
    authorizer, configuration = params["authorizerType"], params.get("authorizerConfiguration")
    if authorizer in _WITH_TOKENS:
        # What only authenticates leaves it to the target whom it lets in; without rules for tokens
        # it takes signatures.
        only = authorizer == "AUTHENTICATE_ONLY"
        if not configuration and not only:
            raise ValidationFailed(f"authorizerConfiguration: {authorizer} needs one")
        if configuration:
            check_authorizer(configuration, any_token=only)
    elif configuration:
        raise ValidationFailed(f"authorizerConfiguration: {authorizer} takes none")
    mcp = (params.get("protocolConfiguration") or {}).get("mcp") or {}
    unknown = [v for v in mcp.get("supportedVersions") or () if v not in MCP_VERSIONS]
    if unknown:
        raise ValidationFailed(
            f"supportedVersions: {unknown[0]!r} is none of {', '.join(MCP_VERSIONS)}"
        )
    _check_interceptors(params.get("interceptorConfigurations") or ())


def _check_interceptors(configurations: Any) -> None:
    points: set[str] = set()
    for configuration in configurations:
        if "lambda" not in configuration["interceptor"]:
            raise ValidationFailed("interceptorConfigurations: an interceptor is a lambda")
        own = configuration["interceptionPoints"]
        if len(set(own)) != len(own) or points & set(own):
            raise ValidationFailed("interceptorConfigurations: one interceptor for each point")
        points |= set(own)


def _refuse(params: Params, not_yet: Mapping[str, str]) -> None:
    for name, why in not_yet.items():
        if params.get(name):
            raise ValidationFailed(f"{name}: not available in Freehold: {why}")


# -- targets

_NONE = "none at all"
_OAUTH_ALL = frozenset({"CLIENT_CREDENTIALS", "AUTHORIZATION_CODE", "TOKEN_EXCHANGE"})
_OAUTH_CC = frozenset({"CLIENT_CREDENTIALS"})
# By kind: the types that AWS's developer guide gives it ("Set up outbound authorization"), and the
# grants of OAUTH. Wider than there: what needs no credential on a network of one's own (Smithy,
# functions of this platform), and the caller's own where the target is on this platform.
_TYPES: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "mcp.openApiSchema": (
        frozenset({_NONE, "GATEWAY_IAM_ROLE", "OAUTH", "API_KEY"}), _OAUTH_ALL,
    ),
    "mcp.mcpServer": (
        frozenset({_NONE, "GATEWAY_IAM_ROLE", "OAUTH", "API_KEY", "CALLER_IAM_CREDENTIALS"}),
        _OAUTH_ALL,
    ),
    "mcp.smithyModel": (frozenset({_NONE, "GATEWAY_IAM_ROLE", "OAUTH", "API_KEY"}), _OAUTH_CC),
    "mcp.lambda": (frozenset({_NONE, "GATEWAY_IAM_ROLE"}), frozenset()),
    "mcp.connector": (frozenset({_NONE, "GATEWAY_IAM_ROLE", "OAUTH", "API_KEY"}), _OAUTH_ALL),
    "http.agentcoreRuntime": (
        frozenset({"GATEWAY_IAM_ROLE", "CALLER_IAM_CREDENTIALS", "OAUTH", "JWT_PASSTHROUGH"}),
        _OAUTH_CC,
    ),
    "http.passthrough": (
        frozenset(
            {_NONE, "GATEWAY_IAM_ROLE", "CALLER_IAM_CREDENTIALS", "OAUTH", "API_KEY",
             "JWT_PASSTHROUGH"}
        ),
        _OAUTH_ALL,
    ),
    "http.connector": (frozenset({_NONE, "GATEWAY_IAM_ROLE", "OAUTH", "API_KEY"}), _OAUTH_ALL),
    "inference.provider": (
        frozenset({_NONE, "GATEWAY_IAM_ROLE", "OAUTH", "API_KEY", "JWT_PASSTHROUGH"}),
        _OAUTH_ALL,
    ),
    "inference.connector": (frozenset({_NONE, "GATEWAY_IAM_ROLE", "OAUTH", "API_KEY"}), _OAUTH_ALL),
}  # fmt: skip
_PROVIDER_OF = {
    "OAUTH": ("oauthCredentialProvider", "/oauth2credentialprovider/"),
    "API_KEY": ("apiKeyCredentialProvider", "/apikeycredentialprovider/"),
}
_RESERVED = ("inference", "mcp")
_SERVICE_NEEDED = ("mcp.mcpServer", "mcp.openApiSchema")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NOT_PASSED = frozenset(
    [
        "authorization", "connection", "content-length", "cookie", "host", "keep-alive",
        "mcp-session-id", "proxy-authenticate", "proxy-authorization", "set-cookie", "te",
        "trailer", "transfer-encoding", "upgrade",
    ]
)  # fmt: skip


class TargetChecks:
    """`public_url`: this platform's own. `stdio`: whether a tenant may use `stdio:NAME`."""

    def __init__(
        self,
        resources: Resources,
        connectors: Connectors,
        *,
        public_url: str,
        stdio: Callable[[str, str], bool] = lambda tenant, endpoint: False,
    ) -> None:
        self._resources, self._connectors, self._stdio = resources, connectors, stdio
        self._own = OwnAddresses(public_url)

    async def completed(self, params: dict[str, Any]) -> dict[str, Any]:
        """With what a connector knows of its authorization."""
        configuration: Json = params["targetConfiguration"]
        kind, found = kind_of(configuration), member(configuration)
        if kind != "mcp.connector":
            return params
        self._check_connector(kind, found)
        given: list[Json] = params.get("credentialProviderConfigurations") or []
        settled = await self._connectors.settled(found, given)
        return {**params, "credentialProviderConfigurations": settled}

    async def check(self, gateway: Resource, params: Params) -> None:
        if (name := params.get("name")) in _RESERVED:
            raise ValidationFailed(f"name: {name!r} is a path of the gateway's own; take another")
        _refuse(params, _NOT_YET_OF_TARGETS)
        configuration: Json = params["targetConfiguration"]
        kind = kind_of(configuration)
        await self._check_configuration(gateway.tenant, kind, member(configuration))
        given: list[Json] = params.get("credentialProviderConfigurations") or []
        if given:
            await self._check_credential(gateway, configuration, given[0])
        elif _NONE not in _TYPES[kind][0]:
            raise ValidationFailed(
                f"credentialProviderConfigurations: {kind} needs one of {_listed(kind)}"
            )
        _check_metadata(params.get("metadataConfiguration") or {})

    async def _check_configuration(self, tenant: str, kind: str, found: Json) -> None:
        if kind == "mcp.apiGateway":
            raise ValidationFailed(
                "targetConfiguration: Amazon API Gateway is not asked from here; export the "
                "stage's OpenAPI document (aws apigateway get-export) and give it as openApiSchema"
            )
        if kind not in _TYPES:
            raise ValidationFailed(f"targetConfiguration: {kind} is not available in Freehold")
        if kind.endswith(".connector"):
            self._check_connector(kind, found)
        if str(found.get("endpoint", "")).startswith(STDIO):
            if not self._stdio(tenant, found["endpoint"]):
                raise ValidationFailed(
                    f"endpoint: there is no {found['endpoint']} for this account; the operator "
                    "configures such servers (FREEHOLD_STDIO_SERVERS)"
                )
        elif "endpoint" in found:
            self._check_url(found["endpoint"])
            if kind != "mcp.mcpServer" and self._own.is_runtime(found["endpoint"]):
                # Else its callers' session ids would be the gateway's, and so each other's.
                raise ValidationFailed(
                    "endpoint: an agent of this platform is a target as http.agentcoreRuntime"
                )
        if kind == "http.agentcoreRuntime":
            await self._check_runtime(tenant, found["arn"])
        if kind in ("mcp.openApiSchema", "mcp.smithyModel") and not found:
            raise ValidationFailed("targetConfiguration: expected s3 or inlinePayload")
        if kind == "mcp.lambda":
            tools = found["toolSchema"].get("inlinePayload") or ()
            if len(tools) > TOOLS_PER_TARGET_MAX:
                raise QuotaExceeded(
                    f"toolSchema: a target has {TOOLS_PER_TARGET_MAX} tools at most"
                )

    def _check_connector(self, kind: str, found: Json) -> None:
        family: Any = kind.partition(".")[0]
        id, known = found["source"]["connectorId"], self._connectors.ids(family)
        if id not in known:
            raise ValidationFailed(
                f"connectorId: there is no connector {id!r} for {family} targets; there is "
                f"{', '.join(sorted(known)) or 'none'}"
            )

    def _check_url(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            raise ValidationFailed("endpoint: not a URL") from None
        if not host or not url.isprintable() or " " in url:
            raise ValidationFailed("endpoint: not a URL with a host")
        if parts.username is not None or parts.password is not None:
            raise ValidationFailed("endpoint: no user and password; use a credential provider")
        if parts.fragment:
            raise ValidationFailed("endpoint: a URL without a fragment")
        if self._own.is_own(url):
            if not self._own.is_target(url):
                raise ValidationFailed(
                    "endpoint: of this platform, only an agent runtime's URL (/runtimes/ARN/"
                    "invocations) or a gateway's is a target"
                )
        elif parts.scheme == "http" and not _in_own_network(host):
            raise ValidationFailed(f"endpoint: {host} is only asked by https")

    def _is_ours(self, url: str) -> bool:
        return self._own.is_target(url)

    async def _check_runtime(self, tenant: str, arn: str) -> None:
        try:
            found = await self._resources.find_by_arn(tenant, arn)
        except NotFound:
            found = None
        if found is None or found.kind != "agent-runtime":
            raise ValidationFailed(f"arn: there is no agent runtime {arn} in this account")

    # -- credentials

    async def _check_credential(self, gateway: Resource, configuration: Json, given: Json) -> None:
        kind, type = kind_of(configuration), given["credentialProviderType"]
        if str(member(configuration).get("endpoint", "")).startswith(STDIO):
            raise ValidationFailed(
                "credentialProviderConfigurations: a stdio server takes none; what it needs stands "
                "in the operator's file"
            )
        types, grants = _TYPES[kind]
        where = "credentialProviderConfigurations"
        if type not in types:
            raise ValidationFailed(f"{where}: {kind} takes {_listed(kind)}, not {type}")
        provider: Json = given.get("credentialProvider") or {}
        name, part = _PROVIDER_OF.get(type, ("iamCredentialProvider", ""))
        if any(other != name for other in provider):
            raise ValidationFailed(f"{where}: {type} takes {name} alone")
        if type == "GATEWAY_IAM_ROLE":
            self._check_role(kind, member(configuration), provider)
        elif type == "CALLER_IAM_CREDENTIALS":
            self._check_callers_own(kind, member(configuration))
        elif type == "JWT_PASSTHROUGH":
            check_passthrough(gateway.document["authorizerType"])
        else:
            if name not in provider:
                raise ValidationFailed(f"{where}: {type} needs credentialProvider.{name}")
            await self._check_provider(gateway.tenant, provider[name]["providerArn"], part)
        if type == "OAUTH":
            _check_grant(configuration, provider[name], grants)

    def _check_role(self, kind: str, found: Json, provider: Json) -> None:
        if kind not in _SERVICE_NEEDED or self._is_ours(found.get("endpoint", "")):
            return
        if not (provider.get("iamCredentialProvider") or {}).get("service"):
            raise ValidationFailed(
                f"credentialProviderConfigurations: GATEWAY_IAM_ROLE of {kind} needs "
                "credentialProvider.iamCredentialProvider.service, the AWS service to sign for"
            )

    def _check_callers_own(self, kind: str, found: Json) -> None:
        if kind != "http.agentcoreRuntime" and not self._is_ours(found.get("endpoint", "")):
            raise ValidationFailed(
                "credentialProviderConfigurations: CALLER_IAM_CREDENTIALS is for targets on this "
                "platform; a caller's signature cannot be made again for another host"
            )

    async def _check_provider(self, tenant: str, arn: str, part: str) -> None:
        """Of the tenant's own vault: one of another account is as absent as one that never was."""
        parsed = Arn.parse(arn)
        if parsed is not None and not parsed.tenant:
            arn = str(parsed._replace(tenant=tenant))
        try:
            found = await self._resources.find_by_arn(tenant, arn)
        except NotFound:
            found = None
        if found is None or part not in found.arn:
            raise ValidationFailed(
                f"providerArn: there is no {part.strip('/')} {arn} in this account"
            )


def check_passthrough(authorizer: str) -> None:
    if authorizer != "AUTHENTICATE_ONLY":
        raise ValidationFailed(
            "JWT_PASSTHROUGH hands the caller's token on: the gateway's authorizerType must be "
            f"AUTHENTICATE_ONLY, and it is {authorizer}"
        )


def _check_grant(configuration: Json, given: Json, grants: frozenset[str]) -> None:
    grant = given.get("grantType", "CLIENT_CREDENTIALS")
    kind = kind_of(configuration)
    if grant not in grants:
        raise ValidationFailed(f"grantType: {kind} takes {', '.join(sorted(grants))}, not {grant}")
    if kind != "mcp.mcpServer" or grant != "AUTHORIZATION_CODE":
        return
    if member(configuration).get("listingMode") == "DYNAMIC":
        raise ValidationFailed("listingMode: DYNAMIC does not go with AUTHORIZATION_CODE")
    if not given.get("defaultReturnUrl") and not has_static_tools(configuration):
        raise ValidationFailed(
            "defaultReturnUrl: whoever makes the target agrees at the provider first and comes "
            "back there, to an application that calls CompleteResourceTokenAuth; or write the "
            "tools down in mcpToolSchema"
        )


def _check_metadata(metadata: Json) -> None:
    for name in ("allowedRequestHeaders", "allowedResponseHeaders"):
        for header in metadata.get(name) or ():
            if not _TOKEN.fullmatch(header):
                raise ValidationFailed(f"{name}: {header!r} is no header's name")
            if header.lower() in _NOT_PASSED:
                raise ValidationFailed(f"{name}: {header} is not passed on")


def _in_own_network(host: str) -> bool:
    """By its name: whether it is really reached is decided, by its address, when it is asked."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        suffixes = (".internal", ".local", ".localhost", ".lan", ".home.arpa")
        return "." not in host or host.endswith(suffixes)


def _listed(kind: str) -> str:
    return ", ".join(sorted(_TYPES[kind][0] - {_NONE}))
