"""Runtimes, versions and endpoints: their shapes, and what follows from their documents."""

import hashlib
from typing import Any

import msgspec

from freehold.kernel.errors import ValidationFailed
from freehold.ports.egress import SessionEgress
from freehold.ports.resources import Document, Resource, ResourceKind
from freehold.ports.sandbox import Limits
from freehold.ports.tokens import TokenRules, check_authorizer, token_rules
from freehold.services.runtime.protocols import Served, checked_protocol, served_by

DEFAULT_ENDPOINT = "DEFAULT"

RUNTIME = ResourceKind(
    name="agent-runtime", noun="agent runtime", arn_resource="runtime/{id}", versioned=True
)
ENDPOINT = ResourceKind(
    name="agent-runtime-endpoint",
    noun="agent runtime endpoint",
    arn_resource="runtime/{parent}/runtime-endpoint/{name}",
    parent_kind=RUNTIME.name,
)

# Members that change what an agent may do or who may call it: taken only once they are honoured.
NOT_YET = {
    "filesystemConfigurations": "mounted file systems",
    "capacityProviderConfiguration": "capacity providers",
    "hooksConfiguration": "build hooks",
    "allowedPorts": "session URLs with ports of their own",
}

# Names that no agent gets to see, even where a client may send them. Source: AWS's developer
# guide, "Pass custom headers"; the SDK's `runtime/models.py` has the same list.
_RESTRICTED = """
    accept accept-charset accept-encoding accept-language accept-ranges access-control-allow-origin
    access-control-request-headers access-control-request-method cache-control connection
    content-encoding content-language content-length content-location content-range content-type
    cookie date etag expect expires forwarded from host if-match if-modified-since if-none-match
    if-range if-unmodified-since keep-alive last-modified link location origin pragma
    proxy-authorization proxy-connection range referer retry-after server set-cookie te trailer
    transfer-encoding true-client-ip upgrade user-agent vary via www-authenticate x-client-ip
    x-cluster-client-ip x-csrf-token x-forwarded-for x-forwarded-host x-forwarded-proto
    x-original-url x-original-host x-originating-ip x-real-ip x-requested-with x-rewrite-url
    x-source-ip workloadaccesstoken oauth2callbackurl
"""
_HEADERS_RESTRICTED = frozenset(_RESTRICTED.split())
_CUSTOM_HEADER_PREFIX = "x-amzn-bedrock-agentcore-runtime-custom-"


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """What the build of a version left on the machine. Paths are relative to the build root.

    `image` is set for a container image, the others for a code bundle.
    """

    code: str
    layers: tuple[str, ...]
    interpreter: str
    image: str = ""


class Share(msgspec.Struct, frozen=True):
    """A version that `percent` of an endpoint's new sessions go to."""

    percent: int
    deployment: "Deployment"


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint resolved: everything an invocation must know of the runtime.

    `shares`: other versions that some of its sessions go to; see `for_session`.
    """

    tenant: str
    runtime_id: str
    runtime_arn: str
    runtime_name: str
    endpoint: str
    version: int
    tier: str
    served: Served
    entry_point: tuple[str, ...]
    environment: dict[str, str]
    idle_seconds: int
    lifetime_seconds: int
    header_allowlist: frozenset[str]
    prepared: Prepared
    limits: Limits = Limits()
    egress: SessionEgress = SessionEgress()
    shares: tuple[Share, ...] = ()
    token_rules: TokenRules | None = None
    """Which bearer tokens open it. None: signatures do."""
    bearer_shells: bool = False
    captures_content: bool = False

    def for_session(self, session_id: str) -> "Deployment":
        """The version that this session gets: always the same, on every worker. When a share
        grows, the sessions that were in it stay in it."""
        if not self.shares:
            return self
        place = int.from_bytes(hashlib.blake2b(session_id.encode(), digest_size=8).digest()) % 100
        for share in self.shares:
            if place < share.percent:
                return share.deployment
            place -= share.percent
        return self


def checked_document(
    params: dict[str, Any], *, idle_seconds: int, lifetime_seconds: int, memory_mib_max: int
) -> Document:
    """The stored document of a version, from the members of a create or an update."""
    for member, what in NOT_YET.items():
        if params.get(member):
            raise ValidationFailed(f"{member}: {what} are not available yet in Freehold")
    _check_network(params["networkConfiguration"])
    protocol = params.get("protocolConfiguration") or {"serverProtocol": "HTTP"}
    checked_protocol(protocol)
    _check_headers(params.get("requestHeaderConfiguration") or {})
    if authorizer := params.get("authorizerConfiguration"):
        check_authorizer(authorizer)
    lifecycle = {
        "idleRuntimeSessionTimeout": idle_seconds,
        "maxLifetime": lifetime_seconds,
        **(params.get("lifecycleConfiguration") or {}),
    }
    if lifecycle["idleRuntimeSessionTimeout"] > lifecycle["maxLifetime"]:
        raise ValidationFailed(
            "lifecycleConfiguration: idleRuntimeSessionTimeout must not exceed maxLifetime"
        )
    kept = (
        "agentRuntimeArtifact", "roleArn", "networkConfiguration", "description",
        "requestHeaderConfiguration", "metadataConfiguration", "platformVersion", "allowedPorts",
        "resourceConfigurations", "authorizerConfiguration",
    )  # fmt: skip
    document = {k: params[k] for k in kept if params.get(k) is not None}
    document["protocolConfiguration"] = protocol
    document["lifecycleConfiguration"] = lifecycle
    if memory_mib_min(document) > memory_mib_max:
        raise ValidationFailed(
            f"resourceConfigurations: a session has at most {memory_mib_max} MiB here "
            "(FREEHOLD_SESSION_MEMORY_MIB_MAX)"
        )
    return document


def _check_network(network: Document) -> None:
    if network["networkMode"] != "PUBLIC":
        raise ValidationFailed(
            f"networkConfiguration: {network['networkMode']} is not available yet; use PUBLIC, "
            "and the freehold:egress tags for what sessions may reach"
        )


def _check_headers(configuration: Document) -> None:
    for name in configuration.get("requestHeaderAllowlist", ()):
        header = name.lower()
        reserved = header.startswith(("x-amz-", "x-amzn-")) and not header.startswith(
            _CUSTOM_HEADER_PREFIX
        )
        if reserved or header in _HEADERS_RESTRICTED:
            raise ValidationFailed(
                f"requestHeaderConfiguration: {name} is restricted, and never reaches an agent"
            )


def checked_environment(environment: dict[str, str]) -> None:
    """What an operating system cannot pass on is refused now, not when a session starts."""
    for name in environment:
        if "=" in name:
            raise ValidationFailed(f"environmentVariables: the name {name!r} must not have a '='")


def allowed_headers(document: Document) -> frozenset[str]:
    configuration = document.get("requestHeaderConfiguration") or {}
    return frozenset(h.lower() for h in configuration.get("requestHeaderAllowlist", ()))


def memory_mib_min(document: Document) -> int:
    return max(
        (int(r["minimumMemoryInMiB"]) for r in document.get("resourceConfigurations") or ()),
        default=0,
    )


def deployment(runtime: Resource, endpoint: str, environment: dict[str, str]) -> Deployment | None:
    """None while this version was never built."""
    document = runtime.document
    if "_prepared" not in document:
        return None
    code = document["agentRuntimeArtifact"].get("codeConfiguration") or {}
    lifecycle = document["lifecycleConfiguration"]
    return Deployment(
        tenant=runtime.tenant,
        runtime_id=runtime.id,
        runtime_arn=runtime.arn,
        runtime_name=runtime.name,
        endpoint=endpoint,
        version=runtime.version,
        tier=runtime.tags.get("freehold:tier", ""),
        served=served_by(document),
        entry_point=tuple(code.get("entryPoint", ())),
        environment=environment,
        idle_seconds=lifecycle["idleRuntimeSessionTimeout"],
        lifetime_seconds=lifecycle["maxLifetime"],
        header_allowlist=allowed_headers(document),
        prepared=msgspec.convert(document["_prepared"], Prepared),
        token_rules=token_rules(document),
    )
