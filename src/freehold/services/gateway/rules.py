"""Gateway rules: which target a call goes to, compiled once and decided for each call."""

import hashlib
import random
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import msgspec

from freehold.kernel.errors import ValidationFailed
from freehold.ports.targets import Json

Fault = Literal["CONNECTION_ERROR", "FIRST_BYTE_TIMEOUT", "UNROUTABLE"]

_STATUS = re.compile(r"[45](?:\d\d|XX)")
_FAULTS: frozenset[str] = frozenset({"CONNECTION_ERROR", "FIRST_BYTE_TIMEOUT", "UNROUTABLE"})
_NO_BUNDLES = (
    "configuration bundles are not offered here: use a target of its own with the other"
    " configuration, and routeToTarget"
)


class Triggers(msgspec.Struct, frozen=True):
    """What makes a gateway go on to the next target: statuses ("429", "5XX") and faults."""

    statuses: frozenset[str] = frozenset({"5XX"})
    faults: frozenset[str] = _FAULTS

    def on_status(self, status: int) -> bool:
        return str(status) in self.statuses or f"{status // 100}XX" in self.statuses

    def on(self, fault: Fault) -> bool:
        return fault in self.faults


NO_TRIGGERS = Triggers(frozenset(), frozenset())


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A target to try. `model` is "" where the client's own goes on; no `first_byte_seconds`: only
    the target's own time-out holds. The last step of a route goes on to nobody."""

    target: str
    model: str = ""
    triggers: Triggers = NO_TRIGGERS
    first_byte_seconds: float | None = None


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """In order, until one does. `rule` and `variant` are for the record."""

    steps: tuple[Step, ...]
    rule: str = ""
    variant: str = ""
    breaker: bool = False
    """Whether a step whose circuit is open is passed over, as long as another one is left."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What rules look at. `path` is below the gateway's own; `session` keeps a weighted choice:
    calls that say the same go the same way, on every worker."""

    path: str
    principal: str = ""
    model: str = ""
    session: str = ""


class Rules:
    """`problems`: (rule's id, what of it is not followed)."""

    def __init__(
        self, rules: Sequence["_Rule"] = (), problems: Sequence[tuple[str, str]] = ()
    ) -> None:
        self._rules = tuple(rules)
        self.problems = tuple(problems)

    def __bool__(self) -> bool:
        return bool(self._rules)

    def route(self, asked: Asked, chance: Callable[[], float] = random.random) -> Route | None:
        """Of the first rule that fits; None where none does."""
        for rule in self._rules:
            if all(fits(asked) for fits in rule.conditions):
                return rule.choose(asked, chance)
        return None


class _Rule(msgspec.Struct, frozen=True):
    id: str
    conditions: tuple[Callable[[Asked], bool], ...]
    routes: tuple[tuple[int, Route], ...]

    def choose(self, asked: Asked, chance: Callable[[], float]) -> Route:
        if len(self.routes) == 1:
            return self.routes[0][1]
        if asked.session:
            digest = hashlib.blake2b(f"{self.id}|{asked.session}".encode(), digest_size=8)
            point = int.from_bytes(digest.digest(), "big") / 2**64
        else:
            point = chance()
        left = point * sum(weight for weight, _ in self.routes)
        for weight, route in self.routes:
            left -= weight
            if left < 0:
                return route
        return self.routes[-1][1]


def compiled(documents: Iterable[tuple[str, Json]]) -> Rules:
    """By their ids, members as CreateGatewayRule has them. What cannot be followed is passed over
    and named."""
    rules, problems = [], []
    for id, document in sorted(documents, key=lambda each: int(each[1]["priority"])):
        actions = document["actions"]
        if any("configurationBundle" in action for action in actions):
            problems.append((id, _NO_BUNDLES))
        routes = [action["routeToTarget"] for action in actions if "routeToTarget" in action]
        if routes:
            conditions = tuple(_condition(each) for each in document.get("conditions") or ())
            rules.append(_Rule(id, conditions, _routes(id, routes[0])))
    return Rules(rules, problems)


def check(document: Json, kind_of: Callable[[str], str | None]) -> None:
    """Of a rule that is to be made; `kind_of` a target by name ("http.passthrough"), None where
    there is none. Raises ValidationFailed with words."""
    actions = document["actions"]
    if any("configurationBundle" in action for action in actions):
        raise ValidationFailed(f"actions: {_NO_BUNDLES}.")
    if len(actions) != 1:
        raise ValidationFailed("actions: one routeToTarget.")
    routes = _routes("new", actions[0]["routeToTarget"])
    if len(routes) > 1 and sum(weight for weight, _ in routes) != 100:
        raise ValidationFailed("trafficSplit: the weights must sum to 100.")
    for _, route in routes:
        _check_route(route, kind_of)


def _check_route(route: Route, kind_of: Callable[[str], str | None]) -> None:
    seen: set[tuple[str, str]] = set()
    for step in route.steps:
        kind = kind_of(step.target)
        if kind is None:
            raise ValidationFailed(f"targetName: this gateway has no target {step.target}.")
        if not kind.startswith("inference.") and (step.model or len(route.steps) > 1):
            raise ValidationFailed(
                f"targetName: {step.target} is no inference target: only those have a model and"
                " fallbacks."
            )
        if (step.target, step.model) in seen:
            raise ValidationFailed(
                f"targetFallback: {step.target} with the same model stands there twice."
            )
        seen.add((step.target, step.model))
        for status in step.triggers.statuses:
            if not _STATUS.fullmatch(status):
                raise ValidationFailed(f"statusCodes: {status[:20]} is neither a 4XX nor a 5XX.")


def _routes(id: str, action: Json) -> tuple[tuple[int, Route], ...]:
    if "staticRoute" in action:
        return ((100, _route(id, action["staticRoute"])),)
    split = action["weightedRoute"]["trafficSplit"]
    return tuple((int(entry["weight"]), _route(id, entry)) for entry in split)


def _route(id: str, document: Json) -> Route:
    fallback = document.get("fallback") or {}
    others = fallback.get("targetFallback") or ()
    steps = [_step(document, fallback), *(_step(other, other) for other in others)]
    # Nothing comes after the last, so that nothing makes it give up its answer.
    steps[-1] = msgspec.structs.replace(steps[-1], triggers=NO_TRIGGERS)
    mode = (fallback.get("circuitBreaker") or {}).get("mode", "ENABLED")
    return Route(
        steps=tuple(steps),
        rule=id,
        variant=str(document.get("name") or ""),
        breaker=len(steps) > 1 and mode == "ENABLED",
    )


def _step(target: Json, how: Json) -> Step:
    wait = how.get("firstByteTimeoutMilliseconds")
    return Step(
        target=target["targetName"],
        model=target.get("model") or "",
        triggers=_triggers(how.get("triggerOn")),
        first_byte_seconds=None if wait is None else wait / 1000,
    )


def _triggers(document: Json | None) -> Triggers:
    if not document:
        return Triggers()
    return Triggers(
        frozenset(str(status).upper() for status in document.get("statusCodes") or ()),
        frozenset(document.get("errors") or ()),
    )


def _condition(document: Json) -> Callable[[Asked], bool]:
    if "matchPaths" in document:
        paths = _any_like(document["matchPaths"]["anyOf"])
        return lambda asked: paths(asked.path)
    if "matchModels" in document:
        models = _any_of(
            (entry["value"], entry.get("operator", "StringLike"))
            for entry in document["matchModels"]["anyOf"]
        )
        return lambda asked: bool(asked.model) and models(asked.model)
    if "matchPrincipals" in document:
        principals = _any_of(
            (entry["iamPrincipal"]["arn"], entry["iamPrincipal"].get("operator", "StringEquals"))
            for entry in document["matchPrincipals"]["anyOf"]
            if "iamPrincipal" in entry
        )
        return lambda asked: bool(asked.principal) and principals(asked.principal)
    return lambda asked: False  # a condition of tomorrow is not met today


def _any_of(entries: Iterable[tuple[str, str]]) -> Callable[[str], bool]:
    equal: set[str] = set()
    like: list[str] = []
    for value, operator in entries:
        if operator == "StringLike":
            like.append(value)
        else:
            equal.add(value)
    matches = _any_like(like)
    return lambda value: value in equal or matches(value)


def _any_like(patterns: Iterable[str]) -> Callable[[str], bool]:
    globs = [Glob(pattern) for pattern in patterns]
    return lambda value: any(glob.matches(value) for glob in globs)


class Glob:
    """`*` is anything, `?` one character. In time linear in both for the usual, and never more than
    their product: patterns and values are both strangers'."""

    __slots__ = ("_pattern", "plain")

    def __init__(self, pattern: str) -> None:
        self._pattern = re.sub(r"\*+", "*", pattern)
        self.plain = "*" not in pattern and "?" not in pattern

    def matches(self, value: str) -> bool:
        pattern = self._pattern
        if self.plain:
            return pattern == value
        at = star = -1
        p = v = 0
        while v < len(value):
            if p < len(pattern) and pattern[p] == "*":
                star, at, p = p, v, p + 1
            elif p < len(pattern) and pattern[p] in ("?", value[v]):
                p, v = p + 1, v + 1
            elif star >= 0:
                at += 1
                p, v = star + 1, at
            else:
                return False
        return pattern[p:] in ("", "*")


def known_targets(documents: Iterable[Json]) -> frozenset[str]:
    """The names that rules speak of: a target that one routes to is in use."""
    return frozenset(
        step.target
        for document in documents
        for action in document["actions"]
        if "routeToTarget" in action
        for _, route in _routes("", action["routeToTarget"])
        for step in route.steps
    )
