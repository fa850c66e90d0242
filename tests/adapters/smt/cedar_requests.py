"""Random requests of a world. `Pools` are the constants that policies and requests share, so that a
request often stands on the border that a policy draws.
"""

import ipaddress
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cedar_worlds import EntityKind, Type, World

from freehold.ports.policies import Entity, PolicyRequest, Uid

LONG_MAX = 2**63 - 1
LONG_MIN = -(2**63)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class Pools:
    """Decimals in ten-thousandths; datetimes and durations in milliseconds."""

    String: list[str] = field(
        default_factory=lambda: ["", "a", "b", "ab", "US", "alice", "mgr-1", "*", "é", "a*b"]
    )
    Long: list[int] = field(
        default_factory=lambda: [0, 1, -1, 5, 100, 1000, LONG_MAX, LONG_MIN, 1 << 62]
    )
    decimal: list[int] = field(default_factory=lambda: [0, 5, 10_000, 15_000, -70_000, 101_234])
    datetime: list[int] = field(
        default_factory=lambda: [0, 1_700_000_000_000, 86_399_999, -1, 1_795_000_000_123]
    )
    duration: list[int] = field(
        default_factory=lambda: [0, 1, 86_400_000, -3_600_000, 5_400_000, 999, 60_000]
    )
    ipaddr: list[str] = field(
        default_factory=lambda: [
            "10.0.0.1", "10.1.2.3", "127.0.0.1", "192.168.0.0/16", "10.0.0.0/8", "224.0.0.1", "::1",
            "fe80::1", "ff02::1", "2001:db8::/32", "0.0.0.0/0", "10.0.0.1/8", "224.0.0.0/3",
        ]
    )  # fmt: skip
    tag_keys: list[str] = field(default_factory=lambda: ["role", "scope"])

    def ids(self, kind: EntityKind) -> list[str]:
        return list(kind.ids) if kind.closed else [*kind.ids, "nobody"]


def decimal_text(value: int) -> str:
    digits = f"{abs(value):05d}"
    return f"{'-' if value < 0 else ''}{digits[:-4]}.{digits[-4:]}"


def datetime_text(value: int) -> str:
    at = _EPOCH + timedelta(milliseconds=value)
    return f"{at.year:04d}-{at:%m-%dT%H:%M:%S}.{value % 1000:03d}Z"


def datetime_ok(value: int) -> bool:
    """Has it a text in four digits of a year?"""
    return -62_135_596_800_000 <= value <= 253_402_300_799_999


class Requests:
    """Random requests of a world, whose values are the pools' or stand right beside them."""

    def __init__(self, world: World, pools: Pools, seed: int) -> None:
        self.world, self.pools = world, pools
        self._random = random.Random(seed)

    def any(self, actions: list[str] | None = None) -> tuple[PolicyRequest, list[Entity]]:
        pick = self._random.choice
        name = pick(actions or list(self.world.actions))
        act = self.world.actions[name]
        principal = self._uid(pick(act.principals))
        resource = self._uid(pick(act.resources))
        request = PolicyRequest(
            principal=principal,
            action=self.world.action_uid(name),
            resource=resource,
            context=self._json(act.context),
        )
        return request, list(self._entities(principal, resource))

    def _uid(self, kind: str) -> Uid:
        return Uid(kind, self._random.choice(self.pools.ids(self.world.entities[kind])))

    def _entities(self, *named: Uid) -> Iterator[Entity]:
        """All that there are: else an attribute of one that is missing would be an error."""
        uids = [Uid(n, i) for n, k in self.world.entities.items() for i in self.pools.ids(k)]
        uids += [each for each in named if each not in uids]
        for place, uid in enumerate(uids):
            kind = self.world.entities[uid.type]
            # Only later ones, so that no circle comes about.
            parents = [u for u in uids[place + 1 :] if u.type in kind.parents]
            attributes = {
                each.name: self._json(each.type)
                for each in kind.fields
                if each.required or self._random.random() < 0.6
            }
            if self.world.same_id:
                attributes["id"] = uid.id
            yield Entity(
                uid=uid,
                attributes=attributes,
                tags=self._tags(kind),
                parents=[each for each in parents if self._random.random() < 0.3],
            )

    def _tags(self, kind: EntityKind) -> dict[str, Any]:
        if kind.tags is None:
            return {}
        keys = [*self.pools.tag_keys, "a"]
        return {key: self._json(kind.tags) for key in keys if self._random.random() < 0.6}

    def _json(self, type: Type) -> Any:
        pick, kind = self._random.choice, type.kind
        if kind == "Record":
            return {
                each.name: self._json(each.type)
                for each in type.fields
                if each.required or self._random.random() < 0.65
            }
        if kind == "Set":
            assert type.element is not None
            return [self._json(type.element) for _ in range(pick([0, 1, 1, 2, 3]))]
        if kind == "Entity":
            uid = self._uid(type.entity)
            return {"__entity": {"type": uid.type, "id": uid.id}}
        if kind == "Bool":
            return self._random.random() < 0.5
        value = pick(getattr(self.pools, kind))
        if kind == "String":
            return value if self._random.random() < 0.9 else value + pick(["a", "x", "*"])
        if kind == "ipaddr":
            return _extension("ip", value if self._random.random() < 0.7 else self._inside(value))
        beside = value + pick([0, 0, 0, 1, -1])
        beside = beside if LONG_MIN <= beside <= LONG_MAX else value
        if kind == "Long":
            return beside
        if kind == "decimal":
            return _extension("decimal", decimal_text(beside))
        if kind == "duration":
            return _extension("duration", f"{beside}ms")
        return _extension("datetime", datetime_text(beside if datetime_ok(beside) else value))

    def _inside(self, text: str) -> str:
        network = ipaddress.ip_network(text, strict=False)
        return str(network[self._random.randrange(min(network.num_addresses, 1 << 32))])


def _extension(function: str, argument: str) -> dict[str, Any]:
    return {"__extn": {"fn": function, "arg": argument}}
