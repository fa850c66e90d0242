"""Rows in the binary format of COPY, put together by hand: nothing in them needs escaping, and a
text that thousands of rows share is encoded once. Source: PostgreSQL's documentation of COPY."""

import struct
from collections.abc import Iterable
from typing import Any

import msgspec
from psycopg import sql

from freehold.ports.database import Connection

_HEAD = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_TAIL = b"\xff\xff"
_CHUNK_BYTES = 1 << 20

NULL = b"\xff\xff\xff\xff"
INT8_MAX = 2**63 - 1

_INT8 = struct.Struct("!iq")
_FLOAT8 = struct.Struct("!id")
_encoder = msgspec.json.Encoder(enc_hook=str)
_DEPTH_MAX = 64


def storable(text: str) -> str:
    """Postgres has no U+0000 in a text, and nothing has half a surrogate pair."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


class Storable(dict[str, str]):
    """Texts of a batch, as they are stored: at most so many characters of each."""

    def __init__(self, characters_max: int) -> None:
        self._characters_max = characters_max

    def __missing__(self, text: str) -> str:
        stored = self[text] = storable(text[: self._characters_max])
        return stored


class TextFields(dict[str, bytes]):
    """Texts of a batch as fields, cut as `Storable` cuts them."""

    def __init__(self, characters_max: int) -> None:
        self._characters_max = characters_max

    def __missing__(self, text: str) -> bytes:
        field = self[text] = bytes_field(storable(text[: self._characters_max]).encode())
        return field


def bytes_field(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def integer_field(value: int | None) -> bytes:
    return NULL if value is None else _INT8.pack(8, within(value))


def float_field(value: float | None) -> bytes:
    return NULL if value is None else _FLOAT8.pack(8, value)


def within(value: int, most: int = INT8_MAX) -> int:
    """From nothing to `most`: what a client says is not always a number that can be."""
    if 0 <= value <= most:
        return value
    return 0 if value < 0 else most


def json_text(value: Any) -> bytes:
    """Whatever it is: attributes are others' data, and one that cannot be written must not lose
    the spans beside it."""
    try:
        return _encoder.encode(value)
    except (UnicodeEncodeError, RecursionError, TypeError, ValueError, OverflowError):
        return _encoder.encode(_plain(value, _DEPTH_MAX))


def _plain(value: Any, depth: int) -> Any:
    """Nothing but what JSON has, and not deeper than that."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    return _plain_inside(value, depth) if depth else "..."


def _plain_inside(value: Any, depth: int) -> Any:
    if isinstance(value, dict):
        return {_plain(str(k), 1): _plain(each, depth - 1) for k, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each, depth - 1) for each in value]
    if isinstance(value, msgspec.Struct):
        return [_plain(getattr(value, name), depth - 1) for name in value.__struct_fields__]
    return _plain(str(value), 1)


async def copy(
    connection: Connection, table: str, columns: Iterable[str], rows: Iterable[bytes]
) -> None:
    """`rows` hold what comes after the number of fields, which is of `columns`."""
    names = [sql.Identifier(name) for name in columns]
    count = len(names).to_bytes(2, "big")
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(
        sql.Identifier(table), sql.SQL(", ").join(names)
    )
    async with connection.cursor() as cursor, cursor.copy(statement) as stream:
        chunk = bytearray(_HEAD)
        for row in rows:
            chunk += count
            chunk += row
            if len(chunk) > _CHUNK_BYTES:
                await stream.write(bytes(chunk))
                chunk.clear()
        chunk += _TAIL
        await stream.write(bytes(chunk))
