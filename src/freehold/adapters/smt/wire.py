"""What passes between the platform and the prover's process: a length of eight bytes, then JSON."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from freehold.ports.policies import Rule
from freehold.ports.reasoning import Analysis, Comparison

MESSAGE_BYTES_MAX = 64 << 20
LENGTH_BYTES = 8
READY = b"ready"


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """`old` is of comparisons only."""

    kind: Literal["analyse", "compare"]
    rules: list[Rule]
    old: list[Rule] = []
    schema: Mapping[str, Any]
    seconds_max: float
    own_ids: list[str] = []
    same: dict[str, str] = {}


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """One of the first four. `complaints` are for the platform's log."""

    analysis: Analysis | None = None
    comparison: Comparison | None = None
    refused: list[str] | None = None
    failed: str | None = None
    complaints: list[str] = []


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(LENGTH_BYTES, "big") + message
