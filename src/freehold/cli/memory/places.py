"""Where a memory keeps what it knows of one actor."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PUT_THERE = "none"
"""The strategy of records that no strategy wrote."""
_VARIABLE = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class ActorPlaces:
    """`paths` have all records of the actor that strategies wrote into namespaces that name actors;
    `own` are those namespaces, `anybodys` the same with any actor in the place of this one."""

    actor: str
    paths: tuple[str, ...]
    own: tuple[re.Pattern[str], ...]
    anybodys: tuple[re.Pattern[str], ...]

    def hold(self, namespaces: Sequence[str]) -> bool:
        """Whether one of these is the actor's by a template."""
        return _fit(self.own, namespaces)

    def name(self, namespaces: Sequence[str]) -> bool:
        """Whether the actor is a part of one of these, whoever made it."""
        segment = f"/{self.actor.strip('/')}/"
        return any(segment in slashed(each) for each in namespaces)

    def may_hold(self, view: Mapping[str, Any]) -> bool:
        """False for a record that cannot come from what the actor said: then nobody needs to ask
        what it comes from."""
        namespaces = view["namespaces"]
        if self.name(namespaces):
            return True
        return view["strategyId"] != PUT_THERE and not _fit(self.anybodys, namespaces)


def slashed(namespace: str) -> str:
    inner = namespace.strip("/")
    return f"/{inner}/" if inner else "/"


def _fit(patterns: Sequence[re.Pattern[str]], namespaces: Sequence[str]) -> bool:
    return any(each.fullmatch(slashed(name)) for each in patterns for name in namespaces)


def of_actor(strategies: Sequence[Mapping[str, Any]], actor: str) -> ActorPlaces:
    paths, own, anybodys = set(), [], []
    for strategy in strategies:
        ids = dict.fromkeys(("memoryStrategyId", "strategyId"), strategy["strategyId"])
        for template in _templates_of(strategy):
            if "{actorId}" not in template:
                continue
            path = _filled(template, {**ids, "actorId": actor}).partition("{")[0]
            paths.add(path[: path.rfind("/") + 1] or "/")
            own.append(_pattern(template, {**ids, "actorId": actor}))
            anybodys.append(_pattern(template, ids))
    topmost = [path for path in paths if not any(path != o and path.startswith(o) for o in paths)]
    return ActorPlaces(actor, tuple(sorted(topmost)), tuple(own), tuple(anybodys))


def _templates_of(strategy: Mapping[str, Any]) -> Iterator[str]:
    """Those of its records, and of an episodic one's reflections."""
    yield from map(slashed, strategy.get("namespaces") or ())
    yield from map(slashed, _reflections(strategy.get("configuration") or {}))


def _reflections(value: Any) -> Iterator[str]:
    if not isinstance(value, Mapping):
        return
    for name, inner in value.items():
        if name == "namespaces":
            yield from inner
        else:
            yield from _reflections(inner)


def _filled(template: str, known: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda at: known.get(at[1], at[0]), template)


def _pattern(template: str, known: Mapping[str, str]) -> re.Pattern[str]:
    """What is not known is anything: an actor's id may hold slashes."""
    parts = _VARIABLE.split(template)
    fits = ""
    for number, part in enumerate(parts):
        text = part if number % 2 == 0 else known.get(part)
        fits += ".+" if text is None else re.escape(text)
    return re.compile(fits)
