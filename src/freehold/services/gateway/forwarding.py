"""What of a call goes on to a target that is no MCP server's, and what of its answer comes back.

Named lists alone decide: what stands in none of them stays here. Neither way has the headers of a
single connection, and inbound credentials end at the gateway.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from freehold.kernel.errors import ValidationFailed
from freehold.ports.targets import Json

_PATH_LENGTH_MAX = 4096

_NEVER: Final = frozenset(
    {
        # Browsers send us those of the console, which has the same host.
        "cookie", "cookie2",
        "authorization", "connection", "content-length", "expect", "host", "keep-alive",
        "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade", "accept-encoding",
        # Of a signature that was made for us.
        "x-amz-date", "x-amz-security-token", "x-amz-content-sha256",
        "x-amz-bedrock-agentcore-identity-wat", "workloadaccesstoken",
    }
)  # fmt: skip
_ASKED = frozenset(
    {
        "accept", "accept-language", "baggage", "content-encoding", "content-language",
        "content-type", "idempotency-key", "if-match", "if-modified-since", "if-none-match",
        "if-unmodified-since", "last-event-id", "range", "traceparent", "tracestate", "user-agent",
    }
)  # fmt: skip
_ASKED_BY_PROTOCOL = {
    "MCP": frozenset({"mcp-method", "mcp-name", "mcp-protocol-version", "mcp-session-id"}),
    "A2A": frozenset({"a2a-extensions", "a2a-version", "x-a2a-extensions"}),
    "INFERENCE": frozenset({"anthropic-beta", "anthropic-version", "openai-beta"}),
}
_ANSWERED = frozenset(
    {
        "accept-ranges", "a2a-extensions", "a2a-version", "allow", "cache-control",
        "content-disposition", "content-encoding", "content-language", "content-length",
        "content-range", "content-type", "etag", "expires", "last-modified", "location",
        "mcp-protocol-version", "mcp-session-id", "openai-processing-ms", "request-id",
        "retry-after", "retry-after-ms", "vary", "x-a2a-extensions", "x-request-id",
        "x-should-retry",
    }
)  # fmt: skip
_ANSWERED_PREFIXES = ("anthropic-ratelimit-", "x-ratelimit-")
_NEVER_ANSWERED: Final = (_NEVER - {"content-length"}) | {
    # What a browser would take for the platform's own word, for its pages have the same host.
    "clear-site-data", "content-security-policy", "refresh", "service-worker-allowed",
    "set-cookie", "set-cookie2", "strict-transport-security", "x-content-type-options",
}  # fmt: skip
_CREDENTIALS_OF_A_QUERY = re.compile(r"x-amz-.*|access_token", re.IGNORECASE)
_STICKY = re.compile(r"\$\.?context\.header\.([A-Za-z0-9-]{1,100})")
_SESSION_HEADERS = ("x-amzn-bedrock-agentcore-runtime-session-id", "mcp-session-id")


def checked_path(path: str) -> str:
    """A raw path that means one place to everybody: raises ValidationFailed for one that might
    climb out of where it is put."""
    decoded = path
    for _ in range(3):  # some servers decode twice
        again = unquote(decoded, errors="surrogateescape")
        if again == decoded:
            break
        decoded = again
    if (
        len(path) > _PATH_LENGTH_MAX
        or not path.startswith("/")
        or "\\" in decoded
        or any(segment.partition(";")[0] in (".", "..") for segment in decoded.split("/"))
        or any(ord(character) < 0x21 or ord(character) == 0x7F for character in path)
        or any(ord(character) < 0x20 for character in decoded)
        or any(character in path for character in "?#")
    ):
        raise ValidationFailed("The path is not one that is passed on.")
    return path


def asked_headers(
    headers: Mapping[str, str], allowed: frozenset[str], protocol: str = ""
) -> dict[str, str]:
    """Of the client's; `allowed` as the target's metadataConfiguration has them, lower case."""
    further = allowed | _ASKED_BY_PROTOCOL.get(protocol, frozenset())
    connection = {each.strip().lower() for each in headers.get("connection", "").split(",")}
    return {
        name: value
        for name, value in headers.items()
        if (name in _ASKED or name in further) and name not in _NEVER and name not in connection
    }


def answered_headers(headers: Mapping[str, str], allowed: frozenset[str]) -> dict[str, str]:
    return {
        name: value
        for name, value in headers.items()
        if (name in _ANSWERED or name in allowed or name.startswith(_ANSWERED_PREFIXES))
        and name not in _NEVER_ANSWERED
    }


def target_url(configuration: Json, rest: str, query: str, allowed: frozenset[str]) -> str:
    """`rest` is checked already. A client's parameters go along, all but what is a credential, or
    where there is a list, those of the list; the configured ones win or give way as configured."""
    base, _, own_query = str(configuration["endpoint"]).partition("?")
    pairs = [
        pair
        for pair in query.split("&")
        if pair and _query_passes(unquote(pair.partition("=")[0].replace("+", " ")), allowed)
    ]
    static = configuration.get("staticQueryParameters") or {}
    if static:
        wins = configuration.get("staticQueryParameterConflictResolution") == "STATIC_OVERRIDE"
        pairs, static = _settled(pairs, static, static_wins=wins)
        pairs += [f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in static]
    whole = "&".join(([own_query] if own_query else []) + pairs)
    url = base.rstrip("/") + rest
    return f"{url}?{whole}" if whole else url


def _settled(
    pairs: list[str], static: Mapping[str, str], *, static_wins: bool
) -> tuple[list[str], list[tuple[str, str]]]:
    named = {unquote(pair.partition("=")[0].replace("+", " ")) for pair in pairs}
    if static_wins:
        kept = [p for p in pairs if unquote(p.partition("=")[0].replace("+", " ")) not in static]
        return kept, list(static.items())
    return pairs, [(name, value) for name, value in static.items() if name not in named]


def _query_passes(name: str, allowed: frozenset[str]) -> bool:
    return name in allowed if allowed else not _CREDENTIALS_OF_A_QUERY.fullmatch(name)


def with_query(url: str, added: Mapping[str, str]) -> str:
    """A credential's parameters, in place of any that the client may have named alike."""
    if not added:
        return url
    base, _, query = url.partition("?")
    pairs = [p for p in query.split("&") if p and unquote(p.partition("=")[0]) not in added]
    pairs += [f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in added.items()]
    return f"{base}?{'&'.join(pairs)}"


def returned_location(location: str, url: str, endpoint: str, own: str) -> str | None:
    """A redirect as the client may follow it: within the target it leads through the gateway again
    (`own` is the target's path there); None where it leads elsewhere: that is nobody's business."""
    if not location.isprintable():
        return None
    asked, base, found = urlsplit(url), urlsplit(endpoint.partition("?")[0]), urlsplit(location)
    if found.scheme or found.netloc:
        if (found.scheme or asked.scheme, found.netloc) != (base.scheme, base.netloc):
            return None
        path = found.path or "/"
    elif location.startswith("/"):
        path = found.path
    else:
        path = asked.path.rpartition("/")[0] + "/" + found.path
    root = base.path.rstrip("/")
    try:
        checked_path(path)
    except ValidationFailed:
        return None
    if path != root and not path.startswith(root + "/"):
        return None
    return own + path[len(root) :] + (f"?{found.query}" if found.query else "")


def session_of(headers: Mapping[str, str], stickiness: Json | None) -> str:
    """What calls of one session have in common, hashed; "" for a call of none."""
    if not stickiness:
        return next((headers[name] for name in _SESSION_HEADERS if headers.get(name)), "")
    names = [stickiness.get("identifier", ""), *(stickiness.get("compositeIdentifier") or ())]
    values = []
    for name in names:
        found = _STICKY.fullmatch(str(name))
        values.append(headers.get((found[1] if found else str(name)).lower(), ""))
    if not values[0]:
        return ""
    return hashlib.sha256("\0".join(values).encode(errors="replace")).hexdigest()
