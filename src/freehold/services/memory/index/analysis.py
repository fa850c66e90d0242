"""The words of a text, as both sides of a search count them."""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from freehold.services.memory.index import dates
from freehold.services.memory.index.base_forms import BASE_FORMS
from freehold.services.memory.ports import Unit

TERMS_MAX = 20_000
"""Of one text: more than any message of 100 KiB in words has; two to a character in scripts without
spaces, whose end is then not indexed."""
_WORD_CHARACTERS_MAX = 64
"""A longer run is a token or base64: nobody asks for it but by its beginning."""

_LATIN_MARKS = re.compile("[\u0300-\u036f]")
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"  # Japanese
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
    "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af"  # Hangul: spaced, but its endings are part of a word
)
_UNSPACED_ANY = re.compile(f"[{_UNSPACED}]")
_MARKS = (
    "\u0483-\u0487\u0591-\u05bd\u0610-\u061a\u064b-\u065f\u0670"
    "\u0900-\u0903\u093a-\u094f\u0955-\u0957\u0981-\u0983\u09bc-\u09cd\u0a01-\u0a03\u0a3c-\u0a4d"
    "\u0a81-\u0a83\u0abc-\u0acd\u0b01-\u0b03\u0b3c-\u0b4d\u0b82\u0bbe-\u0bcd\u0c00-\u0c04"
    "\u0c3e-\u0c4d\u0c81-\u0c83\u0cbc-\u0ccd\u0d00-\u0d03\u0d3b-\u0d4d\u0d81-\u0d83\u0dca-\u0ddf"
)
"""Signs that are part of a word but no letters (Hebrew, Arabic, the scripts of India)."""
_WONT = re.compile("\\bwon['\u2019]t\\b")
_NAME = re.compile(r"[^\W\d_]+(?:[ .'-]{1,2}[^\W\d_]+){0,3}\.?")
_VOWEL = re.compile("[aeiouy]")
_PICTURES = "\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff"
_TOKEN = re.compile(
    f"(?P<unspaced>[{_UNSPACED}]+)|(?P<picture>[{_PICTURES}])"
    f"|(?P<word>(?:(?![{_UNSPACED}])[^\\W_])(?:(?![{_UNSPACED}])[^\\W_]|[{_MARKS}])*)"
)

STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
        a about all also am an and any are aren as at be been being both but by can could couldn d
        did didn do does doesn doing don done for from had hadn has hasn have haven having he her
        here hers him his how i if in into is isn it its just ll m me might mine my myself of off
        on or our ours re s shall she should shouldn so some such t than that the their theirs them
        then there these they this those to too us ve very was wasn we were weren what when where
        which while who whom whose why will with would wouldn you your yours
        """,
    )
)
"""Without meaning of their own, or in every question. "may" is a month too, and stays. "i" and
"you" say who is meant: `queries` reads them before they go."""


def terms(text: str) -> list[str]:
    """Lower-case, without accents, endings and stop words, in their order, repeated as often as
    they occur. A script without spaces gives pairs of characters, a picture itself."""
    found: list[str] = []
    for word in words(text):
        if word not in STOP_WORDS:
            found.append(stemmed(word))
            if len(found) == TERMS_MAX:
                break
    # What consists of stop words alone ("Who? You!") is still found by them.
    return found or [stemmed(word) for word, _ in zip(words(text), range(50), strict=False)]


def unit_terms(unit: Unit) -> list[str]:
    """What is indexed of a unit: its text, who said it, and the days it speaks of."""
    return [
        *terms(unit.text),
        *speaker_terms(unit.speaker),
        *map(stemmed, dates.unit_terms(unit.text, unit.at)),
    ]


def embedded_text(speaker: str, text: str) -> str:
    """What is embedded of a unit. An id with digits in it ("user-4711") says nothing to a model of
    language, and is left out."""
    return f"{speaker}: {text}" if speaker and _NAME.fullmatch(speaker) else text


def speaker_terms(speaker: str) -> list[str]:
    return terms(speaker) if speaker else []


def folded(text: str) -> str:
    """Compatible forms are one (full width, ligatures), and accents of Latin, Greek and Cyrillic
    letters are gone: people leave them out."""
    if text.isascii():
        return text.lower()
    bare = _LATIN_MARKS.sub("", unicodedata.normalize("NFKD", text.casefold()))
    return unicodedata.normalize("NFC", bare)


def spaced(text: str) -> bool:
    """Whether it is written in a script with spaces between words."""
    return not _UNSPACED_ANY.search(text)


def words(text: str) -> Iterator[str]:
    """As they stand, folded. An apostrophe parts: the ends of "don't" and "Ana's" stop there."""
    text = folded(text)
    if "won" in text:
        text = _WONT.sub("will", text)  # or it would be what somebody won
    for match in _TOKEN.finditer(text):
        token = match.group()
        if match.lastgroup == "unspaced" and len(token) > 1:
            for at in range(len(token) - 1):
                yield token[at : at + 2]
        else:
            yield token[:_WORD_CHARACTERS_MAX]


@lru_cache(maxsize=50_000)
def stemmed(word: str) -> str:
    """Without the commonest endings of English (plurals, -ing, -ed, a silent e), and "went" as
    "go": questions ask "did she go", answers say "I went". Other languages keep their words whole.
    """
    word = BASE_FORMS.get(word, word)
    if len(word) <= 3 or not word.isascii():
        return word
    return _without_e(_without_suffix(_singular(word)))


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes", "zes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def _without_suffix(word: str) -> str:
    for suffix in ("ing", "ied", "ed"):
        stem = word.removesuffix(suffix)
        if stem == word or len(stem) < 3 or not _VOWEL.search(stem):
            continue
        if suffix == "ied":
            return stem + "y"
        # "planned" is of "plan"; "called" and "missed" keep their letters.
        doubled = len(stem) > 3 and stem[-1] == stem[-2] and stem[-1] not in "lsz"
        return stem[:-1] if doubled else stem
    return word


def _without_e(word: str) -> str:
    """For "baking" and "bake"."""
    return word[:-1] if word.endswith("e") and len(word) > 3 else word
