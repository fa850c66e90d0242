"""What of a gateway a model is told: the schema as text, within a size, and notes on its inputs."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from freehold.ports.enforcement import GovernedGateway, GovernedTool
from freehold.services.policy.generation_prompt import Brief, plain
from freehold.services.policy.schema import GatewaySchema, restricted, schema_text

SCHEMA_CHARACTERS_MAX = 60_000
_NOTES_CHARACTERS_MAX = 12_000
_NOTE_CHARACTERS_MAX = 200
_VALUES_SHOWN = 12

_WORD = re.compile(r"[A-Za-z][a-z]+|[A-Z]+(?![a-z])|\d+")


def brief(gateway: GovernedGateway, schema: GatewaySchema, rule: str) -> Brief:
    tools = _by_relevance(schema.tools.values(), rule)
    names = _that_fit(schema, [tool.name for tool in tools])
    told = [tool for tool in tools if tool.name in names]
    return Brief(
        gateway_arn=gateway.arn,
        rule=rule,
        schema=_text(schema, names),
        notes=_notes(told, schema),
        tools_left_out=len(tools) - len(told),
    )


def _text(schema: GatewaySchema, names: Iterable[str]) -> str:
    document = restricted(schema, frozenset(names))
    return schema_text(msgspec.structs.replace(schema, document=document))


def _that_fit(schema: GatewaySchema, names: list[str]) -> frozenset[str]:
    """The first of them. A tool takes the same room whatever stands beside it."""
    fixed = len(_text(schema, ()))
    room, kept = SCHEMA_CHARACTERS_MAX - fixed, []
    if len(_text(schema, names)) <= SCHEMA_CHARACTERS_MAX:
        return frozenset(names)
    for name in names:
        room -= len(_text(schema, (name,))) - fixed
        if room < 0:
            break
        kept.append(name)
    return frozenset(kept)


def _by_relevance(tools: Iterable[GovernedTool], rule: str) -> list[GovernedTool]:
    """Those first whose names share most words with the rule; else by name."""
    said = {_stem(word) for word in _WORD.findall(rule)}

    def shared(tool: GovernedTool) -> int:
        inputs = tool.input_schema.get("properties")
        names = [tool.name, *(inputs if isinstance(inputs, Mapping) else ())]
        weights = (3, *[1] * (len(names) - 1))
        return sum(
            weight * len(said & {_stem(word) for word in _WORD.findall(str(name))})
            for name, weight in zip(names, weights, strict=True)
        )

    return sorted(tools, key=lambda tool: (-shared(tool), tool.name))


def _stem(word: str) -> str:
    """Enough for "transfers" and "transfer"."""
    word = word.lower()
    return word[:-1] if word.endswith("s") and len(word) > 3 else word


def _notes(tools: list[GovernedTool], schema: GatewaySchema) -> Mapping[str, Mapping[str, str]]:
    """What tools' authors say of their inputs, and what no policy can speak of."""
    room, notes = _NOTES_CHARACTERS_MAX, {}
    for tool in tools:
        said = _note(tool)
        for left in schema.left_out.get(tool.name, ()):
            said[left.path] = f"no policy can speak of it: {left.why}"
        room -= sum(len(name) + len(text) for name, text in said.items()) + len(tool.name)
        if room < 0:
            break
        if said:
            notes[tool.name] = said
    return notes


def _note(tool: GovernedTool) -> dict[str, str]:
    said: dict[str, str] = {}
    properties = tool.input_schema.get("properties")
    for name, part in properties.items() if isinstance(properties, Mapping) else ():
        if text := _of_input(part):
            said[f"input.{name}"] = text
    return said


def _of_input(part: Any) -> str:
    if not isinstance(part, Mapping):
        return ""
    words = []
    if isinstance(description := part.get("description"), str):
        words.append(plain(description)[:_NOTE_CHARACTERS_MAX])
    if isinstance(values := part.get("enum"), list):
        shown = ", ".join(plain(str(value))[:40] for value in values[:_VALUES_SHOWN])
        words.append(f"one of {shown}" + (", ..." if len(values) > _VALUES_SHOWN else ""))
    return "; ".join(words)
