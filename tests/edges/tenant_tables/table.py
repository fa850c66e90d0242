"""What the matrix of tenants has to know of one service."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

STRANGER = "999900009999"


@dataclass(frozen=True, kw_only=True)
class Table:
    """Values in braces are those that the service's things get where they are made."""

    things: tuple[str, ...] = ()
    """Values that are names, of which there are others that never were."""
    marks: tuple[str, ...] = ()
    """Values that no other tenant may ever read."""
    names: Mapping[str, str] = field(default_factory=dict)
    """What the first tenant has, by the member that names it: "{Operation}.{member}", or the
    member."""
    nameless: frozenset[str] = frozenset()
    """Members that name nothing of anybody's, though they may look like it."""
    at_home: frozenset[str] = frozenset()
    """Operations that act in the caller's own tenant, and name nothing in it or in another."""
    good: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    """Good values, where a sample would be refused before anything is looked for."""
    paths: Mapping[str, str] = field(default_factory=dict)
    """Of our own API: what a path's parameter names."""
    bodies: Mapping[str, Any] = field(default_factory=dict)
    filters: Mapping[str, list[dict[str, str]]] = field(default_factory=dict)
    """Of lists: what they name is the first tenant's."""


def filled(part: Any, values: Mapping[str, str]) -> Any:
    if isinstance(part, str):
        found = re.fullmatch(r"\{(\w+)\}", part)
        return values[found[1]] if found else part
    if isinstance(part, dict):
        return {name: filled(value, values) for name, value in part.items()}
    return [filled(value, values) for value in part] if isinstance(part, list) else part
