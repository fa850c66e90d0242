"""One HTTP request to a target: its credential put in, its time and size bounded."""

import asyncio
from collections.abc import Mapping
from urllib.parse import quote, unquote_plus

import msgspec

from freehold.ports.targets import Credential, Errand, TargetFailed
from freehold.ports.web import Unreachable, Web

# What frames a message or belongs to one connection: only we say it.
_FRAMING = frozenset(
    {
        "accept-encoding", "connection", "content-encoding", "content-length", "content-type",
        "expect", "host", "keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade",
    }
)  # fmt: skip

# These the HTTP client itself sends again where a connection breaks before an answer.
_TRIED_TWICE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})


class HttpCall(msgspec.Struct, frozen=True, kw_only=True):
    """`headers` are those of the operation; no credential is among them."""

    method: str
    url: str
    headers: Mapping[str, str] = {}
    body: bytes | None = None


class HttpAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`headers` have lower-case names. `truncated`: `body` is the beginning of a longer one."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    truncated: bool = False

    def __repr__(self) -> str:
        return f"HttpAnswer({self.status}, {len(self.body)} bytes)"


async def send(
    web: Web, call: HttpCall, errand: Errand, *, bytes_max: int, safe: bool
) -> HttpAnswer:
    """Raises TargetFailed. `safe`: sending it twice does no more than once; then, or where nothing
    was sent at all, a connection that failed is tried a second time."""
    call = _prepared(call, errand)
    try:
        async with asyncio.timeout(errand.seconds_max):
            try:
                return await _exchanged(web, call, errand.seconds_max, bytes_max)
            except _BrokeOff as error:
                if error.why.timed_out or not safe:
                    raise error.why from None
            except Unreachable as error:
                tried_twice = error.sent and call.method in _TRIED_TWICE
                if error.timed_out or tried_twice or (error.sent and not safe):
                    raise
            return await _exchanged(web, call, errand.seconds_max, bytes_max)
    except TimeoutError:
        why = f"It did not answer within {errand.seconds_max:g} seconds."
        raise _too_late(why, safe) from None
    except (Unreachable, _BrokeOff) as error:
        cause = error.why if isinstance(error, _BrokeOff) else error
        harmless = safe or not cause.sent
        if cause.timed_out:
            raise _too_late(str(cause), harmless) from None
        raise TargetFailed(f"The target failed: {cause}", retriable=harmless) from None


class _BrokeOff(Exception):
    """The answer had begun."""

    def __init__(self, why: Unreachable) -> None:
        super().__init__(str(why))
        self.why = why


def _too_late(why: str, harmless: bool) -> TargetFailed:
    advice = (
        "Trying again does no harm."
        if harmless
        else "It may have acted on the request all the same: look before you try again."
    )
    return TargetFailed(
        f"The target failed: {why} {advice}",
        timed_out=True,
        retriable=harmless,
    )


async def _exchanged(web: Web, call: HttpCall, seconds_max: float, bytes_max: int) -> HttpAnswer:
    stream = await web.open(
        call.method, call.url, headers=call.headers, body=call.body, seconds_max=seconds_max,
        idle_seconds_max=seconds_max,
    )  # fmt: skip
    content, truncated = bytearray(), False
    try:
        async for chunk in stream.chunks():
            content += chunk
            if len(content) > bytes_max:
                del content[bytes_max:]
                truncated = True
                break
    except Unreachable as error:
        raise _BrokeOff(error) from None
    finally:
        stream.close()
    return HttpAnswer(
        status=stream.status, headers=stream.headers, body=bytes(content), truncated=truncated
    )


def _prepared(call: HttpCall, errand: Errand) -> HttpCall:
    """Least to most: the client's headers, the operation's, the credential's. The signer is last,
    since what changes after it makes the signature wrong."""
    credential = errand.credential
    url = _with_query(call.url, errand.query, credential.query)
    headers = _merged(call.headers, errand.headers, credential)
    if credential.signer is not None:
        signed = credential.signer(call.method, url, headers, call.body or b"")
        headers = dict(signed)
    return HttpCall(method=call.method, url=url, headers=headers, body=call.body)


def _merged(
    operation: Mapping[str, str], client: Mapping[str, str], credential: Credential
) -> dict[str, str]:
    headers = {n.lower(): v for n, v in client.items() if n.lower() not in _FRAMING}
    for name, value in operation.items():
        headers[name.lower()] = value
    for name, value in credential.headers.items():
        key = name.lower()
        headers[key] = (
            _cookies(headers[key], value) if key == "cookie" and key in headers else value
        )
    for name, value in headers.items():
        if "\r" in value or "\n" in value or "\0" in value:
            raise TargetFailed(f"The header {name} has a line break in its value.", retriable=False)
    return headers


def _cookies(given: str, credential: str) -> str:
    """Both, without what would come twice: which of two a server takes is not ours to guess."""
    secret = {pair.split("=", 1)[0].strip() for pair in credential.split(";")}
    kept = [p for p in given.split(";") if p.split("=", 1)[0].strip() not in secret]
    return "; ".join([*(p.strip() for p in kept if p.strip()), credential])


def _with_query(url: str, client: Mapping[str, str], credential: Mapping[str, str]) -> str:
    if not client and not credential:
        return url
    base, _, query = url.partition("?")
    pairs = [p for p in query.split("&") if p]
    if credential:
        pairs = [p for p in pairs if unquote_plus(p.split("=", 1)[0]) not in credential]
    present = {unquote_plus(p.split("=", 1)[0]) for p in pairs}
    for name, value in client.items():
        if name not in present and name not in credential:
            pairs.append(f"{quote(name, safe='')}={quote(value, safe='')}")
    pairs += [f"{quote(n, safe='')}={quote(v, safe='')}" for n, v in credential.items()]
    return f"{base}?{'&'.join(pairs)}"
