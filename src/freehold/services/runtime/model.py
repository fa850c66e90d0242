"""Runtimes, versions and endpoints: their shapes, and what follows from their documents."""

from typing import Any

import msgspec

from freehold.kernel.errors import ValidationFailed
from freehold.ports.resources import Document, Resource, ResourceKind
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
    "authorizerConfiguration": "JWT authorizers",
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
    x-source-ip
"""
_HEADERS_RESTRICTED = frozenset(_RESTRICTED.split())
_CUSTOM_HEADER_PREFIX = "x-amzn-bedrock-agentcore-runtime-custom-"


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """What the build of a version left on the machine. Paths are relative to the build root."""

    code: str
    layers: tuple[str, ...]
    interpreter: str


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint resolved: everything an invocation must know of the runtime."""

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


def checked_document(
    params: dict[str, Any], *, idle_seconds: int, lifetime_seconds: int, memory_mib_max: int
) -> Document:
    """The stored document of a version, from the members of a create or an update."""
    for member, what in NOT_YET.items():
        if params.get(member):
            raise ValidationFailed(f"{member}: {what} are not available yet in Freehold")
    artifact = params["agentRuntimeArtifact"]
    if "codeConfiguration" not in artifact:
        raise ValidationFailed(
            "agentRuntimeArtifact: container images are not available yet; use codeConfiguration"
        )
    _check_network(params["networkConfiguration"])
    protocol = params.get("protocolConfiguration") or {"serverProtocol": "HTTP"}
    checked_protocol(protocol)
    _check_headers(params.get("requestHeaderConfiguration") or {})
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
        "resourceConfigurations",
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
            f"networkConfiguration: {network['networkMode']} is not available yet; use PUBLIC"
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


def checked_tier(tags: dict[str, str], *, allowed: frozenset[str]) -> None:
    """`freehold:*` tags are settings: an unknown one or a bad value is an error, not a label."""
    for key, value in tags.items():
        if not key.startswith("freehold:"):
            continue
        if key != "freehold:tier":
            raise ValidationFailed(f"tag {key}: no such setting; there is freehold:tier")
        if value not in allowed:
            raise ValidationFailed(
                f"tag freehold:tier={value}: this platform allows {', '.join(sorted(allowed))}"
            )


def no_settings(tags: dict[str, str]) -> None:
    """For endpoints: of their tags none is a setting."""
    for key in tags:
        if key.startswith("freehold:"):
            raise ValidationFailed(f"tag {key}: an endpoint has no such setting")


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
    code = document["agentRuntimeArtifact"]["codeConfiguration"]
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
        entry_point=tuple(code["entryPoint"]),
        environment=environment,
        idle_seconds=lifecycle["idleRuntimeSessionTimeout"],
        lifetime_seconds=lifecycle["maxLifetime"],
        header_allowlist=allowed_headers(document),
        prepared=msgspec.convert(document["_prepared"], Prepared),
    )
