"""Cedar's schema in JSON: the types of entities, and the environments in which policies decide."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from freehold.adapters.smt.types import (
    EMPTY_RECORD,
    EXTENSIONS,
    PRIMITIVES,
    Attribute,
    Kind,
    Type,
    entity,
)
from freehold.ports.policies import PolicyRefused, Uid

_DEPTH_MAX = 64


class EntityType(msgspec.Struct, frozen=True):
    """`parents` are the types of entities directly above; `choices` the only ids there are."""

    name: str
    attributes: Type = EMPTY_RECORD
    tags: Type | None = None
    parents: frozenset[str] = frozenset()
    choices: tuple[str, ...] | None = None


class Environment(msgspec.Struct, frozen=True, eq=False):
    """All requests with one action and types of principal and resource; `above` are the groups
    that hold the action, directly or not."""

    action: Uid
    above: frozenset[Uid]
    principal: str
    resource: str
    context: Type

    @property
    def name(self) -> str:
        return f"{self.principal} {self.action.id} {self.resource}"


class Schema:
    def __init__(
        self,
        document: Mapping[str, Any],
        *,
        own_ids: Sequence[str] = (),
        same: Mapping[str, str] | None = None,
    ) -> None:
        """Raises PolicyRefused for what is no schema, as far as is seen here.

        `own_ids`: types of entities whose attribute `id` is the entity's own id. `same`: paths
        whose value is always that of another ("context.system.now", "context.time").
        """
        self._document = document
        self.own_ids = frozenset(own_ids)
        self.same = dict(same or {})
        self.entities: dict[str, EntityType] = {}
        self._ancestors: dict[str, frozenset[str]] = {}
        try:
            for namespace, definition in document.items():
                for name, described in definition.get("entityTypes", {}).items():
                    full = _within(namespace, name)
                    self.entities[full] = self._entity(namespace, full, described)
            self.environments = tuple(self._environments())
        except (AttributeError, KeyError, TypeError) as error:
            raise PolicyRefused([f"the schema cannot be read: {error}"]) from error

    def above(self, name: str) -> frozenset[str]:
        """The types of which an entity can have an ancestor."""
        if name not in self._ancestors:
            found: set[str] = set()
            waiting = [name]
            while waiting:
                known = self.entities.get(waiting.pop())
                fresh = (known.parents if known else frozenset()) - found
                found |= fresh
                waiting.extend(fresh)
            self._ancestors[name] = frozenset(found)
        return self._ancestors[name]

    def _entity(self, namespace: str, full: str, described: Mapping[str, Any]) -> EntityType:
        if "enum" in described:
            return EntityType(full, choices=tuple(described["enum"]))
        tags = described.get("tags")
        shape = described.get("shape")
        return EntityType(
            full,
            attributes=self._type(namespace, shape) if shape else EMPTY_RECORD,
            tags=self._type(namespace, tags) if tags else None,
            parents=frozenset(
                self._entity_name(namespace, name) for name in described.get("memberOfTypes", ())
            ),
        )

    def _environments(self) -> list[Environment]:
        parents: dict[Uid, list[Uid]] = {}
        for namespace, definition in self._document.items():
            for id, described in (definition.get("actions") or {}).items():
                uid = Uid(_within(namespace, "Action"), id)
                parents[uid] = [
                    Uid(self._action_type(namespace, each.get("type")), each["id"])
                    for each in described.get("memberOf") or ()
                ]
        found = []
        for namespace, definition in self._document.items():
            for id, described in (definition.get("actions") or {}).items():
                applies = described.get("appliesTo") or {}
                uid = Uid(_within(namespace, "Action"), id)
                above = _closure(uid, parents)
                context = self._type(namespace, applies.get("context") or {"type": "Record"})
                for principal in applies.get("principalTypes") or ():
                    for resource in applies.get("resourceTypes") or ():
                        found.append(
                            Environment(
                                uid,
                                above,
                                self._entity_name(namespace, principal),
                                self._entity_name(namespace, resource),
                                context,
                            )
                        )
        return found

    def _action_type(self, namespace: str, name: str | None) -> str:
        if name is None:
            return _within(namespace, "Action")
        return name if "::" in name else _within(namespace, name)

    def _type(self, namespace: str, described: Mapping[str, Any], depth: int = 0) -> Type:
        if depth > _DEPTH_MAX:
            raise PolicyRefused(["the schema's types are nested too deeply"])
        kind = described["type"]
        if kind == "Record":
            return self._record(namespace, described, depth)
        if kind == "Set":
            return Type(Kind.SET, element=self._type(namespace, described["element"], depth + 1))
        if kind == "Entity":
            return entity(self._entity_name(namespace, described["name"]))
        if kind == "Extension":
            return EXTENSIONS[described["name"]]
        if kind == "EntityOrCommon":
            return self._named(namespace, described["name"], depth)
        return PRIMITIVES.get(kind) or self._named(namespace, kind, depth)

    def _record(self, namespace: str, described: Mapping[str, Any], depth: int) -> Type:
        attributes = (described.get("attributes") or {}).items()
        return Type(
            Kind.RECORD,
            attributes={
                name: Attribute(self._type(namespace, each, depth + 1), each.get("required", True))
                for name, each in attributes
            },
        )

    def _named(self, namespace: str, name: str, depth: int) -> Type:
        """A common type, an entity type or one of Cedar's own, sought in this order."""
        for home in _homes(namespace, name):
            outer, inner = home
            definition = self._document.get(outer) or {}
            common = (definition.get("commonTypes") or {}).get(inner)
            if common is not None:
                return self._type(outer, common, depth + 1)
            if inner in (definition.get("entityTypes") or {}):
                return entity(_within(outer, inner))
        own = name.removeprefix("__cedar::")
        if own in PRIMITIVES:
            return PRIMITIVES[own]
        if own in EXTENSIONS:
            return EXTENSIONS[own]
        raise PolicyRefused([f"the schema names the type {name!r}, which it does not have"])

    def _entity_name(self, namespace: str, name: str) -> str:
        for outer, inner in _homes(namespace, name):
            if inner in ((self._document.get(outer) or {}).get("entityTypes") or {}):
                return _within(outer, inner)
        raise PolicyRefused([f"the schema names the entity type {name!r}, which it does not have"])


def _homes(namespace: str, name: str) -> list[tuple[str, str]]:
    """The namespaces in which a name is looked up, and the name in each."""
    if "::" in name:
        outer, _, inner = name.rpartition("::")
        return [(outer, inner)]
    return [(namespace, name)] if not namespace else [(namespace, name), ("", name)]


def _within(namespace: str, name: str) -> str:
    return f"{namespace}::{name}" if namespace else name


def _closure(uid: Uid, parents: Mapping[Uid, list[Uid]]) -> frozenset[Uid]:
    found: set[Uid] = set()
    waiting = [uid]
    while waiting:
        fresh = set(parents.get(waiting.pop(), ())) - found
        found |= fresh
        waiting.extend(fresh)
    return frozenset(found)
