"""What a policy says of itself, before anybody asks what it means: its effect and its scope."""

from collections.abc import Mapping
from typing import Literal, Protocol

import msgspec

from freehold.ports.policies import Uid


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """`actions` are those that its scope names, () where it names none and speaks of all.
    `resource` is the one that it names, None where it names none; `resource_type` its type, ""
    where any will do. `exact`: it names it with `==`."""

    effect: Literal["permit", "forbid"]
    actions: tuple[Uid, ...] = ()
    resource: Uid | None = None
    resource_type: str = ""
    exact: bool = False


class Statements(Protocol):
    def read(self, text: str) -> Statement:
        """Raises PolicyRefused for what is not exactly one static policy."""


class Cleaned(msgspec.Struct, frozen=True, kw_only=True):
    """A policy and what stood around it. `text` is laid out, has neither comments nor annotations,
    and means the same. `named` is every entity that it names anywhere: its scope's, and those in
    its conditions."""

    text: str
    statement: Statement
    annotations: Mapping[str, str]
    named: frozenset[Uid]


class Cleaning(Protocol):
    def clean(self, text: str) -> Cleaned:
        """Raises PolicyRefused for what is not exactly one static policy."""
