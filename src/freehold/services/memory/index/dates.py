"""The days that a text speaks of, reckoned against the day it was said on.

English only. Whatever is understood becomes a term of the index beside the words: a turn of 10 May
that says "yesterday" is found by "what happened on 9 May".
"""

import re
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from typing import Literal, NamedTuple

WHEN = "@when"
"""The term of a text that speaks of a time at all, and of a question that asks for one."""
_PERIODS_MAX = 20
"""Of one text: a calendar pasted into a message is not what somebody speaks of."""

_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september",
    "october", "november", "december",
)  # fmt: skip
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_NUMBERS = {
    "a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7,
    "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "couple": 2, "few": 3,
}  # fmt: skip
_UNITS = ("day", "week", "month", "year")

_NUMBER = rf"(?:the (?:last|past) )?(?P<{{0}}>\d{{{{1,3}}}}|{'|'.join(_NUMBERS)})(?: of)?"
_UNIT = "(?P<{0}>day|night|weekend|week|month|year)s?"
_WEEKDAY = "|".join(_DAYS)
_MONTH = rf"(?:{'|'.join(_MONTHS)}|(?:jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)(?=\b\.?))"
_BEFORE_MONTH = "in|since|until|during|last|next|this|from|by|of|early|late|mid"
_ORDINAL = r"(?:st|nd|rd|th)?"


class Period(NamedTuple):
    """`first` is its first day: weeks begin on Monday, as those of ISO 8601 do."""

    kind: Literal["day", "week", "month", "year"]
    first: date

    def terms(self) -> tuple[str, ...]:
        """What it is indexed as."""
        first = self.first
        if self.kind == "day":
            return (f"@{first.isoformat()}", _MONTHS[first.month - 1], str(first.year))
        if self.kind == "week":
            year, week, _ = first.isocalendar()
            return (f"@{year}w{week:02}", _MONTHS[first.month - 1], str(first.year))
        if self.kind == "month":
            return (_MONTHS[first.month - 1], str(first.year))
        return (str(first.year),)

    def asked(self) -> tuple[str, ...]:
        """What it is looked up as: a day also within its week, a week also by its days."""
        if self.kind == "day":
            return (self.terms()[0], Period("week", _monday(self.first)).terms()[0])
        if self.kind == "week":
            days = (self.first + timedelta(days=n) for n in range(7))
            return (self.terms()[0], *(f"@{day.isoformat()}" for day in days))
        return self.terms()


class Spoken(NamedTuple):
    """`start` and `end` of the words in the text. `relative`: they mean these days only when said
    on that day. `sure`: not so for a bare weekday, which may be a habit ("what is there on
    Monday"), nor for a month without a year."""

    periods: tuple[Period, ...]
    start: int
    end: int
    relative: bool
    sure: bool = True


def unit_terms(text: str, at: datetime) -> list[str]:
    """Of what was said at `at`: that day, and the days it speaks of."""
    found = dict.fromkeys(Period("day", at.date()).terms())
    spoken = list(spoken_of(text, at.date()))
    for one in spoken:
        for period in one.periods:
            found.update(dict.fromkeys(period.terms()))
    return [*found, WHEN] if spoken else list(found)


def spoken_of(text: str, on: date | None) -> Iterator[Spoken]:
    """In the text's order. Without a day to reckon from, only what names its year."""
    for count, match in enumerate(_SPOKEN.finditer(text)):
        if count == _PERIODS_MAX:
            return
        kind = next(name for name in _READERS if match[name])
        reader, relative = _READERS[kind]
        try:
            periods = reader(match, on)
        except (ValueError, OverflowError):  # the 31st of June, or 900 years before the first
            continue
        if periods:
            sure = not (
                (kind == "day" and (match["which2"] or "on").lower() == "on")
                or (kind == "calendar" and not (match["year1"] or match["year2"] or match["year3"]))
            )
            yield Spoken(tuple(periods), match.start(), match.end(), relative, sure)


_Reader = Callable[["re.Match[str]", "date | None"], list[Period]]


def _iso(match: "re.Match[str]", on: date | None) -> list[Period]:
    return [Period("day", date.fromisoformat(match["iso"]))]


def _calendar(match: "re.Match[str]", on: date | None) -> list[Period]:
    """ "7 May 2023", "May 7th", "in May 2023", "in May": without a year the nearest such day."""
    month = _month(match["month1"] or match["month2"] or match["month3"])
    day = match["day1"] or match["day2"]
    year = match["year1"] or match["year2"] or match["year3"]
    if year:
        return [_dated(int(year), month, day)]
    if on is None:
        return []
    near = [_dated(on.year + offset, month, day) for offset in (-1, 0, 1)]
    return [min(near, key=lambda period: abs(period.first - on))]


def _dated(year: int, month: int, day: str | None) -> Period:
    return Period("day" if day else "month", date(year, month, int(day or 1)))


def _year(match: "re.Match[str]", on: date | None) -> list[Period]:
    return [Period("year", date(int(match["year"][-4:]), 1, 1))]


def _near(match: "re.Match[str]", on: date | None) -> list[Period]:
    said = " ".join(match["near"].lower().split())
    days = 0
    if "tomorrow" in said:
        days = 2 if "after" in said else 1
    elif "yesterday" in said:
        days = -2 if "before" in said else -1
    elif said == "last night":
        days = -1
    return [] if on is None else [Period("day", on + timedelta(days=days))]


def _ago(match: "re.Match[str]", on: date | None) -> list[Period]:
    if match["behind"]:
        return _moved(on, -_number(match["n1"]), match["unit1"])
    return _moved(on, _number(match["n2"]), match["unit2"])


def _beside(match: "re.Match[str]", on: date | None) -> list[Period]:
    """ "last week", "this weekend", "next month"."""
    step = {"last": -1, "past": -1, "previous": -1, "this": 0}.get(match["which1"].lower(), 1)
    if match["unit3"].lower().startswith("weekend") and on is not None:
        saturday = _monday(on) + timedelta(days=5, weeks=step)
        if step < 0 and on.weekday() > 4:  # on a Sunday "last weekend" is six days ago
            saturday = _monday(on) - timedelta(days=2)
        return [Period("day", saturday), Period("day", saturday + timedelta(days=1))]
    if match["unit3"].lower().startswith("week") and on is not None:
        return [Period("week", _monday(on) + timedelta(weeks=step))]
    return _moved(on, step, match["unit3"])


def _weekday(match: "re.Match[str]", on: date | None) -> list[Period]:
    """The last one, the next one; a bare one is either."""
    if on is None:
        return []
    number = _DAYS.index(match["weekday"].lower())
    before = on - timedelta(days=(on.weekday() - number - 1) % 7 + 1)
    behind = on + timedelta(days=(number - on.weekday() - 1) % 7 + 1)
    which = (match["which2"] or "").lower()
    if which in ("last", "past", "previous", "since"):
        return [Period("day", before)]
    if which in ("next", "coming", "this coming", "until", "by"):
        return [Period("day", behind)]
    return [Period("day", before), Period("day", behind)]


def _moved(on: date | None, count: int, unit: str) -> list[Period]:
    """Reckoned as people say it: weeks ago is a day of that week, months ago a month."""
    if on is None:
        return []
    unit = unit.lower()
    if unit.startswith(("day", "night")):
        return [Period("day", on + timedelta(days=count))]
    if unit.startswith("week"):
        day = on + timedelta(weeks=count)
        return [Period("week", _monday(day)), Period("day", day)]
    if unit.startswith("month"):
        month = on.year * 12 + on.month - 1 + count
        return [Period("month", date(month // 12, month % 12 + 1, 1))]
    return [Period("year", date(on.year + count, 1, 1))]


def _number(said: str) -> int:
    return _NUMBERS.get(said.lower()) or int(said)


def _month(said: str) -> int:
    return [name[:3] for name in _MONTHS].index(said[:3].lower()) + 1


def _monday(day: date) -> date:
    return day - timedelta(days=day.weekday())


_PATTERNS = {
    "iso": r"\d{4}-\d\d-\d\d",
    "calendar": (
        rf"(?:the )?(?P<day1>\d{{1,2}}){_ORDINAL}(?: of)? (?P<month1>{_MONTH})\.?"
        r"(?:,? (?P<year1>\d{4}))?"
        rf"|(?P<month2>{_MONTH})\.? (?:the )?(?P<day2>\d{{1,2}})(?!\d){_ORDINAL}"
        r"(?:,? (?P<year2>\d{4}))?"
        rf"|(?:(?:{_BEFORE_MONTH})[ -])(?P<month3>{_MONTH})"
        r"(?:,? (?P<year3>\d{4}))?"
    ),
    "year": r"(?:in|since|until|of|during|from) (?:19|20)\d\d",
    "near": (
        r"(?:the )?day (?:before yesterday|after tomorrow)|yesterday|tomorrow|today|tonight"
        r"|last night|this (?:morning|afternoon|evening)"
    ),
    "ago": (
        rf"{_NUMBER.format('n1')} {_UNIT.format('unit1')} (?P<behind>ago|back|earlier)"
        rf"|in {_NUMBER.format('n2')} {_UNIT.format('unit2')}"
    ),
    "beside": rf"(?P<which1>last|past|previous|this|next|coming) {_UNIT.format('unit3')}",
    "day": (
        r"(?:(?P<which2>last|past|previous|since|next|this coming|coming|until|by|this|on) )?"
        rf"(?P<weekday>{_WEEKDAY})"
    ),
}
_READERS: dict[str, tuple[_Reader, bool]] = {
    "iso": (_iso, False),
    "calendar": (_calendar, False),
    "year": (_year, False),
    "near": (_near, True),
    "ago": (_ago, True),
    "beside": (_beside, True),
    "day": (_weekday, True),
}
_SPOKEN = re.compile(
    r"\b(?:" + "|".join(f"(?P<{name}>{pattern})" for name, pattern in _PATTERNS.items()) + r")\b",
    re.IGNORECASE,
)
