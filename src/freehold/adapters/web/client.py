"""`ports.web.Web` by aiohttp: no redirects, no cookies, no proxies, a bound on everything."""

import asyncio
import io
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from contextvars import ContextVar
from math import inf
from typing import Any

import aiohttp
from aiohttp.client_reqrep import ConnectionKey
from yarl import URL

from freehold.adapters.web.destination import CheckedResolver, Destinations
from freehold.adapters.web.kept import KeptAnswer, KeptConnections
from freehold.adapters.web.stream import AnswerStream, joined
from freehold.ports.web import Unreachable, WebAnswer

_WRITTEN_AT_ONCE_MAX = 256 * 1024
_HEADERS = {"User-Agent": "freehold", "Accept-Encoding": "identity"}
_CONNECT_SECONDS_MAX = 10.0  # so that a dead host is told from a slow answer


class _Sending:
    """Whether anything of one request has left us, and by which connection."""

    __slots__ = ("begun", "key")

    def __init__(self) -> None:
        self.begun = False
        self.key: ConnectionKey | None = None


_sending: ContextVar[_Sending] = ContextVar("sending")


class _NotingRequest(aiohttp.ClientRequest):
    async def send(self, conn: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        sending = _sending.get()
        sending.begun, sending.key = True, self.connection_key
        return await super().send(conn)


class CheckedWeb:
    """One pool of connections; `start` it first. `tls`: whom to trust, else who the system does.

    The bounds keep a few slow hosts of one tenant from taking all connections: `connections_max`
    in all, `per_host_max` to one host and port, each kept for `kept_seconds` between two requests.
    """

    def __init__(
        self,
        destinations: Destinations,
        *,
        tls: ssl.SSLContext | None = None,
        connections_max: int = 256,
        per_host_max: int = 16,
        kept_seconds: float = 15,
    ) -> None:
        self._destinations, self._tls = destinations, tls
        self._connections_max, self._per_host_max = connections_max, per_host_max
        self._kept_seconds = kept_seconds
        self._session: aiohttp.ClientSession | None = None
        self._kept: KeptConnections | None = None

    async def start(self) -> None:
        connector = aiohttp.TCPConnector(
            resolver=CheckedResolver(self._destinations),
            use_dns_cache=False,
            limit=self._connections_max,
            limit_per_host=self._per_host_max,
            keepalive_timeout=self._kept_seconds,
            ssl=self._tls if self._tls is not None else True,
        )
        self._kept = KeptConnections(connector, _HEADERS)
        self._session = aiohttp.ClientSession(
            connector=connector,
            request_class=_NotingRequest,
            cookie_jar=aiohttp.DummyCookieJar(),
            # Neither proxies nor credentials of the environment, nor what expands without a bound.
            trust_env=False,
            auto_decompress=False,
            headers=_HEADERS,
            skip_auto_headers=("Content-Type",),  # no body, no type: some APIs refuse theirs
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS_MAX),
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        bytes_max: int = 1 << 20,
        seconds_max: float = 10.0,
    ) -> WebAnswer:
        target = self._destinations.checked(url)
        sending = _Sending()
        try:
            async with asyncio.timeout(seconds_max):
                answer = await self._begun(method, target, headers, body, sending)
                try:
                    _check_encoding(answer, ())
                    content = await AnswerStream(answer, None).read(bytes_max)
                finally:
                    answer.close()  # as good as nothing where the body was read to its end
                headers = joined(answer.headers)
                return WebAnswer(status=answer.status, headers=headers, body=content)
        except TimeoutError:
            raise _late(target, seconds_max, sending) from None

    async def open(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | AsyncIterator[bytes] | None = None,
        seconds_max: float = 30.0,
        idle_seconds_max: float = 300.0,
    ) -> AnswerStream:
        """`inf` for a bound is none: whoever asks has one around it all. An answer is refused as
        compressed unless `headers` have an Accept-Encoding: then it is handed on as it came.
        Whoever opens a stream closes it."""
        target = self._destinations.checked(url)
        sending = _Sending()
        if seconds_max < inf:
            try:
                async with asyncio.timeout(seconds_max):
                    answer = await self._begun(method, target, headers, body, sending)
            except TimeoutError:
                raise _late(target, seconds_max, sending) from None
        else:
            answer = await self._begun(method, target, headers, body, sending)
        try:
            _check_encoding(answer, headers or ())
        except Unreachable:
            answer.close()
            raise
        return AnswerStream(answer, idle_seconds_max if idle_seconds_max < inf else None)

    async def _begun(
        self,
        method: str,
        target: URL,
        headers: Mapping[str, str] | None,
        body: bytes | AsyncIterator[bytes] | None,
        sending: _Sending,
    ) -> aiohttp.ClientResponse | KeptAnswer:
        assert self._session is not None and self._kept is not None, "start comes first"
        timed_out = False
        try:
            posting = self._kept.request(method, target, headers, body)
            connection = None if posting is None else await self._kept.taken(posting.key)
            if posting is not None and connection is not None:
                sending.begun = True
                return await self._kept.posted(connection, posting)
            _sending.set(sending)
            answer = await self._session.request(
                method, target, headers=headers, data=_in_pieces(body), allow_redirects=False
            )
            if sending.key is not None:
                self._kept.learn(target, sending.key)
            return answer
        except Unreachable:
            raise
        # What these say may have the URL or a header in it, so it is not passed on.
        except aiohttp.ConnectionTimeoutError:
            why, timed_out = f"could not be connected to in {_CONNECT_SECONDS_MAX:g} seconds", True
        except TimeoutError:
            raise  # the caller's own, which knows how long it was
        except aiohttp.ClientConnectorCertificateError:
            why = "has a certificate that is not trusted here"
        except aiohttp.ClientConnectorDNSError:
            why = "has a name that does not resolve"
        except aiohttp.ClientSSLError:
            why = "could not agree on TLS"
        except aiohttp.ClientConnectorError as error:
            why = f"could not be connected to ({error.os_error.strerror or 'no reason given'})"
        except aiohttp.ServerDisconnectedError:
            why = "closed the connection without an answer"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            why = f"could not be asked ({type(error).__name__})"
        raise Unreachable(
            f"{target.host_port_subcomponent} {why}.", sent=sending.begun, timed_out=timed_out
        )


def _in_pieces(body: bytes | AsyncIterator[bytes] | None) -> Any:
    """aiohttp writes bytes in one go, which holds up all others where they are many."""
    if isinstance(body, bytes) and len(body) > _WRITTEN_AT_ONCE_MAX:
        return io.BytesIO(body)
    return body


def _late(target: URL, seconds_max: float, sending: _Sending) -> Unreachable:
    return Unreachable(
        f"{target.host_port_subcomponent} did not answer within {seconds_max:g} seconds.",
        sent=sending.begun,
        timed_out=True,
    )


def _check_encoding(answer: aiohttp.ClientResponse | KeptAnswer, asked: Iterable[str]) -> None:
    encoding = answer.headers.get("Content-Encoding")
    if encoding is None or encoding.lower() in ("", "identity"):
        return
    if not any(name.lower() == "accept-encoding" for name in asked):
        raise Unreachable(
            f"{answer.host} compresses its answer although it was asked not to.", sent=True
        )
