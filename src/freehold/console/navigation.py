"""The console's menu. It hides what a role may not see; that it may not is the authorizer's."""

from collections.abc import Sequence

import msgspec

from freehold.kernel.caller import Caller, CallerKind


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """`roles` that see it; empty: everybody. `icon` is a symbol of templates/icons.html."""

    name: str
    path: str
    icon: str
    group: str = ""
    roles: frozenset[str] = frozenset()


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """An item as a page shows it. `begins`: the first of its group. `current`: the page is it,
    or lies within it."""

    item: Item
    begins: bool
    current: bool


_READERS = frozenset({"admin", "developer", "operator", "auditor"})
_OVERSEERS = frozenset({"admin", "auditor"})

ITEMS = (
    Item(name="Overview", path="/console", icon="home"),
    Item(name="Agents", path="/console/agents", icon="agent", group="Run", roles=_READERS),
    Item(name="Traces", path="/console/traces", icon="traces", group="Run", roles=_READERS),
    Item(name="Forks", path="/console/forks", icon="fork", group="Run", roles=_READERS),
    Item(name="Sessions", path="/console/sessions", icon="sessions", group="Run", roles=_READERS),
    Item(name="Gateways", path="/console/gateways", icon="gateway", group="Govern", roles=_READERS),
    Item(name="Policies", path="/console/policies", icon="policy", group="Govern", roles=_READERS),
    Item(
        name="Decisions", path="/console/decisions", icon="scales", group="Govern", roles=_OVERSEERS
    ),
    Item(name="Memory", path="/console/memory", icon="memory", group="Know", roles=_READERS),
    Item(
        name="Identities", path="/console/identities", icon="account", group="Know", roles=_READERS
    ),
    Item(name="Audit", path="/console/audit", icon="audit", group="Account", roles=_OVERSEERS),
    Item(name="Costs", path="/console/costs", icon="costs", group="Account", roles=_READERS),
    Item(name="Keys", path="/console/keys", icon="key", group="Account", roles=_OVERSEERS),
    Item(name="Connect a device", path="/console/device", icon="terminal", group="Account"),
)


def seen_by(caller: Caller, items: Sequence[Item] = ITEMS) -> list[Item]:
    if caller.kind is CallerKind.ADMIN:
        return list(items)
    return [i for i in items if not i.roles or i.roles & caller.roles]


def places(caller: Caller, path: str, items: Sequence[Item] = ITEMS) -> list[Place]:
    found: list[Place] = []
    group = ""
    for item in seen_by(caller, items):
        within = item.path != "/console" and path.startswith(item.path + "/")
        found.append(
            Place(item=item, begins=item.group != group, current=path == item.path or within)
        )
        group = item.group
    return found
