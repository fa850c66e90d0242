"""What the console needs from the worker that it is mounted in."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from starlette.types import Receive, Scope

from freehold.console.visit import Visit
from freehold.kernel.caller import Caller
from freehold.ports.web import WebStream


class GovernedCall(Protocol):
    """One request on the governed path. `noted` stands in the audit: small, and no secret."""

    status: int
    noted: dict[str, str]

    @property
    def known_caller(self) -> Caller: ...

    async def acknowledge(self, status: int) -> None:
        """Before the answer: its status is in the audit for good then, or Unavailable."""


class Govern(Protocol):
    def __call__(
        self,
        operation: str,
        scope: Scope,
        receive: Receive,
        *,
        request_id: str,
        authenticate: Callable[[], Awaitable[Caller]],
        prepare: Callable[[], Awaitable[None]],
    ) -> AbstractAsyncContextManager[GovernedCall]:
        """The governed path, in its order. The body of the `with` acts and answers.

        `operation` is "console:{Name}". `prepare` reads and checks the form; what either raises
        refuses the request.
        """


class OpenInner(Protocol):
    async def __call__(self, scope: Scope, body: bytes, *, idle_seconds_max: float) -> WebStream:
        """A request to the platform's own application, in this process, until its answer begins.
        The caller in the scope's state is believed. Raises ports.web.Unreachable."""


class Platform(Protocol):
    """The platform's own API and AWS's, asked as the person of a visit; see platform.py."""

    async def get(self, visit: Visit, path: str, **params: Any) -> Any: ...

    async def post(self, visit: Visit, path: str, body: Any = None, **params: Any) -> Any: ...

    async def put(self, visit: Visit, path: str, body: Any = None, **params: Any) -> Any: ...

    async def patch(self, visit: Visit, path: str, body: Any = None, **params: Any) -> Any: ...

    async def delete(self, visit: Visit, path: str, **params: Any) -> Any: ...

    async def open(
        self,
        visit: Visit,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        headers: dict[str, str] | None = None,
        **params: Any,
    ) -> WebStream:
        """An answer as it comes, for what is no JSON or long. Close it. Errors are raised."""

    async def lines(self, visit: Visit, path: str, **params: Any) -> AsyncIterator[Any]:
        """JSON lines, each as it comes. Errors are raised before the first."""


class Fragments(Protocol):
    def fragment(self, template: str, data: Any, visit: Visit) -> str:
        """A piece of a page in HTML, for its script to put in."""
