"""What a question asks for: which words, what meaning, whose turns, which days. No model takes
part, and English is what is understood of names, pronouns and days; words are of any language."""

import re
from collections.abc import Sequence
from datetime import date, datetime

import msgspec

from freehold.services.memory.index import dates
from freehold.services.memory.index.analysis import STOP_WORDS, spaced, stemmed, terms

TERMS_MAX = 100
"""Each is a look-up. A whole message as a question has said what it is about by then."""
ASSISTANT = "assistant"
_ROLES = frozenset({ASSISTANT, "tool", "other", ""})
"""Speakers that `turns.py` makes of a message's role; the others are actors."""

_FIRST_PERSON = re.compile(r"\b(?:I|me|my|mine|myself)\b", re.IGNORECASE)
_USER = re.compile(r"\b(?:the )?user\b", re.IGNORECASE)
_OF_ASSISTANT = re.compile(
    r"\b(?:did|have|had|were) you\b|\byour (?:advice|answer|suggestion|recommendation|idea|tip)s?\b"
    r"|\byou (?:said|told|recommended|suggested|mentioned|explained|gave|wrote|promised|offered)\b",
    re.IGNORECASE,
)
_WHEN = re.compile(
    r"^\W*when\b|\b(?:which|what) (?:date|day|days|month|year|time|season)\b|\bhow long ago\b"
    r"|\bsince when\b",
    re.IGNORECASE,
)
_TURNED = {"you": "I", "your": "my", "i": "you", "me": "you", "my": "your"}
_PRONOUN = re.compile(rf"\b(?:{'|'.join(_TURNED)})\b", re.IGNORECASE)
_PREPOSITIONS = ("on", "in", "of", "during", "since", "until", "by", "at", "for")
_PART_CHARACTERS_MIN = 3


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """`terms`, each once, are what postings are looked up for: words, and with them `dates`.
    `vector_texts` are embedded, and a unit's cosine is the highest of theirs; there is one.
    `speakers` are those of the given whom it is about."""

    text: str
    terms: tuple[str, ...]
    vector_texts: tuple[str, ...]
    speakers: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()


def understand(
    query: str, *, speakers: Sequence[str] = (), asker: str = "", now: datetime | None = None
) -> Query:
    """`speakers`: who speaks in the units searched, as `Unit.speaker` has it (none where there are
    records alone). `asker`: who "I" and "the user" are; when not given, the one speaker that is
    no role, if there is one. `now`: what "last week" is reckoned against, when known."""
    people = [speaker for speaker in dict.fromkeys(speakers) if speaker not in _ROLES]
    asker = asker or (people[0] if len(people) == 1 else "")
    kept, timeless, days = _without_days(query, now.date() if now is not None else None)
    words = [*terms(kept), *([dates.WHEN] if _WHEN.search(query) else [])]
    looked_up = [*dict.fromkeys(words)][: TERMS_MAX - len(days)]
    named = _about(query, speakers, asker)
    return Query(
        text=query,
        terms=tuple(dict.fromkeys([*looked_up, *days])),
        vector_texts=(_reworded(timeless, named, asker),),
        speakers=tuple(named),
        dates=tuple(days),
    )


def _without_days(query: str, today: date | None) -> tuple[str, str, list[str]]:
    """For words: the query without days that are relative to today, since "last week" is said in
    any week. For an embedder: without any day, since it finds other days as near. The days."""
    found: dict[str, None] = {}
    kept, timeless = [query], [query]
    for spoken in reversed(list(dates.spoken_of(query, today))):
        for period in spoken.periods:
            found.update(dict.fromkeys(map(stemmed, period.asked())))
        for texts, leave in ((kept, spoken.relative), (timeless, True)):
            if leave and spoken.sure:
                texts[0] = _before(texts[0][: spoken.start]) + texts[0][spoken.end :]
    words, meaning = (text[0] if terms(text[0]) else query for text in (kept, timeless))
    return words, meaning, list(found)[: TERMS_MAX // 2]


def _before(text: str) -> str:
    """Without the preposition of the day that followed."""
    bare = text.rstrip()
    for preposition in _PREPOSITIONS:
        if bare.lower().endswith(f" {preposition}"):
            return bare[: -len(preposition)].rstrip()
    return bare


def _about(query: str, speakers: Sequence[str], asker: str) -> list[str]:
    """In the order in which they are named; then who is meant without a name."""
    places = {speaker: _named_at(speaker, query) for speaker in dict.fromkeys(speakers) if speaker}
    named = sorted((s for s in places if places[s] is not None), key=lambda s: places[s] or 0)
    if named:
        return named
    if ASSISTANT in places and _OF_ASSISTANT.search(query):
        return [ASSISTANT]
    if asker in places and (_FIRST_PERSON.search(query) or _USER.search(query)):
        return [asker]
    return []


def _named_at(speaker: str, query: str) -> int | None:
    match = _name_pattern(speaker, query).search(query)
    return match.start() if match else None


def _name_pattern(speaker: str, query: str) -> re.Pattern[str]:
    """A speaker's whole name, or its first part ("Ana" of "Ana Lima"). In a question with capital
    letters a name has one: "will he" does not name Will."""
    parts = {speaker}
    if speaker.replace(" ", "").isalpha():
        parts |= {part for part in speaker.split()[:1] if len(part) >= _PART_CHARACTERS_MIN}
    wordings = {wording for part in parts for wording in (part, part.title())}
    if query.islower():
        wordings |= {part.lower() for part in parts} - STOP_WORDS
    either = "|".join(sorted(map(re.escape, wordings), key=len, reverse=True))
    return re.compile(rf"(?<!\w)(?:{either})(?!\w)" if spaced(speaker) else either)


def _reworded(query: str, named: Sequence[str], asker: str) -> str:
    """As the speaker would say it: an embedder takes a name for the topic, and finds whatever has
    that name rather than what its bearer said of the matter."""
    if list(named) == [ASSISTANT] and _OF_ASSISTANT.search(query):
        swapped = re.sub(r"\b(?:me|I)\b", "\0", query)
        swapped = re.sub(
            r"\byour\b", "my", re.sub(r"\byou\b", "I", swapped, flags=re.I), flags=re.I
        )
        return swapped.replace("\0", "you")
    text = query
    for speaker, (pronoun, possessive) in zip(named, (("I", "my"), ("you", "your")), strict=False):
        if not spaced(speaker):
            continue
        pattern = _name_pattern(speaker, query).pattern
        text = re.sub(rf"(?:{pattern})['\u2019]s?(?!\w)", possessive, text)
        text = re.sub(pattern, pronoun, text)
    if list(named) == [asker]:
        text = re.sub(rf"{_USER.pattern}['\u2019]s?(?!\w)", "my", text, flags=re.IGNORECASE)
        text = _USER.sub("I", text)
    return text
