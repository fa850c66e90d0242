"""What one list lets through. Raises Refusal in words for whoever wrote what runs inside."""

from collections.abc import Iterable
from typing import Protocol

from freehold.adapters.egress.boundary import matches
from freehold.adapters.egress.requests import ProxyRequest, Refusal
from freehold.ports.egress import Destination, SessionEgress

_OPEN_PORTS = (80, 443)


class Rules(Protocol):
    def admit(self, request: ProxyRequest) -> bool:
        """Before its name is resolved. True: an operator named the host, and it may be private."""


class ListRules:
    """For what the platform runs itself: to fetch, and not to send."""

    def __init__(self, allowed: Iterable[Destination]) -> None:
        self._allowed = tuple(allowed)

    def admit(self, request: ProxyRequest) -> bool:
        if request.method not in ("CONNECT", "GET", "HEAD"):
            raise Refusal(405, f"{request.method} over plain http does not pass here")
        matching = _matching(request, self._allowed)
        if not matching:
            raise Refusal(403, f"egress to {request.name} is not allowed")
        return any(each.private for each in matching)


class SessionRules:
    def __init__(self, egress: SessionEgress) -> None:
        self._egress = egress

    def admit(self, request: ProxyRequest) -> bool:
        egress = self._egress
        named = egress.reach != "none" and _matching(request, egress.destinations)
        if named or (egress.reach == "open" and request.port in _OPEN_PORTS):
            return False
        entry = request.host if request.port in _OPEN_PORTS else request.name
        why = {
            "none": "its sessions have no network (tag freehold:egress)",
            "hosts": f"add {entry} to its tag freehold:egress-hosts",
            "open": f"open egress means ports 80 and 443; add {entry} to its tag "
            "freehold:egress-hosts",
        }[egress.reach]
        raise Refusal(403, f"egress to {request.name} is not allowed for this agent runtime: {why}")


def _matching(request: ProxyRequest, allowed: Iterable[Destination]) -> list[Destination]:
    return [
        each for each in allowed if each.port == request.port and matches(each.host, request.host)
    ]
