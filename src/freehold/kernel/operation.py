"""Operations of our own API (`/freehold/v1`): described once, served and documented from that."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Literal

import msgspec

from freehold.kernel.request import Request

Params = dict[str, Any]


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """`kind` says how the text is read; a parameter of the path is always required."""

    name: str
    meaning: str
    where: Literal["path", "query"] = "query"
    kind: Literal["string", "integer", "boolean"] = "string"
    default: Any = None
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """`path` is below /freehold/v1. `body` is decoded and validated by its type.

    `answer` is the type of the response; None with `streams` for JSON lines that go on.
    """

    name: str
    method: Literal["GET", "POST", "PATCH", "PUT", "DELETE"]
    path: str
    summary: str
    act: Callable[[Request, Params, Any], Awaitable[Any]]
    parameters: tuple[Parameter, ...] = ()
    body: Any = None
    answer: Any = None
    status: int = 200
    streams: bool = False
    follows: bool = False
    """A stream that goes on until its client leaves, where its parameter `follow` (if it has one)
    says so. It ends by itself when the worker is to stop."""
    open: bool = False
    """Needs no authentication: says nothing of any tenant."""


Lines = AsyncIterator[bytes]
