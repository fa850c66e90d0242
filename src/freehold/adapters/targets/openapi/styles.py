"""Parameters in the styles of RFC 6570 that OpenAPI names.

Values are percent-encoded before they are joined: a delimiter within a value is not one between
two. Where a value is deeper than its style has words for, what is inside is JSON.
"""

import re
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from freehold.adapters.targets.openapi.plan import ParameterPlan

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_SEGMENTS = re.compile(r"[/\\;]")
# What `allowReserved` leaves as it is. `&`, `#`, `+` and `;` would begin something else.
_RESERVED = ":/?@!$'()*,="
_DELIMITERS = {"spaceDelimited": "%20", "pipeDelimited": "%7C", "tabDelimited": "%09"}


class BadArgument(Exception):
    """The message is for who called: what of which argument cannot be sent."""


def text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, int | float):
        return repr(value)
    return msgspec.json.encode(value).decode()


def in_path(parameter: ParameterPlan, value: Any) -> str:
    """Raises BadArgument, also for what some servers would take for a way up the path."""
    name = quote(parameter.name, safe="")
    if parameter.media:
        value = _content(parameter, value)
    for item in _texts(value):
        _check_segment(parameter, item)
    made = _in_path(parameter, name, value)
    if made in ("", ".", ".."):
        raise BadArgument(f'The argument "{parameter.argument}" must not be empty.')
    return made


def _in_path(parameter: ParameterPlan, name: str, value: Any) -> str:
    explode = parameter.explode
    match parameter.style:
        case "label":
            return "." + _joined(value, "." if explode else ",", explode)
        case "matrix" if explode and isinstance(value, list):
            return "".join(f";{_pair(name, text(item))}" for item in value)
        case "matrix" if explode and isinstance(value, dict):
            return "".join(f";{_pair(_quoted(k), text(v))}" for k, v in value.items())
        case "matrix":
            joined = _joined(value, ",", explode)
            return f";{name}={joined}" if joined else f";{name}"
    return _joined(value, ",", explode)


def in_query(parameter: ParameterPlan, value: Any) -> list[str]:
    """The pairs, each `name=value`."""
    name = quote(parameter.name, safe="")
    safe = _RESERVED if parameter.reserved else ""
    if parameter.media:
        return [f"{name}={quote(_content(parameter, value), safe=safe)}"]
    return pairs(name, value, parameter.style, explode=parameter.explode, safe=safe)


def pairs(name: str, value: Any, style: str, *, explode: bool, safe: str = "") -> list[str]:
    """`name` is encoded already."""
    if style == "deepObject" and isinstance(value, dict | list):
        found: list[str] = []
        _deep(name, value, safe, found)
        return found
    if isinstance(value, list):
        items = [quote(text(item), safe=safe) for item in value]
        if explode:
            return [f"{name}={item}" for item in items]
        return [f"{name}={_DELIMITERS.get(style, ',').join(items)}"] if items else []
    if isinstance(value, dict):
        if explode and style == "form":
            return [f"{_quoted(k)}={quote(text(v), safe=safe)}" for k, v in value.items()]
        flat = [part for k, v in value.items() for part in (_quoted(k), quote(text(v), safe=safe))]
        return [f"{name}={_DELIMITERS.get(style, ',').join(flat)}"] if flat else []
    return [f"{name}={quote(text(value), safe=safe)}"]


def in_header(parameter: ParameterPlan, value: Any) -> str:
    if parameter.media:
        found = _content(parameter, value)
    elif isinstance(value, list):
        found = ",".join(map(text, value))
    elif isinstance(value, dict):
        between = "=" if parameter.explode else ","
        found = ",".join(f"{k}{between}{text(v)}" for k, v in value.items())
    else:
        found = text(value)
    if _CONTROL.search(found):
        raise BadArgument(
            f'The argument "{parameter.argument}" goes into a header: it must not have line breaks'
            " or control characters."
        )
    return found.strip()


def in_cookie(parameter: ParameterPlan, value: Any) -> list[str]:
    name = quote(parameter.name, safe="")
    if parameter.media:
        return [f"{name}={quote(_content(parameter, value), safe='')}"]
    return pairs(name, value, "form", explode=parameter.explode)


def _content(parameter: ParameterPlan, value: Any) -> str:
    if "json" in parameter.media:
        return msgspec.json.encode(value).decode()
    return text(value)


def _texts(value: Any) -> list[str]:
    if isinstance(value, list):
        return [text(item) for item in value]
    if isinstance(value, dict):
        return [piece for k, v in value.items() for piece in (k, text(v))]
    return [text(value)]


def _joined(value: Any, delimiter: str, explode: bool) -> str:
    if isinstance(value, list):
        return delimiter.join(_quoted(text(item)) for item in value)
    if isinstance(value, dict):
        between = "=" if explode else ","
        return delimiter.join(f"{_quoted(k)}{between}{_quoted(text(v))}" for k, v in value.items())
    return _quoted(text(value))


def _pair(name: str, value: str) -> str:
    return f"{name}={_quoted(value)}" if value else name


def _quoted(value: str) -> str:
    try:
        return quote(value, safe="")
    except UnicodeEncodeError:
        raise BadArgument("A text has half of a surrogate pair in it, which is none.") from None


def _deep(prefix: str, value: Any, safe: str, found: list[str]) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _deep(f"{prefix}%5B{_quoted(key)}%5D", inner, safe, found)
    elif isinstance(value, list):
        # A list of plain values goes without numbers; objects need them to stay apart.
        plain = not any(isinstance(inner, dict | list) for inner in value)
        for index, inner in enumerate(value):
            _deep(f"{prefix}%5B{'' if plain else index}%5D", inner, safe, found)
    else:
        found.append(f"{prefix}={quote(text(value), safe=safe)}")


def _check_segment(parameter: ParameterPlan, value: str) -> None:
    if "." not in value and "%" not in value and "\0" not in value:
        return
    for form in (value, unquote(value), unquote(unquote(value))):
        if "\0" in form or any(part in (".", "..") for part in _SEGMENTS.split(form)):
            raise BadArgument(
                f'The argument "{parameter.argument}" goes into a path: "." and ".." are no names'
                " there."
            )
