"""What of a tool is searched, and the terms that a text has."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec

from freehold.ports.targets import Json

_EMBEDDED_DESCRIPTION_MAX, _EMBEDDED_PARAMETERS_MAX = 500, 250
"""Characters, some 180 tokens: the beginning of a description says what a tool is for, its end is
notes."""
_PARAMETERS_MAX = 100
_DEPTH_MAX = 3
_DESCRIPTION_CHARACTERS_MAX = 4000

NAME_WEIGHT, PARAMETER_WEIGHT = 2.0, 0.5
"""What a term counts for in a name and in a parameter; 1 in the description."""

_RUNS = re.compile(r"[^\W_]+")
_CAMEL = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+|[^\W\d_A-Za-z]+")
_STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
        a about all also an and any are as at be been being but by can could did do does doing done
        for from get gets give given had has have having he her here him his how i if in
        into is it its just let like make me might more most must my need no not now of off
        on once one only or other our out over own please shall she should so some such than
        that the their them then there these they this those to too under until up us use
        used using very want was we were what when where whether which while who whose why
        will with would you your
        """,
    )
)


class SearchText(msgspec.Struct, frozen=True, kw_only=True):
    """A tool as it is searched for. `key` is the caller's own, and what an answer names. `name` is
    what clients see, target and all; `schema` the tool's input schema."""

    key: str
    name: str
    description: str = ""
    schema: Json = {}

    def embedded(self) -> str:
        """What is embedded: the name in words, the description, the outer parameters."""
        described = (" ".join(pair) for pair in parameters(self.schema, depth_max=1))
        text = f"{in_words(self.name)}. {_cut(self.description, _EMBEDDED_DESCRIPTION_MAX)}"
        of_parameters = _cut(" ".join(described), _EMBEDDED_PARAMETERS_MAX)
        return f"{text} Parameters: {of_parameters}" if of_parameters else text

    def terms(self) -> Counter[str]:
        """Weighted frequencies, by field."""
        found: Counter[str] = Counter()
        for term in terms(self.name):
            found[term] += NAME_WEIGHT  # type: ignore[assignment]  # a Counter may hold floats
        for term in terms(self.description[:_DESCRIPTION_CHARACTERS_MAX]):
            found[term] += 1
        for name, description in parameters(self.schema):
            for term in terms(f"{name} {description}"):
                found[term] += PARAMETER_WEIGHT  # type: ignore[assignment]
        return found


def _cut(text: str, characters_max: int) -> str:
    return text[:characters_max].strip()


def text_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def terms(text: str) -> list[str]:
    """Lower-case words without endings; names such as `listOpen_issues` are several."""
    return [stemmed(word) for word in _words(text) if word not in _STOP_WORDS]


def in_words(name: str) -> str:
    return " ".join(_words(name))


def _words(text: str) -> Iterator[str]:
    for run in _RUNS.findall(text):
        if run.islower() or not run.isascii():
            yield run.lower()
            continue
        for part in _CAMEL.findall(run):
            yield part.lower()


def parameters(schema: Json, *, depth_max: int = _DEPTH_MAX) -> Iterator[tuple[str, str]]:
    """Name and description of each property, the outer ones first, up to a bound."""
    level: list[Any] = [schema]
    left = _PARAMETERS_MAX
    for _ in range(depth_max):
        below: list[Any] = []
        for node in level:
            properties = node.get("properties") if isinstance(node, dict) else None
            if not isinstance(properties, dict):
                continue
            for name, value in properties.items():
                if not left:
                    return
                left -= 1
                described = value if isinstance(value, dict) else {}
                description = described.get("description")
                yield name, description if isinstance(description, str) else ""
                below += [described, described.get("items")]
        level = below


@lru_cache(maxsize=20_000)
def stemmed(word: str) -> str:
    """Without the commonest endings of English: plurals, -ing, -ed. Crude and quick: both sides of
    a comparison pass through it."""
    if len(word) <= 3 or not word.isascii():
        return word
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith(("sses", "shes", "ches", "xes", "zes")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ing", "ed"):
        stem = word.removesuffix(ending)
        if stem != word and len(stem) >= 3 and any(vowel in stem for vowel in "aeiouy"):
            # "planning" -> "plan"; "calling" keeps its "ll"
            if len(stem) > 3 and stem[-1] == stem[-2] and stem[-1] not in "lsz":
                stem = stem[:-1]
            word = stem
            break
    return word[:-1] if word.endswith("e") and len(word) > 4 else word
