"""Strategies: what requests say of them becomes a `Strategy`; and how to read one's configuration.

`Strategy.configuration` is kept as GetMemory shows it, both names of a list of namespaces included:
{"type": "SEMANTIC_OVERRIDE", "extraction": {"customExtractionConfiguration": {...}}}. Others read
it by `learns_as`, `override`, `reflection` and `self_managed`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from freehold.kernel import ids
from freehold.kernel.errors import QuotaExceeded, ValidationFailed
from freehold.services.memory.model import STRATEGIES_MAX, Strategy

Given = Mapping[str, Any]

SELF_MANAGED = "SELF_MANAGED"
VARIABLES = ("memoryStrategyId", "strategyId", "actorId", "sessionId")
"""What every template may name. `strategyId` is another name of memoryStrategyId."""

_ACTOR = "/strategies/{memoryStrategyId}/actors/{actorId}/"
_SESSION = _ACTOR + "sessions/{sessionId}/"
_TYPES = {
    "semanticMemoryStrategy": "SEMANTIC",
    "summaryMemoryStrategy": "SUMMARIZATION",
    "userPreferenceMemoryStrategy": "USER_PREFERENCE",
    "episodicMemoryStrategy": "EPISODIC",
    "customMemoryStrategy": "CUSTOM",
}
_BY_SESSION = frozenset({"SUMMARIZATION", "EPISODIC"})
_WRAPPERS = {
    "extraction": "customExtractionConfiguration",
    "consolidation": "customConsolidationConfiguration",
    "reflection": "customReflectionConfiguration",
}
_PLAIN_REFLECTION = "episodicReflectionConfiguration"


class _Override(msgspec.Struct, frozen=True):
    """`shown` is its configuration's type, `learns` the built-in one that it changes; `steps` are
    those it can change, with the names that they are shown by."""

    shown: str
    learns: str
    steps: Mapping[str, str]


def _steps(prefix: str, *steps: str) -> Mapping[str, str]:
    return {step: f"{prefix}{step.capitalize()}Override" for step in steps}


_OVERRIDES = {
    "semanticOverride": _Override(
        "SEMANTIC_OVERRIDE", "SEMANTIC", _steps("semantic", "extraction", "consolidation")
    ),
    "summaryOverride": _Override(
        "SUMMARY_OVERRIDE", "SUMMARIZATION", _steps("summary", "consolidation")
    ),
    "userPreferenceOverride": _Override(
        "USER_PREFERENCE_OVERRIDE",
        "USER_PREFERENCE",
        _steps("userPreference", "extraction", "consolidation"),
    ),
    "episodicOverride": _Override(
        "EPISODIC_OVERRIDE",
        "EPISODIC",
        _steps("episodic", "extraction", "consolidation", "reflection"),
    ),
}
_SHOWN = {override.shown: override for override in _OVERRIDES.values()}

# What a self-managed strategy has where the request does not say.
_TRIGGERS: Sequence[Given] = (
    {"messageBasedTrigger": {"messageCount": 6}},
    {"tokenBasedTrigger": {"tokenCount": 5000}},
    {"timeBasedTrigger": {"idleSessionTimeout": 20}},
)
_HISTORY_MESSAGES = 4


# -- reading one


class Override(msgspec.Struct, frozen=True, kw_only=True):
    """Of one step: what is added to our prompt, and which model takes the step."""

    prompt: str
    model_id: str


class Reflection(msgspec.Struct, frozen=True, kw_only=True):
    namespaces: tuple[str, ...]
    schema: Mapping[str, Any] = {}


def learns_as(strategy: Strategy) -> str:
    """SEMANTIC, SUMMARIZATION, USER_PREFERENCE, EPISODIC, or SELF_MANAGED."""
    if strategy.type != "CUSTOM":
        return strategy.type
    shown = strategy.configuration["type"]
    return SELF_MANAGED if shown == SELF_MANAGED else _SHOWN[shown].learns


def override(strategy: Strategy, step: str) -> Override | None:
    """`step`: extraction, consolidation or reflection."""
    given = (strategy.configuration.get(step) or {}).get(_WRAPPERS[step])
    if not given:
        return None
    (found,) = given.values()
    return Override(prompt=found["appendToPrompt"], model_id=found["modelId"])


def reflection(strategy: Strategy) -> Reflection | None:
    """Every episodic strategy has one."""
    given = strategy.configuration.get("reflection")
    if not given:
        return None
    found = given.get(_PLAIN_REFLECTION) or next(iter(given[_WRAPPERS["reflection"]].values()))
    return Reflection(
        namespaces=tuple(found["namespaceTemplates"]), schema=found.get("memoryRecordSchema") or {}
    )


def self_managed(strategy: Strategy) -> Mapping[str, Any] | None:
    """triggerConditions, invocationConfiguration and historicalContextWindowSize, all there."""
    found: Mapping[str, Any] | None = strategy.configuration.get("selfManagedConfiguration")
    return found


# -- made and changed


def made(given: Given, at: datetime) -> Strategy:
    """Of one member of `memoryStrategies`. ValidationFailed."""
    ((member, asked),) = given.items()
    type = _TYPES[member]
    name = asked["name"]
    configuration = _configuration(member, asked)
    strategy = Strategy(
        id=ids.suffixed(name),
        name=name,
        type=type,
        namespaces=(),
        description=asked.get("description") or "",
        configuration=configuration,
        schema=asked.get("memoryRecordSchema") or {},
        expiry_days=_expiry(name, asked.get("recordExpirySpecification"), new=True),
        created_at=at,
        updated_at=at,
    )
    default = _SESSION if learns_as(strategy) in _BY_SESSION else _ACTOR
    namespaces = _templates(name, asked) or (default,)
    if learns_as(strategy) == "EPISODIC":
        configuration = _with_reflection(name, configuration, namespaces)
    strategy = msgspec.structs.replace(strategy, namespaces=namespaces, configuration=configuration)
    _check(strategy)
    return strategy


def modified(strategy: Strategy, asked: Given, at: datetime) -> Strategy:
    """What the request leaves out stays. ValidationFailed."""
    configuration = strategy.configuration
    if asked.get("configuration"):
        configuration = _reconfigured(strategy, asked["configuration"])
    namespaces = _templates(strategy.name, asked) or strategy.namespaces
    if learns_as(strategy) == "EPISODIC":
        configuration = _with_reflection(strategy.name, configuration, namespaces)
    expiry = asked.get("recordExpirySpecification")
    strategy = msgspec.structs.replace(
        strategy,
        namespaces=namespaces,
        configuration=configuration,
        description=asked.get("description") or strategy.description,
        schema=asked.get("memoryRecordSchema") or strategy.schema,
        expiry_days=_expiry(strategy.name, expiry) if expiry else strategy.expiry_days,
        updated_at=at,
    )
    _check(strategy)
    return strategy


def check_together(strategies: Sequence[Strategy], variables: Iterable[str]) -> None:
    """A memory's, with the variables of its own (`namespaceKeys`). ValidationFailed,
    QuotaExceeded."""
    if len(strategies) > STRATEGIES_MAX:
        raise QuotaExceeded(f"a memory has at most {STRATEGIES_MAX} strategies")
    names = [strategy.name for strategy in strategies]
    for name in names:
        if names.count(name) > 1:
            raise ValidationFailed(f"memoryStrategies: two strategies have the name {name!r}")
    known = {*VARIABLES, *variables}
    for strategy in strategies:
        reflected = reflection(strategy)
        for template in (*strategy.namespaces, *(reflected.namespaces if reflected else ())):
            unknown = [name for name in variables_of(template) if name not in known]
            if unknown:
                raise ValidationFailed(
                    f"strategy {strategy.name}: nothing fills in {{{unknown[0]}}} of {template!r}; "
                    f"there are {', '.join(sorted(known))}, and others in namespaceKeys"
                )


def variables_of(template: str) -> list[str]:
    return re.findall(r"\{([^{}]*)\}", template)


def _configuration(member: str, asked: Given) -> dict[str, Any]:
    """Of a new strategy, as it will be shown."""
    if member == "episodicMemoryStrategy":
        given = asked.get("reflectionConfiguration")
        return {"reflection": {_PLAIN_REFLECTION: dict(given)}} if given else {}
    if member != "customMemoryStrategy":
        return {}
    given = asked.get("configuration")
    if not given:
        raise ValidationFailed(
            f"strategy {asked['name']}: a custom strategy needs a configuration: an override of a "
            "built-in one, or selfManagedConfiguration"
        )
    ((kind, steps),) = given.items()
    if kind == "selfManagedConfiguration":
        own = {
            "triggerConditions": _triggers(steps.get("triggerConditions") or ()),
            "invocationConfiguration": dict(steps["invocationConfiguration"]),
            "historicalContextWindowSize": steps.get(
                "historicalContextWindowSize", _HISTORY_MESSAGES
            ),
        }
        return {"type": SELF_MANAGED, kind: own}
    found = _OVERRIDES[kind]
    shown = {
        step: {_WRAPPERS[step]: {found.steps[step]: dict(changes)}}
        for step, changes in steps.items()
    }
    return {"type": found.shown, **shown}


def _reconfigured(strategy: Strategy, asked: Given) -> dict[str, Any]:
    """Steps that the request leaves out stay; one that it names is replaced."""
    now, kind = dict(strategy.configuration), learns_as(strategy)
    found = _SHOWN.get(now.get("type", ""))
    steps = found.steps if found else {}
    for member, given in asked.items():
        if member == "selfManagedConfiguration" and kind == SELF_MANAGED:
            now[member] = _managed_anew(now[member], given)
            continue
        step = steps.get(member)
        plain = (member, kind) == ("reflection", "EPISODIC") and _PLAIN_REFLECTION in given
        if plain or (step and step in (given.get(_WRAPPERS[member]) or {})):
            now[member] = given
        else:
            takes = [*steps.values()]
            takes += [_PLAIN_REFLECTION] if kind == "EPISODIC" else []
            takes += ["selfManagedConfiguration"] if kind == SELF_MANAGED else []
            raise ValidationFailed(
                f"strategy {strategy.name}: configuration.{member}: what can be changed of "
                f"{now.get('type', strategy.type)} is: {', '.join(takes) or 'nothing'}"
            )
    if "reflection" in asked:
        before = reflection(strategy)
        assert before is not None, "only an episodic one gets here"
        now["reflection"] = _placed(strategy.name, now["reflection"], before.namespaces[0])
    return now


def _managed_anew(now: Given, given: Given) -> dict[str, Any]:
    invocation = {**now["invocationConfiguration"], **(given.get("invocationConfiguration") or {})}
    triggers = given.get("triggerConditions")
    return {
        **now,
        **given,
        "triggerConditions": _triggers(triggers) if triggers else now["triggerConditions"],
        "invocationConfiguration": invocation,
    }


def _triggers(given: Iterable[Given]) -> Sequence[Given]:
    """One that leaves out its number has the usual one; none at all are all of them."""
    usual = {kind: own for trigger in _TRIGGERS for kind, own in trigger.items()}
    named: list[Given] = [
        {kind: own or usual[kind]} for trigger in given for kind, own in trigger.items()
    ]
    return named or list(_TRIGGERS)


# -- namespaces


def normalized(template: str) -> str:
    """With a "/" at both ends, and one name for each variable."""
    inner = template.strip("/").replace("{strategyId}", "{memoryStrategyId}")
    return f"/{inner}/" if inner else "/"


def _templates(where: str, asked: Given) -> tuple[str, ...]:
    old, new = asked.get("namespaces"), asked.get("namespaceTemplates")
    if old and new and old != new:
        raise ValidationFailed(
            f"strategy {where}: namespaces is the old name of namespaceTemplates; give one of them"
        )
    return tuple(new or old or ())


def _with_reflection(name: str, configuration: Given, namespaces: Sequence[str]) -> dict[str, Any]:
    """Where it says nothing, reflections stand above the sessions whose episodes they are about."""
    given = configuration.get("reflection") or {_PLAIN_REFLECTION: {}}
    return {**configuration, "reflection": _placed(name, given, _above_sessions(namespaces[0]))}


def _placed(name: str, given: Given, default: str) -> dict[str, Any]:
    """A reflection with its namespaces, by both names."""
    if _PLAIN_REFLECTION in given:
        return {_PLAIN_REFLECTION: _with_namespaces(name, given[_PLAIN_REFLECTION], default)}
    ((wrapper, wrapped),) = given.items()
    ((step, own),) = wrapped.items()
    return {wrapper: {step: _with_namespaces(name, own, default)}}


def _with_namespaces(name: str, own: Given, default: str) -> dict[str, Any]:
    templates = list(_templates(f"{name}: reflection", own)) or [default]
    return {**own, "namespaces": templates, "namespaceTemplates": templates}


def _above_sessions(episodes: str) -> str:
    if normalized(episodes).startswith(_ACTOR):
        return _ACTOR
    above, session, _ = episodes.partition("{sessionId}")
    return above[: above.rfind("/") + 1] or "/" if session else episodes


# -- checks of one


def _check(strategy: Strategy) -> None:
    name = strategy.name
    for template in strategy.namespaces:
        if normalized(template).startswith("/turns/"):
            raise ValidationFailed(
                f"strategy {name}: {template!r}: /turns/ is where what was said stands as it was "
                "said; choose another namespace"
            )
    _check_schema(name, strategy.schema)
    reflected = reflection(strategy)
    if reflected is not None:
        _check_schema(f"{name}: reflection", reflected.schema)
        episodes, above = strategy.namespaces[0], reflected.namespaces[0]
        if not normalized(episodes).startswith(normalized(above)):
            raise ValidationFailed(
                f"strategy {name}: the namespace of reflections, {above!r}, is not the beginning "
                f"of that of its episodes, {episodes!r}"
            )
    own = self_managed(strategy)
    if own is not None:
        kinds = [kind for trigger in own["triggerConditions"] for kind in trigger]
        if len(set(kinds)) != len(kinds):
            raise ValidationFailed(f"strategy {name}: triggerConditions: one of each kind")


def _check_schema(where: str, schema: Given) -> None:
    seen = set()
    for entry in schema.get("metadataSchema") or ():
        key, type = entry["key"], entry.get("type", "STRING")
        place = f"strategy {where}: metadataSchema: {key!r}"
        if key in seen:
            raise ValidationFailed(f"{place} stands there twice")
        seen.add(key)
        config = (entry.get("extractionConfig") or {}).get("llmExtractionConfig")
        if config and entry.get("extractionType") == "STRICTLY_CONSISTENT":
            raise ValidationFailed(f"{place}: what an event says itself has no extractionConfig")
        for kind, rules in ((config or {}).get("validation") or {}).items():
            if kind.removesuffix("Validation").upper() != type:
                raise ValidationFailed(f"{place} is a {type}, and has {kind}")
            least, most = rules.get("minValue"), rules.get("maxValue")
            if least is not None and most is not None and least > most:
                raise ValidationFailed(f"{place}: minValue is above maxValue")


def _expiry(name: str, given: Given | None, *, new: bool = False) -> int | None:
    if not given:
        return None
    if "action" in given:
        if new:
            raise ValidationFailed(
                f"strategy {name}: recordExpirySpecification: a new strategy has none to REMOVE"
            )
        return None
    days: int = given["recordExpiryDurationDays"]
    return days
