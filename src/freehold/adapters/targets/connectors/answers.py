"""What agents get of a service's answers: errors as errors, documents as texts, without noise."""

from typing import Any

import msgspec

from freehold.adapters.targets.connectors.atlassian import texts
from freehold.ports.targets import Json

# A longer one is passed on as it came: all of this is work of the worker's own loop.
_BYTES_MAX = 512 << 10
_DEPTH_MAX = 60


def answered(plan: Json, result: Json) -> Json:
    """`plan` is what `settled` made of the data file: `refusal`, `texts`, `noise`."""
    content = result["content"]
    text = content[0].get("text", "") if content else ""
    if result.get("isError") or not text.startswith(("{", "[")) or len(text) > _BYTES_MAX:
        return result
    try:
        answer: Any = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return result
    if "refusal" in plan and (words := _refusal(answer, plan["refusal"])):
        return {"content": [{"type": "text", "text": f"{words}\n{text}"}], "isError": True}
    shorter = answer
    if "noise" in plan:
        shorter = _without(shorter, _Noise(plan["noise"]), 0)
    if "texts" in plan:
        shorter = texts(shorter)
    if shorter is answer:
        return result
    shown = msgspec.json.encode(shorter).decode()
    return {**result, "content": [{"type": "text", "text": shown}, *content[1:]]}


def _refusal(answer: Any, refusal: Json) -> str:
    if not isinstance(answer, dict) or answer.get(refusal["member"]) is not False:
        return ""
    why = str(answer.get(refusal["why"], ""))
    words = f"The API refused: {why or 'it does not say why'}."
    advice = refusal["words"].get(why)
    return f"{words} {advice}" if advice else words


class _Noise:
    def __init__(self, told: Json) -> None:
        self.names, self.kept = frozenset(told["names"]), frozenset(told["kept"])
        self.endings = tuple(told["endings"])


def _without(value: Any, noise: _Noise, depth: int) -> Any:
    if depth > _DEPTH_MAX:
        return value
    if isinstance(value, list):
        return [_without(each, noise, depth + 1) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        name: _without(inner, noise, depth + 1)
        for name, inner in value.items()
        if name in noise.kept or (name not in noise.names and not name.endswith(noise.endings))
    }
