"""Times, numbers and text as the protocols write them."""

import base64
import binascii
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any


class BadArgument(Exception):
    """For whoever called: which argument, and what it should have been."""


def time(value: Any, where: str) -> datetime:
    """What the caller wrote: RFC 3339, or seconds since 1970."""
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    raise BadArgument(f"{where} has to be a time such as 2026-01-31T12:00:00Z")


def written_time(value: Any, form: str, where: str) -> str | int | float:
    moment = time(value, where)
    if form == "epoch-seconds":
        seconds = moment.timestamp()
        return int(seconds) if seconds.is_integer() else round(seconds, 3)
    if form == "http-date":
        return format_datetime(moment.replace(microsecond=0), usegmt=True)
    return _date_time(moment)


def read_time(value: Any) -> Any:
    """RFC 3339 of any of the three forms; what is none of them stays as it is."""
    try:
        if isinstance(value, str):
            if value[:1].isdigit() and ("T" in value or "-" in value[1:]):
                moment = datetime.fromisoformat(value)
                return _date_time((moment if moment.tzinfo else moment.replace(tzinfo=UTC))
                                  .astimezone(UTC))  # fmt: skip
            if not value[:1].isalpha():
                return _date_time(datetime.fromtimestamp(float(value), UTC))
            return _date_time(parsedate_to_datetime(value).astimezone(UTC))
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _date_time(datetime.fromtimestamp(value, UTC))
    except (ValueError, OverflowError, OSError):
        pass
    return value


def _date_time(moment: datetime) -> str:
    text = moment.replace(tzinfo=None).isoformat(timespec="microseconds")
    return text.rstrip("0").rstrip(".") + "Z"


def text(value: Any, kind: str, form: str, where: str) -> str:
    """A simple value where there is only text: headers, queries, XML."""
    if kind == "timestamp":
        return str(written_time(value, form, where))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return str(value)
    raise BadArgument(f"{where} has to be a {kind}")


def read_text(value: str, kind: str) -> Any:
    """What is not of its kind stays text: a client sees what came."""
    if kind == "timestamp":
        return read_time(value.strip())
    if kind == "boolean":
        return {"true": True, "false": False}.get(value.strip().lower(), value)
    if kind in ("number", "float") and "_" not in value:  # which Python alone allows
        try:
            return int(value)
        except ValueError:
            return _float(value)
    return value


def _float(value: str) -> Any:
    try:
        number = float(value)
    except ValueError:
        return value
    return number if number - number == 0 else value.strip()  # neither NaN nor infinite in JSON


def octets(value: Any, where: str) -> bytes:
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            pass
    raise BadArgument(f"{where} has to be base64")


def base64_text(content: bytes) -> str:
    return base64.b64encode(content).decode()
