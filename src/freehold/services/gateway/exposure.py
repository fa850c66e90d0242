"""Which name stands for what at a gateway, and who keeps a name that two want."""

from datetime import UTC, datetime

import msgspec

from freehold.ports.targets import Definition, Kind, Problem
from freehold.services.gateway.invisible import skeleton
from freehold.services.gateway.model import SEARCH_TOOL, TOOL_NAME_MAX, GatewayRow, TargetRow
from freehold.services.gateway.naming import Naming, exposed

_NEVER = datetime.max.replace(tzinfo=UTC)


class Exposed(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    target: TargetRow
    definition: Definition


class Shadow(msgspec.Struct, frozen=True, kw_only=True):
    """A definition that clients do not get to see, because of its name."""

    target_id: str
    kind: Kind
    name: str
    """The target's own."""
    why: str

    @property
    def problem(self) -> Problem:
        return Problem(where=self.name, why=self.why)


class Exposure(msgspec.Struct, frozen=True, kw_only=True):
    """`names`: by the name that clients see, in the order of targets and of each one's list."""

    names: dict[str, Exposed]
    shadows: tuple[Shadow, ...]


def exposure(gateway: GatewayRow, kind: Kind = "tool") -> Exposure:
    """Of tools or of prompts. Who was first keeps the name: a later one that reads the same, or
    all but the same (letters' case, look-alikes), is not shown, whatever it was renamed from."""
    wanted = [w for target in gateway.targets for w in _wanted(target, gateway.naming, kind)]
    holders: dict[str, str] = {skeleton(SEARCH_TOOL): "the gateway's own search"}
    shadows: dict[tuple[str, str], Shadow] = {}
    for claim in sorted(wanted, key=lambda claim: claim.order):
        if why := _refused(claim, holders):
            target_id, name = claim.key
            shadows[claim.key] = Shadow(target_id=target_id, kind=kind, name=name, why=why)
        else:
            holders[skeleton(claim.name)] = f"{claim.name} of target {claim.target.name}"
    names = {
        claim.name: Exposed(name=claim.name, target=claim.target, definition=claim.definition)
        for claim in wanted
        if claim.key not in shadows
    }
    return Exposure(names=names, shadows=tuple(shadows.values()))


def _refused(claim: "_Claim", holders: dict[str, str]) -> str:
    if len(claim.name) > TOOL_NAME_MAX:
        return f"{claim.name[:80]}... is longer than {TOOL_NAME_MAX} characters; shorten it"
    holder = holders.get(skeleton(claim.name))
    if holder is None:
        return ""
    return (
        f"{claim.name} would be taken for {holder}, which was there first; rename the target or "
        "the tool"
    )


class _Claim(msgspec.Struct, frozen=True):
    name: str
    target: TargetRow
    definition: Definition
    order: tuple[datetime, datetime, int]

    @property
    def key(self) -> tuple[str, str]:
        return self.target.id, self.definition.name


def _wanted(target: TargetRow, naming: Naming, kind: Kind) -> list[_Claim]:
    found = []
    for pinned in target.pinned:
        definition = pinned.definition
        if definition is None or pinned.kind != kind:
            continue
        order = (pinned.first_at or _NEVER, target.resource.created_at, pinned.position)
        found.append(_Claim(exposed(target.name, pinned.name, naming), target, definition, order))
    return found
