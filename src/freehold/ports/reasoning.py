"""Proofs about policies: true for every request there is, or a request that shows the contrary."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Literal, Protocol

import msgspec

from freehold.ports.policies import Entity, PolicyRequest, Rule


class Property(StrEnum):
    """Of one policy, or of the whole set for one action (`policy` is "")."""

    ALLOW_ALL = "ALLOW_ALL"
    """A permit that holds for every request of the actions that it names."""
    ALLOW_NONE = "ALLOW_NONE"
    """A permit that never holds; of an action: no request for it is allowed."""
    DENY_ALL = "DENY_ALL"
    """A forbid that holds for every request of the actions that it names."""
    DENY_NONE = "DENY_NONE"
    """A forbid that never holds."""
    INVALID = "INVALID"
    """It does not fit the schema; `description` has the validator's words."""
    MAY_ERROR = "MAY_ERROR"
    """Some request makes its condition fail (an attribute that may be absent, an overflow)."""
    REDUNDANT = "REDUNDANT"
    """The set decides the same without it."""
    SHADOWED = "SHADOWED"
    """Redundant since forbids take all that it permits, or one other policy says all that it does
    (`by` names them)."""
    UNSUPPORTED = "UNSUPPORTED"
    """It uses what the proof does not cover; `description` says what."""
    UNDECIDED = "UNDECIDED"
    """The time was up."""


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """A whole request, which the policy engine itself decided as is claimed of it."""

    request: PolicyRequest
    entities: Sequence[Entity]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """`actions`: those that it is true of; of a policy's ALLOW_ALL and the like, all it applies to.
    `example` is of MAY_ERROR a request that errs."""

    property: Property
    policy: str = ""
    actions: Sequence[str] = ()
    by: Sequence[str] = ()
    description: str = ""
    example: Example | None = None


class Analysis(msgspec.Struct, frozen=True, kw_only=True):
    findings: Sequence[Finding]
    policies: int
    actions: int
    seconds: float


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """`policies` are those that decide the example after the change (before it, where it is newly
    denied because nothing permits any more)."""

    action: str
    change: Literal["newly allowed", "newly denied"]
    example: Example
    policies: Sequence[str] = ()


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """`equivalent` is None where neither a difference was found nor all could be told; `untold`
    says what could not: (action, why)."""

    equivalent: bool | None
    differences: Sequence[Difference]
    untold: Sequence[tuple[str, str]] = ()
    seconds: float = 0.0

    @property
    def loosens(self) -> bool:
        return any(each.change == "newly allowed" for each in self.differences)


class Reasoning(Protocol):
    """`schema` is Cedar's, in JSON. A rule that forbids and errs forbids, as our engine has it; the
    empty set denies all. Raises Unavailable where no solver can be had."""

    async def analyse(
        self, rules: Sequence[Rule], schema: Mapping[str, Any], *, seconds_max: float = 30.0
    ) -> Analysis: ...

    async def compare(
        self,
        old: Sequence[Rule],
        new: Sequence[Rule],
        schema: Mapping[str, Any],
        *,
        seconds_max: float = 30.0,
    ) -> Comparison: ...
