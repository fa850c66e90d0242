"""What a tool is called at its gateway: prefixed with its target, shortened, or as it is."""

import hashlib
from typing import Literal

from freehold.services.gateway.model import SEPARATOR, SHORT_NAME_MAX

Naming = Literal["prefixed", "short", "plain"]

_HASH_CHARACTERS = 8


def exposed(target: str, tool: str, naming: Naming) -> str:
    """The name that clients see. It depends on nothing else, so that it stays the same whatever
    other tools come and go."""
    if naming == "plain":
        return tool
    name = f"{target}{SEPARATOR}{tool}"
    return short(name) if naming == "short" else name


def short(name: str) -> str:
    """At most 64 characters: what some clients allow. A name that is cut ends in a hash of it."""
    if len(name) <= SHORT_NAME_MAX:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:_HASH_CHARACTERS]
    return f"{name[: SHORT_NAME_MAX - _HASH_CHARACTERS - 1]}_{digest}"
