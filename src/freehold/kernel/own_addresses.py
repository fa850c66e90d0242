"""The platform's own addresses, and what of them may be a gateway's target."""

import re
from functools import lru_cache
from urllib.parse import SplitResult, quote, urlsplit

_PORTS = {"http": 80, "https": 443}
_RUNTIME = re.compile(r"/runtimes/[^/]+/invocations(?:/|/\.well-known/agent-card\.json)?")
_GATEWAY = re.compile(r"/gateway/[^/]+/.+|/mcp/[^/]+/?")


class OwnAddresses:
    """Of the platform at `public_url`. Addresses are compared as URLs are: the host in any case,
    with the port that its scheme has."""

    def __init__(self, public_url: str) -> None:
        self._url = public_url.rstrip("/")
        self._place = _place(_parts(self._url))

    def is_own(self, url: str) -> bool:
        """Whether it leads here, wherever it leads to here."""
        # One with a query may have a secret there, and differs with every request.
        place = _known_place(url) if "?" not in url else _place(_parts(url))
        return self._place is not None and place == self._place

    def is_runtime(self, url: str) -> bool:
        """An agent runtime's invocations, or its agent card."""
        parts = _parts(url)
        return self.is_own(url) and parts is not None and bool(_RUNTIME.fullmatch(parts.path))

    def is_target(self, url: str) -> bool:
        """An agent runtime or a gateway: nothing else of the platform is a target."""
        parts = _parts(url)
        return self.is_runtime(url) or (
            self.is_own(url) and parts is not None and bool(_GATEWAY.fullmatch(parts.path))
        )

    def of_runtime(self, arn: str, qualifier: str | None, rest: str = "") -> str:
        """`rest` is what comes after `invocations`."""
        url = f"{self._url}/runtimes/{quote(arn, safe='')}/invocations{rest}"
        return f"{url}?qualifier={quote(qualifier, safe='')}" if qualifier else url


def _parts(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:
        return None


@lru_cache(maxsize=1024)
def _known_place(url: str) -> tuple[str, str, int] | None:
    return _place(_parts(url))


def _place(parts: SplitResult | None) -> tuple[str, str, int] | None:
    try:
        if parts is None or not parts.hostname or parts.scheme not in _PORTS:
            return None
        return parts.scheme, parts.hostname.rstrip("."), parts.port or _PORTS[parts.scheme]
    except ValueError:  # a port that is none
        return None
