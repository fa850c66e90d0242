"""Random Cedar policies that fit a world's schema, nearly all of them at the first try.

Seeded: the same seed makes the same policies. What an expression takes from an optional place is
guarded as the validator demands it, in one of the ways that people write it.
"""

import json
import random

import cedarpy
from cedar_paths import Names, Path, action_text, entity_text, literal_text, quoted, unique
from cedar_requests import LONG_MAX, LONG_MIN, Pools, datetime_ok
from cedar_worlds import BOOL, DATETIME, DECIMAL, DURATION, IP, LONG, STRING, Type, World

from freehold.ports.policies import Rule

COMPARE = ("<", "<=", ">", ">=")
DECIMAL_COMPARE = ("lessThan", "lessThanOrEqual", "greaterThan", "greaterThanOrEqual")
_PIECES = ("a", "b", "US", "mgr-", "x", "é", "", "😀")


class Author:
    """Writes policies for one world. What constants it used is in `pools` afterwards."""

    def __init__(self, world: World, seed: int, *, depth: int = 3) -> None:
        self.world, self.pools = world, Pools()
        self.schema = cedarpy.Schema.from_json_str(json.dumps(world.schema()))
        self.refused = 0
        """How many were thrown away since the validator would not have them."""
        self._depth = depth
        self._random = random.Random(seed)
        self._paths: list[Path] = []
        self._known: tuple[str, ...] = ()

    def rules(self, count: int, *, forbids: float = 0.35) -> list[Rule]:
        return [self.rule(f"p{number}", forbids=forbids) for number in range(count)]

    def unfit(self, rule: Rule) -> Rule:
        """The same rule with a condition more, which no schema knows."""
        more = " when { context.nothing_such == 1 };"
        return Rule(id=rule.id, statement=rule.statement.removesuffix(";") + more)

    def rule(self, id: str, *, forbids: float = 0.35) -> Rule:
        for _ in range(200):
            statement = self._statement(forbids)
            if cedarpy.validate_policies(statement, self.schema).validation_passed:
                return Rule(id=id, statement=statement)
            self.refused += 1
        raise AssertionError("no policy of 200 fits the schema")

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    # The head

    def _statement(self, forbids: float) -> str:
        effect = "forbid" if self._chance(forbids) else "permit"
        action, names = self._action_scope()
        acts = [(name, self.world.actions[name]) for name in names]
        principals = unique(kind for _, act in acts for kind in act.principals)
        resources = unique(kind for _, act in acts for kind in act.resources)
        principal, principals = self._entity_scope("principal", principals)
        resource, resources = self._entity_scope("resource", resources)
        kinds = {"principal": principals, "resource": resources}
        known = Names(self.world, self._random, names, kinds, self.pools.tag_keys)
        self._paths = known.all()
        count = self._random.choice([0, 1, 1, 1, 1, 2])
        conditions = [
            f"{self._random.choice(['when', 'when', 'unless'])} {{ {self._boolean(self._depth)} }}"
            for _ in range(count)
        ]
        return f"{effect}({principal}, {action}, {resource}) {' '.join(conditions)};"

    def _action_scope(self) -> tuple[str, list[str]]:
        every = list(self.world.actions)
        form = self._random.choice(["==", "==", "in", "group", "any"])
        if form == "==":
            name = self._random.choice(every)
            return f"action == {self._action(name)}", [name]
        if form == "in":
            names = self._random.sample(every, min(2, len(every)))
            return f"action in [{', '.join(map(self._action, names))}]", names
        if form == "group":
            group = self._random.choice(list(self.world.groups))
            return f"action in {self._action(group)}", self.world.members(group)
        return "action", every

    def _action(self, name: str) -> str:
        return action_text(self.world, name)

    def _entity_scope(self, var: str, kinds: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
        form = self._random.choice(["any", "any", "is", "is", "==", "in"])
        kind = self._random.choice(kinds)
        above = self.world.entities[kind].parents
        if form == "is":
            inside = f" in {self._uid(self._random.choice(above))}" if above else ""
            return f"{var} is {kind}{inside if self._chance(0.4) else ''}", (kind,)
        if form == "==":
            return f"{var} == {self._uid(kind)}", (kind,)
        if form == "in" and above:
            parent = self._random.choice(above)
            inside_kinds = tuple(
                k for k in kinds if parent in self.world.entities[k].parents or k == parent
            )
            return f"{var} in {self._uid(parent)}", inside_kinds
        return var, kinds

    def _uid(self, kind: str) -> str:
        return entity_text(kind, self._random.choice(self.world.entities[kind].ids))

    # Conditions

    def _boolean(self, depth: int) -> str:
        if not depth or self._chance(0.25):
            return self._atom()
        form = self._random.choice(["and", "and", "or", "not", "if", "known", "equal"])
        if form == "not":
            return f"!({self._boolean(depth - 1)})"
        if form == "known":
            return self._under_a_guard(depth)
        left, right = self._boolean(depth - 1), self._boolean(depth - 1)
        if form == "if":
            return f"(if {self._boolean(depth - 1)} then {left} else {right})"
        sign = {"and": "&&", "or": "||", "equal": "=="}[form]
        return f"({left} {sign} {right})"

    def _under_a_guard(self, depth: int) -> str:
        """`guard && (more)`, where more need not ask again."""
        guarded = [path for path in self._paths if path.guards]
        if not guarded:
            return self._atom()
        guards = self._random.choice(guarded).guards
        before, self._known = self._known, (*self._known, *guards)
        inner = self._boolean(depth - 1)
        self._known = before
        return f"({' && '.join(guards)} && ({inner}))"

    def _atom(self) -> str:
        guards: list[str] = []
        text = self._test(guards)
        missing = unique(guard for guard in guards if guard not in self._known)
        if not missing:
            return text
        first = " && ".join(missing)
        if self._chance(0.15):
            return f"(if {first} then {text} else {self._random.choice(['true', 'false'])})"
        return f"({first} && {text})"

    def _take(self, path: Path, guards: list[str]) -> str:
        guards.extend(path.guards)
        return path.text

    def _test(self, guards: list[str]) -> str:
        if self._chance(0.04):
            return self._random.choice(["true", "false", "context has nothing_such"])
        if self._chance(0.03):
            actions = [self._action(self._random.choice(list(self.world.actions))) for _ in "ab"]
            groups = [self._action(self._random.choice(list(self.world.groups))), *actions]
            form = self._random.choice(["==", "!=", "in", "in ["])
            if form == "in [":
                return f"action in [{', '.join(groups[:2])}]"
            return f"action {form} {groups[0] if form == 'in' else actions[0]}"
        if self._chance(0.12) and (guarded := [p for p in self._paths if p.guards]):
            path = self._random.choice(guarded)
            guards.extend(path.guards[:-1])
            return path.guards[-1]
        path = self._random.choice(self._favoured())
        return self._test_of(path, self._take(path, guards), guards)

    def _favoured(self) -> list[Path]:
        """Mostly what a call says, since most policies speak of that."""
        inputs = [path for path in self._paths if path.text.startswith("context.input.")]
        return inputs if inputs and self._chance(0.5) else self._paths

    def _test_of(self, path: Path, text: str, guards: list[str]) -> str:
        kind, pick = path.type.kind, self._random.choice
        if kind in ("Record", "Entity"):
            return self._structure_test(path, text, guards)
        if kind != "Bool" and self._chance(0.15):
            return f"{text} {pick(['==', '!='])} {self._value(path.type, 2, guards)}"
        if kind == "Bool":
            return text if self._chance(0.7) else f"{text} == {self._value(BOOL, 1, guards)}"
        if kind == "Long":
            if self._chance(0.6):
                text = f"({text} {pick('+-*')} {self._value(LONG, 2, guards)})"
            return f"{text} {pick([*COMPARE, '==', '!='])} {self._value(LONG, 2, guards)}"
        if kind in ("datetime", "duration"):
            left = self._value(path.type, 2, guards) if self._chance(0.4) else text
            return f"{left} {pick(COMPARE)} {self._value(path.type, 2, guards)}"
        if kind == "decimal":
            return f"{text}.{pick(DECIMAL_COMPARE)}({self._value(DECIMAL, 1, guards)})"
        if kind == "ipaddr":
            if self._chance(0.6):
                return f"{text}.isInRange({self._value(IP, 1, guards)})"
            return f"{text}.{pick(['isIpv4', 'isIpv6', 'isLoopback', 'isMulticast'])}()"
        if kind == "Set":
            return self._set_test(path, text, guards)
        form = pick(["like", "like", "==", "!=", "among"])
        if form == "like":
            return f"{text} like {self._pattern()}"
        if form == "among":
            return f"{self._literal(Type('Set', element=STRING))}.contains({text})"
        return f"{text} {form} {self._value(STRING, 1, guards)}"

    def _set_test(self, path: Path, text: str, guards: list[str]) -> str:
        assert path.type.element is not None
        form = self._random.choice(["contains", "contains", "containsAll", "containsAny", "empty"])
        if form == "empty":
            return f"{text}.isEmpty()"
        if form == "contains":
            return f"{text}.contains({self._value(path.type.element, 1, guards)})"
        other = self._value(path.type, 1, guards)
        left, right = (text, other) if self._chance(0.7) else (other, text)
        return f"{left}.{form}({right})"

    def _structure_test(self, path: Path, text: str, guards: list[str]) -> str:
        """Of a record or an entity."""
        if path.type.kind == "Record":
            if self._chance(0.3):
                return f"{text} == {self._value(path.type, 1, guards)}"
            names = [each.name for each in path.type.fields] or ["nothing_such"]
            return f"{text} has {quoted(self._random.choice(names))}"
        kind = path.type.entity
        form = self._random.choice(["==", "==", "in", "in", "in set", "is", "has", "tag"])
        if form == "==":
            return f"{text} {self._random.choice(['==', '!='])} {self._value(path.type, 1, guards)}"
        if form == "is":
            return f"{text} is {self._random.choice(list(self.world.entities))}"
        if form == "tag" and self.world.entities[kind].tags is not None:
            return f"{text}.hasTag({self._value(STRING, 1, guards)})"
        above = self.world.entities[kind].parents or (kind,)
        if form == "in set" and self._chance(0.4):
            several = Type("Set", element=Type("Entity", entity=self._random.choice(above)))
            return f"{text} in {self._value(several, 1, guards)}"
        if form == "in set":
            parents = [self._uid(self._random.choice(above)) for _ in range(2)]
            return f"{text} in [{', '.join(parents)}]"
        return f"{text} in {self._value(Type('Entity', entity=above[0]), 1, guards)}"

    # Values

    def _value(self, type: Type, depth: int, guards: list[str]) -> str:
        same = [path for path in self._paths if path.type == type]
        if same and (self._chance(0.3) or type.kind == "Record"):
            return self._take(self._random.choice(same), guards)
        if depth and self._chance(0.35):
            made = self._computed(type, depth, guards)
            if made is not None:
                return made
        return self._literal(type)

    def _computed(self, type: Type, depth: int, guards: list[str]) -> str | None:
        more, pick, kind = depth - 1, self._random.choice, type.kind
        if kind != "Record" and self._chance(0.15):
            condition = self._simple_condition(guards)
            left, right = self._value(type, more, guards), self._value(type, more, guards)
            return f"(if {condition} then {left} else {right})"
        if self._chance(0.06):
            members = f'"k": {self._value(type, more, guards)}, "l": {self._value(LONG, 0, guards)}'
            return f"{{{members}}}.k"
        if kind == "Long":
            if self._chance(0.2):
                unit = pick(["Milliseconds", "Seconds", "Minutes", "Hours", "Days"])
                return f"{self._value(DURATION, more, guards)}.to{unit}()"
            if self._chance(0.2):
                return f"-({self._value(LONG, more, guards)})"
            left, right = self._value(LONG, more, guards), self._value(LONG, more, guards)
            return f"({left} {pick('+-*')} {right})"
        if kind == "datetime":
            at = self._value(DATETIME, more, guards)
            if self._chance(0.3):
                return f"{at}.toDate()"
            return f"{at}.offset({self._value(DURATION, more, guards)})"
        if kind == "duration":
            at = self._value(DATETIME, more, guards)
            if self._chance(0.4):
                return f"{at}.toTime()"
            return f"{at}.durationSince({self._value(DATETIME, more, guards)})"
        return None

    def _simple_condition(self, guards: list[str]) -> str:
        plain = [path for path in self._paths if path.type == BOOL]
        if not plain or self._chance(0.3):
            left, right = self._value(LONG, 0, guards), self._value(LONG, 0, guards)
            return f"{left} {self._random.choice(COMPARE)} {right}"
        return self._take(self._random.choice(plain), guards)

    def _literal(self, type: Type) -> str:
        kind, pick = type.kind, self._random.choice
        if kind == "Set":
            assert type.element is not None
            members = [self._literal(type.element) for _ in range(pick([1, 2, 3]))]
            return f"[{', '.join(members)}]"
        if kind == "Record":
            members = [f"{quoted(f.name)}: {self._literal(f.type)}" for f in type.fields]
            return f"{{{', '.join(members)}}}"
        if kind == "Entity":
            return self._uid(type.entity)
        if kind == "Bool":
            return pick(["true", "false"])
        pool = getattr(self.pools, kind)
        if self._chance(0.5):
            pool.append(self._fresh(kind))
            return literal_text(kind, pool[-1])
        return literal_text(kind, pick(pool))

    def _fresh(self, kind: str) -> int | str:
        pick = self._random
        if kind == "String":
            return "".join(pick.choice(_PIECES) for _ in range(pick.randint(1, 3)))
        if kind == "ipaddr":
            first = f"{pick.choice([10, 127, 172, 192, 224])}.{pick.randint(0, 255)}.0.0"
            return f"{first}/{pick.randint(4, 24)}" if pick.random() < 0.7 else f"2001:db8::{5:x}"
        if kind == "decimal":
            return pick.choice([pick.randint(-200_000, 200_000), LONG_MAX, LONG_MIN])
        if kind == "datetime":
            value = pick.randint(-(10**13), 4 * 10**12)
            return value if datetime_ok(value) else 0
        if kind == "duration":
            return pick.choice([pick.randint(-(10**9), 10**9), LONG_MAX, LONG_MIN])
        return pick.choice([pick.randint(-20, 2000), pick.randint(LONG_MIN, LONG_MAX)])

    def _pattern(self) -> str:
        """Of `like`. Strings that fit it, and nearly so, go into the pool."""
        pieces = [self._random.choice([*_PIECES, "*", "*", None]) for _ in range(3)]
        for filling in ("", "a", "*"):
            self.pools.String.append("".join(filling if p is None else p for p in pieces))
        texts = ["*" if p is None else "\\*" if p == "*" else p for p in pieces]
        return f'"{"".join(texts)}"'
