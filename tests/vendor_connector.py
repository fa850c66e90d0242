"""A connector's target with a stand-in of its vendor behind it."""

import jsonschema_rs

from connector_ground import LIBRARY, Detour, place
from connector_vendors.manners import Seen
from connector_vendors.server import StandIn
from freehold.adapters.targets.connectors.client import ConnectorTargets
from freehold.adapters.targets.openapi.client import OpenApiTargets
from freehold.ports.targets import Credential, Definition, Errand, Json
from freehold.ports.web import Web

BEFORE = {("slack", "update_message"), ("slack", "delete_message")}
"""Tools for what another has made."""


class Connector:
    """A connector's target, and the vendor behind it."""

    def __init__(self, web: Web, standin: StandIn) -> None:
        self.vendor, self.standin = standin.vendor, standin
        self._targets = ConnectorTargets(LIBRARY, OpenApiTargets(Detour(web, standin)))
        self._place = place(self.vendor)
        self.tools: dict[str, Definition] = {}

    async def describe(self) -> None:
        described = await self._targets.describe(self._place, _errand(""))
        assert described.problems == ()
        self.tools = {tool.name: tool for tool in described.definitions}

    def schema(self, tool: str) -> Json:
        found: Json = self.tools[tool].document["inputSchema"]
        return found

    async def call(self, tool: str, told: Json, token: str = "") -> Json:
        jsonschema_rs.validator_for(self.schema(tool)).validate(told)
        if (self.vendor, tool) in BEFORE:
            message = {"channel": told["channel"], "text": "first"}
            await self.call("post_message", message)
            told = {
                **told,
                "ts": next(iter(self.standin.store.listed("/" + told["channel"])))["ts"],
            }
        errand = _errand(token or self.standin.token())
        return await self._targets.call(self._place, self.tools[tool], told, errand)

    async def asked(self, tool: str, told: Json) -> tuple[Json, Seen, list[str]]:
        """The result, the one request that it took, and what the vendor would not have known."""
        before = len(self.standin.seen) + ((self.vendor, tool) in BEFORE)
        self.standin.findings.clear()
        result = await self.call(tool, told)
        asked = self.standin.seen[before:]
        assert len(asked) == 1, [one.path for one in asked]
        return result, asked[0], list(self.standin.findings)


def _errand(token: str) -> Errand:
    credential = Credential(headers={"authorization": f"Bearer {token}"} if token else {})
    return Errand(request_id="r", owner="someone", seconds_max=10.0, credential=credential)
