"""What a policy can be about: schemas of a gateway's kind, and a general one.

A world is a schema with the ids that its requests use.
"""

import random
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from freehold.ports.policies import Uid

EXTENSIONS = ("decimal", "datetime", "duration", "ipaddr")


class Field(NamedTuple):
    name: str
    type: "Type"
    required: bool = True


@dataclass(frozen=True)
class Type:
    """`kind`: String, Long, Bool, one of EXTENSIONS, Set (of `element`), Record, Entity."""

    kind: str
    element: "Type | None" = None
    fields: tuple[Field, ...] = ()
    entity: str = ""

    def json(self) -> dict[str, Any]:
        if self.kind in EXTENSIONS:
            return {"type": "Extension", "name": self.kind}
        if self.kind == "Set":
            assert self.element is not None
            return {"type": "Set", "element": self.element.json()}
        if self.kind == "Entity":
            return {"type": "Entity", "name": self.entity}
        if self.kind == "Record":
            return {"type": "Record", "attributes": attributes_json(self.fields)}
        return {"type": {"Bool": "Boolean"}.get(self.kind, self.kind)}


def attributes_json(fields: tuple[Field, ...]) -> dict[str, Any]:
    return {each.name: {**each.type.json(), "required": each.required} for each in fields}


STRING, LONG, BOOL = Type("String"), Type("Long"), Type("Bool")
DECIMAL, DATETIME, DURATION, IP = (Type(each) for each in EXTENSIONS)


def record(*fields: Field) -> Type:
    return Type("Record", fields=fields)


@dataclass(frozen=True)
class EntityKind:
    ids: tuple[str, ...]
    fields: tuple[Field, ...] = ()
    tags: Type | None = None
    parents: tuple[str, ...] = ()
    closed: bool = False
    """There are no others than `ids`."""


@dataclass(frozen=True)
class Act:
    principals: tuple[str, ...]
    resources: tuple[str, ...]
    context: Type
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class World:
    """`groups`: the action groups, and those that each is in. `same_id`: kinds whose attribute
    `id` is the entity's own."""

    namespace: str
    entities: dict[str, EntityKind]
    actions: dict[str, Act]
    groups: dict[str, tuple[str, ...]]
    same_id: bool = False
    common: dict[str, Type] = field(default_factory=dict)

    def schema(self) -> dict[str, Any]:
        kinds: dict[str, Any] = {}
        for name, kind in self.entities.items():
            short = name.removeprefix(f"{self.namespace}::")
            if kind.closed:
                kinds[short] = {"enum": list(kind.ids)}
                continue
            kinds[short] = {
                "memberOfTypes": list(kind.parents),
                "shape": {"type": "Record", "attributes": attributes_json(kind.fields)},
            }
            if kind.tags is not None:
                kinds[short]["tags"] = kind.tags.json()
        actions: dict[str, Any] = {
            name: {"memberOf": [{"id": each} for each in parents]}
            for name, parents in self.groups.items()
        }
        for name, act in self.actions.items():
            actions[name] = {
                "memberOf": [{"id": each} for each in act.groups],
                "appliesTo": {
                    "principalTypes": list(act.principals),
                    "resourceTypes": list(act.resources),
                    "context": act.context.json(),
                },
            }
        named = {name: type.json() for name, type in self.common.items()}
        rest = {"entityTypes": kinds, "actions": actions}
        return {self.namespace: {"commonTypes": named, **_with_names(rest, named)}}

    def action_uid(self, name: str) -> Uid:
        return Uid(f"{self.namespace}::Action", name)

    def members(self, group: str) -> list[str]:
        """The actions in the group, by whatever way."""
        inside = {group}
        while True:
            more = {n for n, parents in self.groups.items() if inside & set(parents)} - inside
            if not more:
                break
            inside |= more
        return [name for name, act in self.actions.items() if inside & set(act.groups)]


def _with_names(node: Any, named: dict[str, Any]) -> Any:
    """The schema with the common types by their names, wherever they occur."""
    if not isinstance(node, dict):
        return node
    plain = {key: value for key, value in node.items() if key != "required"}
    for name, type in named.items():
        if plain == type:
            return {"type": name, "required": node.get("required", True)}
    return {key: _with_names(value, named) for key, value in node.items()}


def gateway_world(seed: int) -> World:
    """Some tools as a gateway's schema has them; which inputs they take is random."""
    pick = random.Random(seed)
    user = EntityKind(("alice", "mgr-1"), (Field("id", STRING),), STRING)
    iam_ids = ("arn:aws:iam::123456789012:role/a", "arn:aws:iam::444455556666:user/b")
    gateway_ids = ("arn:aws:bedrock-agentcore:us-east-1:123456789012:gateway/g1", "g2")
    iam = EntityKind(iam_ids, (Field("id", STRING),))
    gateway = EntityKind(gateway_ids, (Field("id", STRING), Field("name", STRING)))
    space = "AgentCore"
    session = record(
        Field("id", STRING), Field("agent", STRING, False), Field("user", STRING, False)
    )
    actions: dict[str, Act] = {}
    groups: dict[str, tuple[str, ...]] = {"Mcp": (), "CallTool": ("Mcp",)}
    for target in ("Bank", "Travel")[: pick.randint(1, 2)]:
        groups[target] = ("CallTool",)
        for number in range(pick.randint(1, 2)):
            fields = [Field("input", record(*_inputs(pick, pick.randint(2, 5), 2)))]
            fields += [Field("time", DATETIME), Field("session", session, False)]
            fields += [Field("source", IP, False)]
            principals = pick.choice(
                [("OAuthUser",), ("OAuthUser",), ("IamEntity",), ("OAuthUser", "IamEntity")]
            )
            actions[f"{target}___tool_{number}"] = Act(
                tuple(f"{space}::{each}" for each in principals),
                (f"{space}::Gateway",),
                record(*fields),
                (target,),
            )
    kinds = {"OAuthUser": user, "IamEntity": iam, "Gateway": gateway}
    entities = {f"{space}::{name}": kind for name, kind in kinds.items()}
    return World(space, entities, actions, groups, same_id=True)


def _inputs(pick: random.Random, count: int, depth: int) -> list[Field]:
    names = pick.sample(
        ["amount", "currency", "note", "urgent", "rate", "tags", "to", "n o"], count
    )
    return [Field(name, _input_type(pick, depth), pick.random() < 0.6) for name in names]


def _input_type(pick: random.Random, depth: int) -> Type:
    chance = pick.random()
    if depth and chance < 0.15:
        return record(*_inputs(pick, pick.randint(1, 3), depth - 1))
    if chance < 0.3:
        return Type("Set", element=pick.choice([STRING, STRING, LONG, DECIMAL, BOOL]))
    return pick.choice([STRING, STRING, LONG, LONG, BOOL, DECIMAL])


def sets_world(seed: int) -> World:
    """Sets of everything that a set can hold, some of them alike."""
    pick = random.Random(seed)
    node, colour = "Sets::Node", "Sets::Colour"
    elements = [
        STRING, LONG, BOOL, DECIMAL, IP, DATETIME, DURATION, Type("Entity", entity=node),
        record(Field("k", STRING), Field("v", LONG)),
        record(Field("k", BOOL), Field("v", STRING, False)),
    ]  # fmt: skip
    one, two = (Type("Set", element=pick.choice(elements)) for _ in range(2))
    assert one.element is not None and two.element is not None
    context = record(
        Field("a", one), Field("b", one), Field("c", two), Field("d", two, False),
        Field("e", one.element), Field("f", two.element, False), Field("n", LONG),
    )  # fmt: skip
    fields = (Field("s", one), Field("other", Type("Entity", entity=node), False))
    tags = pick.choice([one, STRING])
    entities = {
        node: EntityKind(("x", "y"), fields, tags, (node,)),
        colour: EntityKind(("red", "green"), closed=True),
    }
    act = Act((node, colour), (colour, node), context, ("all",))
    return World("Sets", entities, {"go": act}, {"all": ()})


def office_world() -> World:
    """Hierarchies, entities as attributes, sets of entities, every extension type."""
    user, group, folder, document, colour = (
        f"Office::{each}" for each in ("User", "Group", "Folder", "Document", "Colour")
    )
    profile = record(Field("city", STRING), Field("age", LONG, False))
    entities = {
        user: EntityKind(
            ("ann", "bob"),
            (
                Field("level", LONG),
                Field("manager", Type("Entity", entity=user), False),
                Field("badges", Type("Set", element=STRING)),
                Field("teams", Type("Set", element=Type("Entity", entity=group))),
                Field("profile", profile),
            ),
            STRING,
            (group,),
        ),
        document: EntityKind(
            ("plan",),
            (
                Field("owner", Type("Entity", entity=user)),
                Field("public", BOOL),
                Field("created", DATETIME),
                Field("colour", Type("Entity", entity=colour), False),
                Field("readers", Type("Set", element=Type("Entity", entity=user))),
                Field("ttl", DURATION, False),
            ),
            parents=(folder,),
        ),
        folder: EntityKind(("top", "sub"), tags=LONG, parents=(folder,)),
        colour: EntityKind(("red", "green"), closed=True),
        group: EntityKind(("staff", "board"), (Field("budget", DECIMAL),), parents=(group,)),
    }
    context = record(
        Field("source", IP), Field("now", DATETIME), Field("mfa", BOOL, False),
        Field("age", DURATION, False), Field("profile", profile, False),
        Field("labels", Type("Set", element=STRING), False), Field("count", LONG),
    )  # fmt: skip
    actions = {
        "read": Act((user, group), (document, folder), context, ("reading",)),
        "list": Act((user,), (folder,), record(Field("count", LONG)), ("reading",)),
        "write": Act((user,), (document,), context, ("any",)),
    }
    groups: dict[str, tuple[str, ...]] = {"any": (), "reading": ("any",)}
    return World("Office", entities, actions, groups, common={"Profile": profile})
