"""What the model answered, taken for what it is: text of a stranger. Bounded, checked, and of
anything that was not asked for nothing is taken over."""

import json
from collections.abc import Collection, Mapping
from typing import Any, Literal

import msgspec

from freehold.services.memory import extraction_metadata
from freehold.services.memory.extraction_metadata import Value

ANSWER_CHARACTERS_MAX = 400_000
ITEMS_MAX = 30
TEXT_CHARACTERS_MAX = 2_000
SUMMARY_CHARACTERS_MAX = 4_000
TOPIC_CHARACTERS_MAX = 200
_ACTIONS_MAX = 20


class Unreadable(Exception):
    """No answer of the shape that was asked for. Says what is wrong, and quotes nothing."""


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """`sources` are numbers of messages, as the model was given them; `over` is a label."""

    text: str
    sources: tuple[int, ...]
    metadata: Mapping[str, Value] = {}
    over: str = ""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    action: Literal["ADD", "UPDATE", "SKIP"]
    over: str = ""
    text: str = ""


class Lesson(msgspec.Struct, frozen=True, kw_only=True):
    """`sources` are labels of episodes."""

    text: str
    sources: tuple[str, ...]
    over: str = ""
    metadata: Mapping[str, Value] = {}


def document(text: str) -> Mapping[str, Any]:
    """The first JSON object, or list as {"items": ...}, in a text."""
    if len(text) > ANSWER_CHARACTERS_MAX:
        raise Unreadable(f"the model's answer has more than {ANSWER_CHARACTERS_MAX} characters")
    starts = [place for place in (text.find("{"), text.find("[")) if place >= 0]
    if not starts:
        raise Unreadable("the model's answer holds no JSON")
    try:
        found, _ = json.JSONDecoder().raw_decode(text, min(starts))
    except (ValueError, RecursionError):
        raise Unreadable("the model's answer is not good JSON") from None
    if isinstance(found, list):
        return {"items": found}
    assert isinstance(found, dict), "it begins with a brace"
    return found


def items(
    text: str, *, kind: str, numbers: Collection[int], schema: Mapping[str, Any]
) -> list[Item]:
    """Raises Unreadable. An item that names only messages that there are not is left out; one that
    names none comes from all of them."""
    found = []
    for said in _list(document(text), "items"):
        words = _episode(said) if kind == "EPISODIC" else _text(said.get("text"))
        if kind == "SUMMARIZATION":
            words = _topic(said)
        sources = tuple(numbers)
        if said.get("from") is not None:
            sources = tuple(n for n in _numbers(said["from"]) if n in numbers)
        if words and sources:
            found.append(
                Item(
                    text=words, sources=sources, over=_label(said.get("over")),
                    metadata=extraction_metadata.inferred(schema, said.get("metadata")),
                )
            )  # fmt: skip
        if len(found) == ITEMS_MAX:
            break
    return found


def decisions(text: str, *, candidates: Collection[str]) -> dict[str, Decision]:
    """By the candidate's label; the first one counts. What is no ADD, UPDATE or SKIP is none."""
    found: dict[str, Decision] = {}
    for said in _list(document(text), "decisions"):
        label, action = _label(said.get("candidate")), said.get("action")
        if label in candidates and label not in found and action in ("ADD", "UPDATE", "SKIP"):
            found[label] = Decision(
                action=action, over=_label(said.get("over")), text=_text(said.get("text"))
            )
    return found


def lessons(text: str, *, episodes: Collection[str], schema: Mapping[str, Any]) -> list[Lesson]:
    found = []
    for said in _list(document(text), "reflections", optional=True)[:ITEMS_MAX]:
        labels = said.get("from")
        sources = tuple(
            dict.fromkeys(
                each for each in (labels if isinstance(labels, list) else ())
                if isinstance(each, str) and each in episodes
            )
        )  # fmt: skip
        words = _text(said.get("text"))
        if words and sources:
            found.append(
                Lesson(
                    text=words, sources=sources, over=_label(said.get("over")),
                    metadata=extraction_metadata.inferred(schema, said.get("metadata")),
                )
            )  # fmt: skip
    return found


def _list(said: Mapping[str, Any], name: str, *, optional: bool = False) -> list[Mapping[str, Any]]:
    found = said.get(name, [] if optional else None)
    if not isinstance(found, list):
        raise Unreadable(f'the model\'s answer has no list "{name}"')
    return [each for each in found if isinstance(each, Mapping)]


def clean(text: str) -> str:
    """Without what Postgres cannot store."""
    return text.replace("\x00", "").encode("utf-8", "ignore").decode().strip()


def _text(said: object, characters_max: int = TEXT_CHARACTERS_MAX) -> str:
    return clean(said)[:characters_max].strip() if isinstance(said, str) else ""


def _label(said: object) -> str:
    return said if isinstance(said, str) and len(said) < 16 else ""


def _numbers(said: object) -> list[int]:
    found = said if isinstance(said, list) else [said]
    return list(dict.fromkeys(n for n in found if isinstance(n, int) and not isinstance(n, bool)))


def _topic(said: Mapping[str, Any]) -> str:
    """A summary's topic is marked up as AWS's records are."""
    topic = _text(said.get("topic"), TOPIC_CHARACTERS_MAX).replace('"', "'")
    text = _text(said.get("text"), SUMMARY_CHARACTERS_MAX)
    for sign in "<>":
        topic = topic.replace(sign, "")
    return f'<topic name="{topic}">\n{text}\n</topic>' if topic and text else ""


def _episode(said: Mapping[str, Any]) -> str:
    actions = said.get("actions")
    steps = [_text(each) for each in (actions if isinstance(actions, list) else [actions])]
    parts = {
        "Situation": _text(said.get("situation")),
        "Intent": _text(said.get("intent")),
        "Actions": "; ".join(filter(None, steps[:_ACTIONS_MAX])),
        "Outcome": _text(said.get("outcome")),
    }
    if not parts["Situation"] or not parts["Intent"]:
        return ""
    return "\n".join(f"{name}: {words}" for name, words in parts.items() if words)
