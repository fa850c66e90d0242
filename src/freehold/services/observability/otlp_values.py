"""Attribute values, ids and numbers of OTLP as plain JSON-able ones, out of either encoding.

Bytes become base64; what JSON has no number for becomes "NaN", "Infinity" or "-Infinity"; a NUL,
which Postgres has no place for, U+FFFD.
"""

import base64
import binascii
import math
from collections.abc import Callable
from typing import Any, Protocol

from freehold.services.observability import otlp_json

_DEPTH_MAX = 24
_INTEGER_DIGITS_MAX = 20
_JSON_NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class NotTaken(Exception):
    """Of one span, record or point; the others are. Says why."""


class Wire(Protocol):
    """What differs between the encodings."""

    def value(self, value: Any, depth: int = 0) -> Any: ...

    def attributes(self, pairs: Any, depth: int = 0) -> dict[str, Any]: ...

    def id(self, raw: Any) -> str:
        """Lower-case hexadecimal digits; "" where there is none."""

    def integer(self, raw: Any) -> int: ...

    def number(self, raw: Any) -> float: ...

    def enum(self, raw: Any, names: tuple[str, ...]) -> int:
        """By number, or by one of `names`, whose first is that of 0."""

    def one_of(self, message: Any, names: tuple[str, ...]) -> str:
        """Which of the members is there; "" for none."""


class ProtobufWire:
    def value(self, value: Any, depth: int = 0) -> Any:
        kind = value.WhichOneof("value")
        if kind == "array_value":
            check_depth(depth)
            return [self.value(each, depth + 1) for each in value.array_value.values]
        if kind == "kvlist_value":
            check_depth(depth)
            return self.attributes(value.kvlist_value.values, depth + 1)
        read = _PLAIN.get(kind)
        return None if read is None else read(getattr(value, kind))

    def attributes(self, pairs: Any, depth: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for pair in pairs:
            value = pair.value
            # Most are strings: asked here, to save a call for each.
            if value.WhichOneof("value") == "string_value":
                held = value.string_value
                found[pair.key] = held.replace("\0", "\ufffd") if "\0" in held else held
            else:
                found[pair.key] = self.value(value, depth)
        return without_nul_keys(found)

    def id(self, raw: Any) -> str:
        return str(raw.hex())

    def integer(self, raw: Any) -> int:
        return int(raw)

    def number(self, raw: Any) -> float:
        return float(raw)

    def enum(self, raw: Any, names: tuple[str, ...]) -> int:
        return int(raw)

    def one_of(self, message: Any, names: tuple[str, ...]) -> str:
        return next((name for name in names if message.HasField(name)), "")


class JsonWire:
    def value(self, value: otlp_json.AnyValue | None, depth: int = 0) -> Any:
        kind = next((name for name in _KINDS if getattr(value, name, None) is not None), "")
        held: Any = getattr(value, kind, None)
        if kind == "array_value":
            check_depth(depth)
            return [self.value(each, depth + 1) for each in held.values or ()]
        if kind == "kvlist_value":
            check_depth(depth)
            return self.attributes(held.values, depth + 1)
        read = _PLAIN_JSON.get(kind)
        return None if read is None else read(held)

    def attributes(self, pairs: Any, depth: int = 0) -> dict[str, Any]:
        return without_nul_keys({pair.key: self.value(pair.value, depth) for pair in pairs or ()})

    def id(self, raw: Any) -> str:
        return (raw or "").lower()

    def integer(self, raw: Any) -> int:
        if isinstance(raw, str):
            if len(raw) > _INTEGER_DIGITS_MAX:
                raise NotTaken("a number of more than 64 bits")
            try:
                return int(raw)
            except ValueError:
                raise NotTaken("a number that is none") from None
        return int(raw or 0)

    def number(self, raw: Any) -> float:
        if isinstance(raw, str):
            if raw in _JSON_NUMBERS:
                return _JSON_NUMBERS[raw]
            try:
                return float(raw)
            except ValueError:
                raise NotTaken("a number that is none") from None
        return float(raw or 0.0)

    def enum(self, raw: Any, names: tuple[str, ...]) -> int:
        if isinstance(raw, str):
            return names.index(raw) if raw in names else 0
        return int(raw or 0)

    def one_of(self, message: Any, names: tuple[str, ...]) -> str:
        return next((name for name in names if getattr(message, name) is not None), "")


def text(held: str) -> str:
    return held.replace("\0", "\ufffd") if "\0" in held else held


def finite(number: float) -> float | str:
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def check_depth(depth: int) -> None:
    if depth >= _DEPTH_MAX:
        raise NotTaken(f"attributes nested deeper than {_DEPTH_MAX}")


def without_nul_keys(found: dict[str, Any]) -> dict[str, Any]:
    if any("\0" in key for key in found):
        return {text(key): value for key, value in found.items()}
    return found


def _base64(sent: str) -> str:
    """As protobuf's JSON mapping has it: either alphabet, with or without padding."""
    padded = sent.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        held = base64.b64decode(padded + "=" * (-len(padded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise NotTaken("bytes that are not base64") from None
    return base64.b64encode(held).decode()


PROTOBUF: Wire = ProtobufWire()
JSON: Wire = JsonWire()

_PLAIN: dict[str, Callable[[Any], Any]] = {
    "string_value": text,
    "int_value": int,
    "double_value": finite,
    "bool_value": bool,
    "bytes_value": lambda held: base64.b64encode(held).decode(),
}
_PLAIN_JSON: dict[str, Callable[[Any], Any]] = {
    **_PLAIN,
    "int_value": JSON.integer,
    "double_value": lambda held: finite(JSON.number(held)),
    "bytes_value": _base64,
}
_KINDS = (*_PLAIN, "array_value", "kvlist_value")
