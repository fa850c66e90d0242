"""Documents inside a target's configuration: API descriptions and schemas, inline or on S3.

The resource keeps the configuration without what is inline, which may be a megabyte and which
only a description reads.
"""

import copy
from typing import Any

import msgspec

from freehold.kernel.errors import QuotaExceeded, ValidationFailed
from freehold.ports.targets import Json
from freehold.services.gateway.model import INLINE_SCHEMA_BYTES_MAX
from freehold.services.gateway.ports import Documents

S3_DOCUMENT_BYTES_MAX = 10 << 20
_INLINE = "inlinePayload"
# Where, in the member of the union, the source of the document is: {"s3"} or {"inlinePayload"}.
_SOURCES: dict[str, tuple[str, ...]] = {
    "mcp.openApiSchema": (),
    "mcp.smithyModel": (),
    "mcp.lambda": ("toolSchema",),
    "mcp.mcpServer": ("mcpToolSchema",),
    "http.agentcoreRuntime": ("schema", "source"),
    "http.passthrough": ("schema", "source"),
}


def kind_of(configuration: Json) -> str:
    """ "mcp.openApiSchema" and the like, of a TargetConfiguration."""
    first, inner = next(iter(configuration.items()))
    return f"{first}.{next(iter(inner))}"


def member(configuration: Json) -> Json:
    """What `kind_of` names."""
    found: Json = next(iter(next(iter(configuration.values())).values()))
    return found


def detached(configuration: Json) -> tuple[Json, Any | None]:
    """Without the inline document, and that. Raises QuotaExceeded."""
    configuration = copy.deepcopy(configuration)
    source = _source(kind_of(configuration), member(configuration))
    document = None if source is None else source.pop(_INLINE, None)
    if document is not None:
        text = document if isinstance(document, str) else msgspec.json.encode(document)
        size = len(text.encode("utf-8", "replace") if isinstance(text, str) else text)
        if size > INLINE_SCHEMA_BYTES_MAX:
            raise QuotaExceeded(
                f"an inline schema has {INLINE_SCHEMA_BYTES_MAX >> 20} MB at most, this one has "
                f"{size} bytes; put it on S3 and name it by its s3:// URI"
            )
    return configuration, document


def attached(configuration: Json, document: Any | None) -> Json:
    if document is None:
        return configuration
    configuration = copy.deepcopy(configuration)
    source = _source(kind_of(configuration), member(configuration))
    if source is not None:
        source[_INLINE] = document
    return configuration


def has_static_tools(configuration: Json) -> bool:
    """Of an MCP server whose tools are written down in its configuration."""
    return kind_of(configuration) == "mcp.mcpServer" and "mcpToolSchema" in member(configuration)


async def resolved(
    configuration: Json, document: Any | None, *, tenant: str, documents: Documents
) -> Json:
    """The member of the union, with its document as `inlinePayload` wherever it was.
    Raises ValidationFailed."""
    kind = kind_of(configuration)
    found = copy.deepcopy(member(configuration))
    source = _source(kind, found)
    if source is None:
        return found
    if "s3" in source:
        document = await _read(source.pop("s3"), tenant, documents)
        if kind == "mcp.lambda":
            document = _tools(document)
    if document is not None:
        source[_INLINE] = document
    return found


async def _read(place: Json, tenant: str, documents: Documents) -> str:
    uri = place.get("uri")
    if not uri:
        raise ValidationFailed("s3: uri is missing")
    if place.get("bucketOwnerAccountId", tenant) != tenant:
        raise ValidationFailed(f"{uri}: documents are read from the account's own buckets alone")
    content = await documents.read(tenant, uri, bytes_max=S3_DOCUMENT_BYTES_MAX)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValidationFailed(f"{uri}: the document is not UTF-8 text") from None


def _tools(text: str) -> list[Json]:
    try:
        tools = msgspec.json.decode(text)
        tools = tools.get("tools") if isinstance(tools, dict) else tools
        return msgspec.convert(tools, list[dict[str, Any]])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise ValidationFailed(f"toolSchema: expected a JSON array of tools: {error}") from None


def _source(kind: str, found: Json) -> Json | None:
    """The source inside `found`: the member's own dict, so that a change is one of it."""
    if kind not in _SOURCES:
        return None
    inner: Json | None = found
    for step in _SOURCES[kind]:
        inner = inner.get(step) if inner is not None else None
    return inner
