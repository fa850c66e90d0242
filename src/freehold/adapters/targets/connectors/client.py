"""Targets of the kind mcp.connector: `ports.targets.TargetClient`."""

import asyncio
import base64
from urllib.parse import quote

import msgspec

from freehold.adapters.targets.connectors.answers import answered
from freehold.adapters.targets.connectors.atlassian import document
from freehold.adapters.targets.connectors.library import Library
from freehold.adapters.targets.connectors.settled import settle
from freehold.adapters.targets.connectors.values import changed, merged
from freehold.adapters.targets.openapi.client import OpenApiTargets
from freehold.kernel.errors import ValidationFailed
from freehold.ports.targets import Definition, Described, Errand, Json, Place


class ConnectorTargets:
    """`openapi` makes the requests: a connector is a document of ours with values put in."""

    def __init__(self, library: Library, openapi: OpenApiTargets) -> None:
        self._library, self._openapi = library, openapi

    async def describe(self, place: Place, errand: Errand) -> Described:
        id = place.configuration["source"]["connectorId"]
        if id not in self._library.ids():
            raise ValidationFailed(f"connectorId: there is no connector {id!r} any more")
        return await asyncio.to_thread(self._described, id, place.configuration)

    def _described(self, id: str, configuration: Json) -> Described:
        prepared = self._library.get(id)
        definitions = settle(prepared, configuration)
        servers = dict.fromkeys(d.plan["request"]["server"] for d in definitions)
        server = {"connector": id, "version": prepared.version, "servers": list(servers)}
        return Described(definitions=definitions, server=server)

    async def call(
        self, place: Place, definition: Definition, arguments: Json, errand: Errand
    ) -> Json:
        plan = definition.plan
        given = _sent(plan, arguments)
        inner = msgspec.structs.replace(definition, plan=plan["request"])
        result = await self._openapi.call(place, inner, given, errand)
        return answered(plan, result)


def _sent(plan: Json, arguments: Json) -> Json:
    """The arguments as the service wants them."""
    given = merged(merged(plan.get("defaults", {}), arguments), plan["fixed"])
    for name in plan.get("encoded", ()):
        if name in given:
            given[name] = base64.b64encode(str(given[name]).encode()).decode()
    for name in plan.get("twice", ()):
        # Zoom's rule for UUIDs of meetings: it decodes once before it looks for slashes.
        text = str(given.get(name, ""))
        if text.startswith("/") or "//" in text:
            given[name] = quote(text, safe="")
    for path in plan.get("documents", ()):
        given = changed(given, path, document)
    return given
