"""Which path is whose: a small table, searched in order."""

from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import unquote

import msgspec

from freehold.console.answer import Answer
from freehold.console.visit import Visit


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """`path` may hold `{name}` segments. `operation` is what the authorizer is asked; None: the
    page is open to all, for it comes before a sign-in."""

    method: str
    path: str
    act: Callable[[Visit], Awaitable[Answer]]
    operation: str | None


def match(routes: Sequence[Route], path: str) -> tuple[dict[str, Route], dict[str, str]]:
    """The routes of a quoted path by method, and the values of its `{name}` segments."""
    for route in routes:
        params = _params(route.path, path)
        if params is not None:
            return {r.method: r for r in routes if r.path == route.path}, params
    return {}, {}


def _params(pattern: str, path: str) -> dict[str, str] | None:
    wanted, given = pattern.split("/"), path.split("/")
    if len(wanted) != len(given):
        return None
    params = {}
    for want, have in zip(wanted, given, strict=True):
        if want.startswith("{") and have:
            params[want.strip("{}")] = unquote(have)
        elif want != have:
            return None
    return params
