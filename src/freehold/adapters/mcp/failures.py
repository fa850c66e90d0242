"""What an MCP server answered instead of MCP, in words that help."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from freehold.adapters.mcp.wire import INTERNAL_ERROR, Message, decode_message
from freehold.ports.targets import Json, RpcRefused, TargetFailed

_SHOWN_MAX = 200
_MESSAGE_MAX = 4000
_MARKUP = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^<>]*>", re.DOTALL | re.IGNORECASE)
_SCOPE = re.compile(r'\bscope="([\x20-\x21\x23-\x5b\x5d-\x7e]{1,500})"')


class SessionOver(Exception):
    """The server knows no session of this id, so it did nothing. `else_` is what its answer means
    where the session is new."""

    def __init__(self, else_: Exception | None = None) -> None:
        super().__init__()
        self.else_ = else_


def shown(content: bytes) -> str:
    """The first characters, without markup and whatever does not print."""
    text = _MARKUP.sub(" ", content[:4096].decode("utf-8", "replace"))
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}..."


def refusal(error: Json) -> RpcRefused:
    code, message = error.get("code"), error.get("message")
    return RpcRefused(
        code if isinstance(code, int) and not isinstance(code, bool) else INTERNAL_ERROR,
        message[:_MESSAGE_MAX] if isinstance(message, str) else "The server gave no reason.",
        error.get("data"),
    )


def parsed(content: bytes) -> Message | None:
    """None for what is no JSON-RPC message."""
    try:
        return decode_message(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def failure(
    name: str, status: int, headers: Mapping[str, str], content: bytes, *, in_session: bool
) -> Exception:
    """Of an answer that is neither a result nor a stream. `name` is the target's."""
    message = parsed(content) if content else None
    error = message.error if message is not None else None
    if in_session and status == 404:
        return SessionOver()
    if in_session and status == 400 and _names_session(error, content):
        return SessionOver(failure(name, status, headers, content, in_session=False))
    if status in (401, 403):
        return _unauthorized(name, status, headers)
    if error is not None and status < 500 and status != 429:
        return refusal(error)
    return TargetFailed(
        f"{_words(name, status, headers)}{_said(error, content)}",
        status=status,
        retriable=status in (429, 503),
    )


def _words(name: str, status: int, headers: Mapping[str, str]) -> str:
    if status == 429:
        return (
            f"The MCP server of {name} takes no more requests for now (429){_retry_after(headers)}."
        )
    if status >= 500:
        return f"The MCP server of {name} failed ({status}){_retry_after(headers)}."
    if 300 <= status < 400:
        return (
            f"The MCP server of {name} redirects ({status}){_host(headers)}, which is not followed."
            " The target's endpoint must be the address itself."
        )
    if status in (404, 405):
        return f"There is no MCP server at the endpoint of {name} ({status})."
    kind = shown(headers.get("content-type", "").partition(";")[0].encode()) or "no content type"
    return f"The MCP server of {name} did not answer with MCP ({status}, {kind})."


def _unauthorized(name: str, status: int, headers: Mapping[str, str]) -> TargetFailed:
    wanted = _SCOPE.search(headers.get("www-authenticate", ""))
    scope = f" It asks for the scope {wanted.group(1)!r}." if wanted else ""
    if status == 401:
        what = "did not accept the credential that the gateway sent, or wants one (401)"
    else:
        what = "does not permit this with the credential that the gateway sent (403)"
    return TargetFailed(
        f"The MCP server of {name} {what}.{scope} Who administers the gateway should look at the"
        " target's credential provider; a person may have to agree again.",
        status=status,
        unauthorized=True,
    )


def _names_session(error: Json | None, content: bytes) -> bool:
    # Many servers of the older revisions say 400 where the specification has 404.
    message: Any = error.get("message") if error is not None else shown(content)
    return isinstance(message, str) and "session" in message.lower()


def _said(error: Json | None, content: bytes) -> str:
    text = shown(str(error.get("message", "")).encode()) if error is not None else shown(content)
    return f" It said: {text}" if text else ""


def _retry_after(headers: Mapping[str, str]) -> str:
    after = headers.get("retry-after", "")
    if after.isascii() and after.isdecimal() and len(after) < 8:
        return f"; it may be asked again in {after} seconds"
    return "; it may be asked again later" if after else ""


def _host(headers: Mapping[str, str]) -> str:
    try:
        host = urlsplit(headers.get("location", "")).hostname
    except ValueError:
        host = None
    return f" to {shown(host.encode())}" if host else ""
