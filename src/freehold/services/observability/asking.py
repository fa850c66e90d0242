"""What a query string asks for, as the store's own words. Every mistake is named."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from freehold.kernel.clock import now
from freehold.kernel.errors import ValidationFailed
from freehold.kernel.operation import Parameter, Params
from freehold.ports.spans import Wanted

_SPAN = re.compile(r"(\d{1,5})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_ID = re.compile(r"[0-9a-f]{1,32}")
_TEXT_CHARACTERS_MAX = 1_000
_TAGS_MAX = 16
_TAG_COMMA = re.compile(r"(?<!\\),")

TIMES = (
    Parameter(
        name="since", default="24h",
        meaning="From then on: ISO 8601, or a span such as 90m, 24h or 7d",
    ),
    Parameter(name="until", meaning="Before then, likewise; now, if not given"),
)  # fmt: skip
AGENTS = (
    Parameter(name="agentId", meaning="Only of this runtime"),
    Parameter(name="agentVersion", meaning="Only of this version of it"),
)
FILTERS = (
    *TIMES,
    *AGENTS,
    Parameter(name="user", meaning="Only for this user"),
    Parameter(name="sessionId", meaning="Only in this session"),
    Parameter(
        name="status", meaning="`error`: something in it failed; `ok`: nothing did",
        choices=("ok", "error"),
    ),
    Parameter(name="name", meaning="Only with this name"),
    Parameter(name="model", meaning="Only where this model was called"),
    Parameter(name="tool", meaning="Only where this tool was called"),
    Parameter(
        name="durationMin", meaning="At least so many milliseconds long", kind="integer", minimum=0
    ),
    Parameter(
        name="durationMax", meaning="At most so many milliseconds long", kind="integer", minimum=0
    ),
    Parameter(name="tokensMin", meaning="At least so many tokens", kind="integer", minimum=0),
    Parameter(name="tokensMax", meaning="At most so many tokens", kind="integer", minimum=0),
    Parameter(name="costMin", meaning="At least so many US dollars"),
    Parameter(name="costMax", meaning="At most so many US dollars"),
    Parameter(
        name="tag", meaning="`key=value`, an attribute of any span; several with commas between, "
        "and `\\,` for a comma in a value",
    ),
    Parameter(name="text", meaning="In any name, attribute or event, whatever its case"),
)  # fmt: skip
PAGES = (
    Parameter(
        name="limit", meaning="Items a page", kind="integer", default=100, minimum=1, maximum=1000
    ),
    Parameter(name="nextToken", meaning="Where the previous page ended"),
)


def window(params: Params) -> tuple[int, int]:
    """Nanoseconds since 1970. What began in the same microsecond as `until` is in, when that is
    now: a span that has just ended is not to be missed."""
    until = _time("until", params["until"])
    since = _time("since", params["since"])
    assert since is not None, "it has a default"
    end = _ns(until) if until is not None else _ns(now() + timedelta(minutes=1))
    if _ns(since) >= end:
        raise ValidationFailed("since: expected a time before until")
    return _ns(since), end


def wanted(params: Params) -> Wanted:
    since_ns, until_ns = window(params)
    return Wanted(
        since_ns=since_ns,
        until_ns=until_ns,
        agent_id=_text(params, "agentId"),
        agent_version=_text(params, "agentVersion"),
        user=_text(params, "user"),
        session_id=_text(params, "sessionId"),
        status=params["status"] or "",
        name=_text(params, "name"),
        model=_text(params, "model"),
        tool=_text(params, "tool"),
        duration_ms_min=params["durationMin"],
        duration_ms_max=params["durationMax"],
        tokens_min=params["tokensMin"],
        tokens_max=params["tokensMax"],
        cost_min=_dollars("costMin", params["costMin"]),
        cost_max=_dollars("costMax", params["costMax"]),
        tags=tags(params["tag"]),
        text=_text(params, "text"),
    )


def tags(text: str | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in _TAG_COMMA.split(text) if text else ():
        key, equals, value = pair.partition("=")
        if not equals:
            key, equals, value = pair.partition(":")
        if not equals or not key.strip():
            raise ValidationFailed(f"tag={pair}: expected key=value")
        found[key.strip()] = value.replace("\\,", ",")
    if len(found) > _TAGS_MAX:
        raise ValidationFailed(f"tag: at most {_TAGS_MAX} at once")
    return found


def hexadecimal(name: str, value: str, digits: int) -> str:
    """A trace's or span's id. Raises ValidationFailed for what can be none."""
    value = value.lower()
    if len(value) != digits or not _ID.fullmatch(value):
        raise ValidationFailed(f"{name}={value}: expected {digits} hexadecimal digits")
    return value


def step(name: str, text: str | None) -> int | None:
    """Seconds, of `30s`, `5m`, `1h` or `1d`."""
    if text is None:
        return None
    found = _SPAN.fullmatch(text)
    seconds = 0
    if found is not None:
        seconds = int(timedelta(**{_UNITS[found[2]]: int(found[1])}).total_seconds())
    if not seconds:
        raise ValidationFailed(f"{name}={text}: expected a span such as 30s, 5m, 1h or 1d")
    return seconds


def _text(params: Params, name: str) -> str:
    value: Any = params[name] or ""
    if len(value) > _TEXT_CHARACTERS_MAX:
        raise ValidationFailed(f"{name}: at most {_TEXT_CHARACTERS_MAX} characters")
    return str(value)


def _dollars(name: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e12:
        raise ValidationFailed(f"{name}={text}: expected US dollars, such as 0.05")
    return value


def _time(name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    if found := _SPAN.fullmatch(text):
        return now() - timedelta(**{_UNITS[found[2]]: int(found[1])})
    try:
        at = datetime.fromisoformat(text)
        _ns(at)
    except (ValueError, OverflowError):
        raise ValidationFailed(
            f"{name}={text}: expected ISO 8601, or a span such as 90m, 24h or 7d"
        ) from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _ns(at: datetime) -> int:
    return int(at.timestamp() * 1e6) * 1000
