"""What is kept warm of one agent version in one tier."""

import hashlib

import msgspec

from freehold.adapters.placement.local.session import LiveSession
from freehold.ports.placement import Launch, SessionKey
from freehold.ports.sandbox import Template

MISSES_MAX = 2
FAILURES_MAX = 3
_BYTES_GUESSED = 64 << 20
ANY_ENDPOINT = ""


def waiting_key(launch: Launch, endpoint: str) -> SessionKey:
    return SessionKey(launch.key.tenant, launch.key.runtime_id, endpoint, "")


class Version:
    """`launch` is that of any of its sessions, without what is the session's own.

    `used_at` is the loop's time. `wanted`: how many started sandboxes are to wait, by endpoint.
    """

    def __init__(self, launch: Launch, used_at: float) -> None:
        self.launch = launch
        self.used_at = used_at
        self.template: Template | None = None
        self.template_bytes = 0
        self.unfit = ""
        """Why its sessions cannot come from a template: then one of them waits instead."""
        self.misses = 0
        """Sessions in a row that could not come from the template all the same."""
        self.failures = 0
        """Warm sessions in a row that did not come up, or ended while they waited."""
        self.wanted: dict[str, int] = {}
        self.waiting: list[LiveSession] = []
        self.bytes_each = 0

    @property
    def bytes(self) -> int:
        each = self.bytes_each or _BYTES_GUESSED
        return self.template_bytes + each * len(self.waiting)

    @property
    def next_bytes(self) -> int:
        """What one more sandbox of it is expected to take."""
        return self.bytes_each or _BYTES_GUESSED

    @property
    def is_wanted(self) -> bool:
        return any(count for endpoint, count in self.wanted.items() if endpoint != ANY_ENDPOINT)

    def lacking(self) -> str | None:
        """The endpoint for which one more sandbox should wait."""
        if self.failures >= FAILURES_MAX:
            return None
        for endpoint, count in self.wanted.items():
            if sum(s.key.endpoint == endpoint for s in self.waiting) < count:
                return endpoint
        return None

    def surplus(self) -> list[LiveSession]:
        return [
            session
            for endpoint in {s.key.endpoint for s in self.waiting}
            for session in [s for s in self.waiting if s.key.endpoint == endpoint][
                self.wanted.get(endpoint, 0) :
            ]
        ]

    def taken(self, endpoint: str) -> LiveSession | None:
        """One whose agent is up before one that is still coming up."""
        fits = [
            s
            for s in self.waiting
            if s.key.endpoint in (endpoint, ANY_ENDPOINT) and s.sandbox is not None
        ]
        if self.template is not None:  # sooner there than one that is only just coming up
            fits = [s for s in fits if s.is_up]
        fits.sort(key=lambda s: not s.is_up)
        if not fits:
            return None
        self.waiting.remove(fits[0])
        return fits[0]

    def take_memory(self) -> list[LiveSession]:
        """Those that wait, all of them, for the end."""
        doomed, self.waiting = self.waiting, []
        return doomed


def fingerprint(launch: Launch, default_tier: str) -> str:
    """The same for launches whose sandboxes could stand in for one another."""
    alike = msgspec.structs.replace(
        launch,
        key=SessionKey(launch.key.tenant, launch.key.runtime_id, "", ""),
        user=None,
        tier=launch.tier or default_tier,
    )
    return hashlib.sha256(msgspec.json.encode(alike)).hexdigest()
