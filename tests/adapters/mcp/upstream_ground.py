"""A client of MCP servers put together by hand, and a caller's side that notes what it hears."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from freehold.adapters.egress.addresses import denied, forbidden
from freehold.adapters.mcp.client import McpTargets
from freehold.adapters.web.client import CheckedWeb
from freehold.adapters.web.destination import Destinations
from freehold.ports.targets import CannotAsk, Definition, Described, Errand, Json, Place


class Caller:
    """A `Talk` that answers from `answers`, by method."""

    def __init__(self, **answers: Json) -> None:
        self._answers = {name.replace("_", "/", 1): value for name, value in answers.items()}
        self.heard: list[tuple[str, Json]] = []
        self.was_asked: list[tuple[str, Json]] = []

    async def notify(self, method: str, params: Json) -> None:
        self.heard.append((method, params))

    async def ask(self, method: str, params: Json) -> Json:
        self.was_asked.append((method, params))
        if method not in self._answers:
            raise CannotAsk("nobody is there")
        return self._answers[method]


class Ground:
    def __init__(self, web: CheckedWeb, **more: Any) -> None:
        self.changes: list[tuple[str, str]] = []
        self.targets = McpTargets(
            web,
            version="9",
            changed=lambda place, method: self.changes.append((place.name, method)),
            **more,
        )

    async def call(
        self, place: Place, name: str, arguments: Json | None = None, /, **errand: Any
    ) -> Json:
        plan = errand.pop("plan", {})
        definition = Definition(name=name, document={}, plan=plan)
        return await self.targets.call(place, definition, arguments or {}, an_errand(**errand))

    async def text(
        self, place: Place, name: str, arguments: Json | None = None, /, **errand: Any
    ) -> str:
        result = await self.call(place, name, arguments, **errand)
        return str(result["content"][0]["text"])

    async def described(self, place: Place) -> tuple[Place, Described]:
        found = await self.targets.describe(place, an_errand())
        return msgspec.structs.replace(place, server=found.server), found


@contextlib.asynccontextmanager
async def standing(*, per_host_max: int = 16, **more: Any) -> AsyncIterator[Ground]:
    destinations = Destinations(
        denied=denied, forbidden=forbidden, listed=frozenset({"127.0.0.1"}), setting="SETTING"
    )
    web = CheckedWeb(destinations, kept_seconds=60, per_host_max=per_host_max)
    await web.start()
    ground = Ground(web, **more)
    try:
        yield ground
    finally:
        await ground.targets.close()
        await web.close()


def a_place(url: str, **more: Any) -> Place:
    return Place(
        tenant="t1",
        gateway_id="g1",
        gateway_arn="arn:aws:bedrock-agentcore:eu-central-1:1:gateway/g1",
        target_id="target1",
        name="weather",
        kind="mcp.mcpServer",
        configuration={"endpoint": url, **more},
    )


def an_errand(**more: Any) -> Errand:
    return Errand(**{"request_id": "r1", "owner": "t1 alice", "seconds_max": 10.0, **more})
