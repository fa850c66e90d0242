"""The golden signals of a machine: counted where things happen, read by whoever watches it.

Never a tenant, an id or a name of anybody's as a label: labels are words of the platform's own.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

Kind = Literal["counter", "gauge", "histogram"]


class Family(NamedTuple):
    """`labels` are those that each of its series has."""

    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


class Sample(NamedTuple):
    name: str
    labels: Mapping[str, str]
    value: float


Source = Callable[[], Awaitable[Sequence[Sample]]]
"""What is asked for when somebody looks, such as counts of the database's. Names of FAMILIES."""


class Signals(Protocol):
    """Never waits and never raises; for any thread. What is no family of FAMILIES is a mistake of
    the programmer's, and so are other labels than its own."""

    def observe(self, service: str, operation: str, status: int, seconds: float) -> None:
        """A request that has ended, with the status of its answer; 0: its client went away."""

    def in_flight(self, service: str, change: int) -> None:
        """A request of it begins (1) or ends (-1)."""

    def add(self, name: str, amount: float = 1.0, /, **labels: str) -> None:
        """To a counter or a gauge."""

    def set(self, name: str, value: float, /, **labels: str) -> None:
        """A gauge."""

    def measure(self, name: str, value: float, /, **labels: str) -> None:
        """Into a histogram."""


class Exposition(Protocol):
    async def text(self) -> bytes:
        """Of all processes of this machine, in Prometheus' text format 0.0.4."""


class NoSignals:
    """Nobody counts."""

    def observe(self, service: str, operation: str, status: int, seconds: float) -> None:
        return

    def in_flight(self, service: str, change: int) -> None:
        return

    def add(self, name: str, amount: float = 1.0, /, **labels: str) -> None:
        return

    def set(self, name: str, value: float, /, **labels: str) -> None:
        return

    def measure(self, name: str, value: float, /, **labels: str) -> None:
        return


_OUTCOME = ("outcome",)
FAMILIES: Mapping[str, Family] = {
    "freehold_requests_total": Family(
        "counter", "Requests answered, by the hundred of their status.",
        ("service", "operation", "status"),
    ),
    "freehold_request_seconds": Family(
        "histogram", "From a request's beginning to the last byte of its answer.",
        ("service", "operation"),
    ),
    "freehold_requests_in_flight": Family("gauge", "Requests under way.", ("service",)),
    "freehold_sessions": Family("gauge", "Sessions that are alive.", ("tier",)),
    "freehold_session_starts_total": Family("counter", "Sandboxes started for sessions.", _OUTCOME),
    "freehold_session_start_seconds": Family("histogram", "Starts of sandboxes for sessions."),
    "freehold_model_calls_total": Family(
        "counter", "Calls of models through the doorway.", ("operation", "outcome")
    ),
    "freehold_model_seconds": Family("histogram", "Calls of models.", ("operation",)),
    "freehold_model_tokens_total": Family("counter", "Tokens of models.", ("direction",)),
    "freehold_tool_calls_total": Family("counter", "Calls of gateways' tools.", _OUTCOME),
    "freehold_tool_seconds": Family("histogram", "Calls of gateways' tools."),
    "freehold_policy_decisions_total": Family(
        "counter", "Decisions of policy engines.", ("decision",)
    ),
    "freehold_credential_uses_total": Family(
        "counter", "Credentials got for calls outward.", _OUTCOME
    ),
    "freehold_memory_searches_total": Family("counter", "Searches of memories.", _OUTCOME),
    "freehold_memory_search_seconds": Family("histogram", "Searches of memories."),
    "freehold_telemetry_items_total": Family(
        "counter", "Spans, log records and points that came in: taken, refused or dropped.",
        ("signal", "outcome"),
    ),
    "freehold_telemetry_queue_items": Family(
        "gauge", "What waits in memory to be stored.", ("signal",)
    ),
    "freehold_forwarding_items_total": Family(
        "counter", "For the operator's collector: sent, refused by it, or dropped unsent.",
        ("signal", "outcome"),
    ),
    "freehold_forwarding_waiting_items": Family(
        "gauge", "What waits for the operator's collector.", ("signal",)
    ),
    "freehold_forwarding_oldest_seconds": Family(
        "gauge", "How long the oldest of it waits.", ("signal",)
    ),
    "freehold_database_connections": Family(
        "gauge", "The platform's connections to Postgres, by what they do.", ("state",)
    ),
    "freehold_processes": Family("gauge", "Processes of the platform that count here."),
    "freehold_signals_lost_total": Family(
        "counter", "Counts of series for which there was no room."
    ),
}  # fmt: skip
