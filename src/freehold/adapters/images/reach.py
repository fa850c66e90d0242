"""HTTP to hosts that tenants name: which may be reached, and how.

A name is resolved once, each of its addresses is checked, and the connection goes to one that was
checked; so for every redirect. Neither this machine nor a private network is reached unless the
operator listed the host, and a link-local address (metadata of clouds) never.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from ipaddress import ip_address

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from freehold.ports.images import ImageRefused

_REDIRECTS_MAX = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_PORTS = {"http": 80, "https": 443}


class Forbidden(OSError):
    """The address is not one that may be connected to."""


class Reach:
    """`denied` holds for addresses outside the public internet, `forbidden` for those that nobody
    can permit. `private` and `insecure` are `host[:port]` that the operator listed: on a private
    network, and reached by plain http.
    """

    def __init__(
        self,
        *,
        denied: Callable[[str], bool],
        forbidden: Callable[[str], bool],
        private: frozenset[str] = frozenset(),
        insecure: frozenset[str] = frozenset(),
    ) -> None:
        self._denied, self._forbidden = denied, forbidden
        self._private, self._insecure = private | insecure, insecure

    def base(self, registry: str) -> URL:
        return URL(f"{'http' if registry in self._insecure else 'https'}://{registry}")

    def check(self, url: URL) -> None:
        """Raises Forbidden, by what the URL alone says."""
        if url.scheme not in _PORTS or not url.host or url.user or url.password:
            raise Forbidden(f"{url.scheme}://{url.host} is not an address of a registry")
        if url.scheme == "http" and not self._listed(self._insecure, url.host, url.port):
            raise Forbidden(
                f"{_host(url)} is only reached by https unless the operator lists it in"
                " FREEHOLD_IMAGE_INSECURE_REGISTRIES"
            )
        try:
            ip_address(url.host)
        except ValueError:
            # To some of those who connect `127.1` is an address, and needs no resolver.
            if url.host.replace(".", "").isdecimal():
                raise Forbidden(f"{url.host} is neither a name nor an address") from None
        else:
            self.check_address(url.host, url.host, url.port or 0)

    def check_address(self, address: str, host: str, port: int) -> None:
        """Raises Forbidden. `host` is the name that has it."""
        if self._forbidden(address):
            raise Forbidden(f"{host} leads to an address that is never reached")
        if self._denied(address) and not self._listed(self._private, host, port):
            raise Forbidden(
                f"{host} is on a private network, which is only reached where the operator lists"
                " it in FREEHOLD_IMAGE_PRIVATE_REGISTRIES"
            )

    @staticmethod
    def _listed(names: frozenset[str], host: str, port: int | None) -> bool:
        host = f"[{host}]" if ":" in host else host
        return f"{host}:{port}" in names or (host in names and port in _PORTS.values())

    @contextlib.asynccontextmanager
    async def session(self, *, connect_seconds_max: float = 15) -> AsyncIterator["Session"]:
        connector = aiohttp.TCPConnector(resolver=_Checked(self), use_dns_cache=False, limit=8)
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=connect_seconds_max, connect=60, sock_read=60
        )
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, auto_decompress=False, cookie_jar=_no_cookies()
        ) as session:
            yield Session(session, self)


class Session:
    def __init__(self, session: aiohttp.ClientSession, reach: Reach) -> None:
        self._session, self._reach = session, reach

    @contextlib.asynccontextmanager
    async def get(
        self, url: URL, headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Follows redirects; credentials stay with the host that they are for."""
        sent = dict(headers)
        self._reach.check(url)
        for _ in range(_REDIRECTS_MAX + 1):
            async with self._session.get(url, headers=sent, allow_redirects=False) as answer:
                location = answer.headers.get("Location")
                if answer.status not in _REDIRECTS or location is None:
                    yield answer
                    return
                target = url.join(address(location, encoded=True))  # its query may be signed
            self._reach.check(target)
            if target.origin() != url.origin():
                sent.pop("Authorization", None)
            url = target
        raise ImageRefused(f"{_host(url)} redirects again and again")

    async def post_form(self, url: URL, form: Mapping[str, str], bytes_max: int) -> bytes:
        self._reach.check(url)
        async with self._session.post(url, data=dict(form), allow_redirects=False) as answer:
            if answer.status != 200:
                raise ImageRefused(f"{_host(url)} gives no token: HTTP {answer.status}")
            return await bounded(answer, bytes_max)


def address(text: str, *, encoded: bool = False) -> URL:
    """What a registry calls an address. Raises ImageRefused."""
    try:
        found = URL(text, encoded=encoded)
        found.port  # noqa: B018 - looked at when it is asked for
    except ValueError as error:
        raise ImageRefused("the registry leads to what is no address") from error
    return found


async def bounded(answer: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    content = bytearray()
    async for chunk in answer.content.iter_any():
        content += chunk
        if len(content) > bytes_max:
            raise ImageRefused(f"the registry's answer is larger than {bytes_max >> 20} MiB")
    return bytes(content)


class _Checked(AbstractResolver):
    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        infos = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        found: list[ResolveResult] = []
        for kind, _, protocol, _, address in infos:
            self._reach.check_address(str(address[0]), host, port)
            found.append(
                ResolveResult(
                    hostname=host, host=str(address[0]), port=port, family=kind, proto=protocol,
                    flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
                )
            )  # fmt: skip
        return found

    async def close(self) -> None:
        pass


def _host(url: URL) -> str:
    return url.host_port_subcomponent or url.scheme


def _no_cookies() -> aiohttp.DummyCookieJar:
    return aiohttp.DummyCookieJar()
