"""What can be refused of a request before anybody looks at who sent it: its headers."""

import ipaddress
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.types import Scope

from freehold.edges.mcp.wire import INVALID_REQUEST, Refused
from freehold.edges.sigv4 import header_text

HEADERS_BYTES_MAX = 64 * 1024
JSON_TYPE, EVENTS_TYPE = "application/json", "text/event-stream"


class Headers(dict[str, str]):
    """Lower-case names. A repeated header's values are joined, and its name is in `repeated`."""

    __slots__ = ("repeated",)

    def __init__(self, scope: Scope) -> None:
        super().__init__()
        self.repeated: set[str] = set()
        size = 0
        for raw_name, raw_value in scope["headers"]:
            size += len(raw_name) + len(raw_value)
            name = raw_name.decode("latin-1")
            value = (
                raw_value.decode("ascii") if raw_value.isascii() else header_text(raw_value)
            ).strip(" \t")
            if name in self:
                self.repeated.add(name)
                value = f"{self[name]}, {value}"
            self[name] = value
        if size > HEADERS_BYTES_MAX:
            message = f"The headers are larger than {HEADERS_BYTES_MAX} bytes."
            raise Refused(431, INVALID_REQUEST, message)


class Accepts:
    """What the client takes for an answer. One that does not say, takes anything."""

    __slots__ = ("events", "json")

    def __init__(self, headers: Headers) -> None:
        accept = headers.get("accept", "*/*")
        if accept == "application/json, text/event-stream":  # what nearly all send
            self.json = self.events = True
            return
        kinds = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
        anything = "*/*" in kinds
        self.json = anything or not kinds.isdisjoint({JSON_TYPE, "application/*"})
        self.events = anything or not kinds.isdisjoint({EVENTS_TYPE, "text/*"})


def check_content(headers: Headers) -> None:
    content = headers.get("content-type", "")
    if content == JSON_TYPE:
        return
    kind, _, parameters = content.partition(";")
    charset = parameters.strip().lower()
    if kind.strip().lower() != JSON_TYPE or charset not in ("", "charset=utf-8", 'charset="utf-8"'):
        raise Refused(415, INVALID_REQUEST, f"Content-Type must be {JSON_TYPE}.")


class Names:
    """By which names clients may know this server, against DNS rebinding: a page in a browser can
    point a name of its own at our address, and then it talks to us as that name's own pages do.

    Nobody can do that with an address, with `localhost`, or with a name without a dot; what has
    one must be listed. Over TLS there is no such attack: the certificate has the name.
    """

    def __init__(
        self, public_url: str, *, hosts: tuple[str, ...] = (), origins: tuple[str, ...] = ()
    ) -> None:
        public = urlsplit(public_url)
        self._hosts = {name.lower() for name in hosts} | {(public.hostname or "").lower()}
        self._origins = {origin.rstrip("/").lower() for origin in origins}
        if public.netloc:
            self._origins.add(f"{public.scheme}://{public.netloc}".lower())

    def check(self, scope: Scope, headers: Headers) -> None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if scope["scheme"] != "https" and not self._known_host(host):
            message = "This host is not one of the server's. An operator may list it."
            raise Refused(421, INVALID_REQUEST, message)
        if origin is not None and not self._known_origin(origin.lower(), host.lower()):
            message = "Pages of this origin may not call here. An operator may list it."
            raise Refused(403, INVALID_REQUEST, message)

    def _known_host(self, host: str) -> bool:
        name = _hostname(host)
        return name is not None and (name in self._hosts or "." not in name or _is_address(name))

    def _known_origin(self, origin: str, host: str) -> bool:
        if origin in self._origins:
            return True
        parts = origin.partition("://")
        if parts[0] not in ("http", "https"):
            return False
        # Its own pages; and on this machine, those of its owner's other programs.
        return parts[2] == host or (_is_loopback(parts[2]) and _is_loopback(host))


@lru_cache(maxsize=256)
def _hostname(host: str) -> str | None:
    try:
        name = urlsplit(f"//{host}").hostname
        return name if name and "@" not in host else None
    except ValueError:
        return None


@lru_cache(maxsize=256)
def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    name = _hostname(host)
    if name is None:
        return False
    return name == "localhost" or (_is_address(name) and ipaddress.ip_address(name).is_loopback)
