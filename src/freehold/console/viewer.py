"""The signed-in person, in words for people."""

import msgspec

from freehold.kernel.caller import Caller


class Viewer(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    initial: str
    tenant: str
    principal: str
    roles: tuple[str, ...]


def viewer_of(caller: Caller) -> Viewer:
    name = name_of(caller)
    return Viewer(
        name=name,
        initial=name[:1].upper(),
        tenant=caller.tenant,
        principal=caller.principal,
        roles=tuple(sorted(caller.roles)),
    )


def name_of(caller: Caller) -> str:
    """How the provider calls the person; else our own word for them."""
    for claim in ("name", "email", "preferred_username"):
        value = caller.claims.get(claim)
        if isinstance(value, str) and value.strip():
            return value.strip()
    return caller.user or caller.principal.rpartition("/")[2]
