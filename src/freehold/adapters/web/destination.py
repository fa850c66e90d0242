"""Where a request may go: decided by its URL first, then by each address of its host."""

import asyncio
import re
import socket
from collections.abc import Callable
from ipaddress import ip_address
from time import monotonic

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from freehold.ports.web import Unreachable

_URL_LENGTH_MAX = 8192
_WRITTEN = re.compile(r"(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*")
_KNOWN_LENGTH_MAX = 512
_KNOWN_MAX = 4096
_KNOWN_SECONDS = 5.0


class Forbidden(Unreachable):
    """Refused by us. No OSError, which the HTTP client would take for the resolver's own."""


class Destinations:
    """`denied` holds for addresses outside the public internet, `forbidden` for those that nobody
    can permit. `listed`: `host` or `host:port` that the operator permits on a private network, and
    without TLS. `setting`: the name of what lists them, for messages.
    """

    def __init__(
        self,
        *,
        denied: Callable[[str], bool],
        forbidden: Callable[[str], bool],
        listed: frozenset[str],
        setting: str,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._denied, self._forbidden = denied, forbidden
        self._listed, self._setting = listed, setting
        self._now = now
        self._known: dict[str, tuple[float, URL]] = {}

    def checked(self, text: str) -> URL:
        """Raises Forbidden, by what the URL alone says. No message has more of it than the host."""
        known = self._known.get(text)
        if known is not None and self._now() < known[0]:
            return known[1]
        url = self._parsed(text)
        # No query: it differs with every request, and there are those that put secrets there.
        if len(text) <= _KNOWN_LENGTH_MAX and "?" not in text:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            # Not for long, since which addresses are this machine's own may change.
            self._known[text] = (self._now() + _KNOWN_SECONDS, url)
        return url

    def _parsed(self, text: str) -> URL:
        if len(text) > _URL_LENGTH_MAX or not text.isprintable() or " " in text:
            raise Forbidden("The address is not a URL.")
        try:
            url = URL(text)
            port = url.port
        except ValueError:
            raise Forbidden("The address is not a URL.") from None
        if url.scheme not in ("https", "http") or not url.raw_host or not port:
            raise Forbidden("The address is not an https:// URL.")
        if url.raw_user is not None or url.raw_password is not None:
            raise Forbidden("An address must not carry a user or a password.")
        if url.scheme == "http" and not self._is_listed(url.raw_host, port):
            raise Forbidden(
                f"{url.host_port_subcomponent} is only asked by https, unless the operator lists"
                f" it in {self._setting}."
            )
        self._check_literal(url.raw_host, port)
        return _as_written(url, text)

    def check_address(self, address: str, host: str, port: int) -> None:
        """Raises Forbidden. `host` is the name that has it."""
        if self._forbidden(address):
            raise Forbidden(f"{host} leads to an address that is never asked.")
        if self._denied(address) and not self._is_listed(host, port):
            raise Forbidden(
                f"{host} is on a private network or this machine, which is only asked where the"
                f" operator lists it in {self._setting}."
            )

    def _check_literal(self, host: str, port: int) -> None:
        # An address needs no resolver, and to some of those who connect `127.1` is one.
        if ":" not in host and not host.replace(".", "").isdecimal():
            return
        try:
            ip_address(host)
        except ValueError:
            raise Forbidden(f"{host} is neither a name nor an address.") from None
        self.check_address(host, host, port)

    def _is_listed(self, host: str, port: int) -> bool:
        host = f"[{host}]" if ":" in host else host.rstrip(".")
        return host in self._listed or f"{host}:{port}" in self._listed


def _as_written(url: URL, text: str) -> URL:
    """yarl writes escapes its own way: `%2C` in a query becomes a comma, which is two values to
    whoever splits at it, and `%2E%2E` in a path a way up. Signatures are over what was written."""
    if not _WRITTEN.fullmatch(text):
        return url
    written = URL(text, encoded=True)
    return URL.build(
        scheme=url.scheme,
        authority=url.raw_authority,
        path=written.raw_path,
        query_string=written.raw_query_string,
        encoded=True,
    )


class CheckedResolver(AbstractResolver):
    """Resolves by the system, and judges every address: one bad one, and the host is refused."""

    def __init__(self, destinations: Destinations) -> None:
        self._destinations = destinations

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        infos = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        found: list[ResolveResult] = []
        for kind, _, protocol, _, sockaddr in infos:
            address = str(sockaddr[0])
            self._destinations.check_address(address, host, port)
            found.append(
                ResolveResult(
                    hostname=host, host=address, port=port, family=kind, proto=protocol,
                    flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
                )
            )  # fmt: skip
        return found

    async def close(self) -> None:
        pass
