"""What waits for an administrator: approved, or rejected. And pins of targets that keep no list."""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from freehold.kernel.clock import now
from freehold.kernel.errors import Conflict, NotFound
from freehold.ports.database import Connection
from freehold.ports.resources import Resource, Resources
from freehold.ports.targets import Definition, Kind, Place, Problem
from freehold.services.gateway import pins
from freehold.services.gateway.model import TAG_NEW_TOOLS, TARGET, Pinned
from freehold.services.gateway.store import GatewayStore

PINS_MAX = 5000
"""Of a target that keeps no list: one that shows other names each time fills no table."""
Change = Callable[[Pinned], Pinned]


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """Which change of a target's: all that wait where `name` is None. `hash`: as it was shown; what
    changed since is not meant."""

    target_id: str
    kind: Kind = "tool"
    name: str | None = None
    hash: str | None = None


class Approvals:
    def __init__(self, *, resources: Resources, store: GatewayStore) -> None:
        self._resources, self._store = resources, store

    async def approve(
        self, tenant: str, gateway_id: str, decided: Decided, *, by: str
    ) -> list[Pinned]:
        """As they are in force now. NotFound, Conflict. What was rejected before may be meant."""

        def change(row: Pinned) -> Pinned:
            return pins.approved(row, by=by, now=now())

        return await self._decide(tenant, gateway_id, decided, change)

    async def reject(
        self, tenant: str, gateway_id: str, decided: Decided, *, by: str
    ) -> list[Pinned]:
        def change(row: Pinned) -> Pinned:
            return pins.rejected(row, by=by)

        return await self._decide(tenant, gateway_id, decided, change)

    async def _decide(
        self, tenant: str, gateway_id: str, decided: Decided, change: Change
    ) -> list[Pinned]:
        async with self._store.changing(tenant, gateway_id) as connection:
            target = await self._resources.get(
                tenant, TARGET, decided.target_id, parent=gateway_id, connection=connection
            )
            rows = await self._meant(connection, target, decided)
            written = tuple(change(row) for row in rows)
            await self._store.write(connection, target, pins.Seen(written=written))
        return list(written)

    async def _meant(
        self, connection: Connection, target: Resource, decided: Decided
    ) -> list[Pinned]:
        pinned = await self._store.pinned(connection, target)
        waiting = [row for row in pinned.values() if row.present and row.pending_hash is not None]
        if decided.name is None:
            # What somebody said no to is only approved by its name.
            return [row for row in waiting if row.rejected_by is None]
        for row in waiting:
            if (row.kind, row.name) == (decided.kind, decided.name):
                if decided.hash not in (None, row.pending_hash):
                    raise Conflict(
                        f"{row.name} has changed again since; look at it and decide on that"
                    )
                return [row]
        raise NotFound(f"nothing of {decided.kind} {decided.name!r} waits for approval")


class Fresh(msgspec.Struct, frozen=True, kw_only=True):
    """A list that was just asked for, without invisible characters. `hidden`: what of it is not
    what was approved, and why."""

    definitions: tuple[Definition, ...]
    hidden: Mapping[pins.Key, str]
    problems: tuple[Problem, ...] = ()


class FreshPins:
    """Targets in the listing mode DYNAMIC: nothing of their lists is kept but what it was."""

    def __init__(self, *, resources: Resources, store: GatewayStore) -> None:
        self._resources, self._store = resources, store

    async def compare(self, place: Place, definitions: Sequence[Definition]) -> Fresh:
        """The first sight pins. One statement where all is as it was. NotFound for a target that
        was deleted meanwhile."""
        checked, problems = pins.checked(definitions)
        rows = await self._store.read_pins(place.tenant, place.gateway_id, place.target_id)
        if pins.compare(rows, checked, now=now(), whole=False).anything:
            rows = await self._record(place, checked)
        keys = {(d.kind, d.name) for d in checked}
        hidden = {
            key: _why(rows.get(key))
            for key in keys
            if key not in rows or rows[key].definition is None
        }
        return Fresh(definitions=tuple(checked), hidden=hidden, problems=tuple(problems))

    async def _record(self, place: Place, checked: Sequence[Definition]) -> dict[pins.Key, Pinned]:
        """Compared again while nobody else writes: of two first sights one is the first."""
        async with self._store.changing(place.tenant, place.gateway_id, tell=False) as connection:
            target = await self._resources.get(
                place.tenant, TARGET, place.target_id, parent=place.gateway_id,
                connection=connection,
            )  # fmt: skip
            trusting = target.tags.get(TAG_NEW_TOOLS, "trust") == "trust"
            rows = await self._store.pinned(connection, target)
            seen = pins.compare(
                rows, checked, now=now(), whole=False,
                new_tools="trust" if trusting else "approve",
            )  # fmt: skip
            known = [row for row in seen.written if (row.kind, row.name) in rows]
            new = [row for row in seen.written if (row.kind, row.name) not in rows]
            kept = pins.Seen(written=(*known, *new[: max(0, PINS_MAX - len(rows))]))
            await self._store.write(connection, target, kept)
        return {**rows, **{(row.kind, row.name): row for row in kept.written}}


def _why(row: Pinned | None) -> str:
    if row is None:
        return f"the target has shown more than {PINS_MAX} different definitions"
    return "it was rejected" if row.state == "rejected" else row.pending_why or row.state
