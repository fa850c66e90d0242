"""Connectors as the control plane knows them: named, checked, described."""

import asyncio
from collections.abc import Sequence

from freehold.adapters.targets.connectors.credentials import filled
from freehold.adapters.targets.connectors.library import Library
from freehold.adapters.targets.connectors.settled import settle
from freehold.ports.connectors import Connector
from freehold.ports.targets import Json


class OfferedConnectors:
    """Off the loop: a data file that nobody asked for yet is read and converted first."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def ids(self) -> Sequence[str]:
        return self._library.ids()

    async def settled(self, configuration: Json, credentials: list[Json]) -> list[Json]:
        """The connector that it names is there. Raises ValidationFailed."""
        return await asyncio.to_thread(self._settled, configuration, credentials)

    def _settled(self, configuration: Json, credentials: list[Json]) -> list[Json]:
        prepared = self._library.get(configuration["source"]["connectorId"])
        settle(prepared, configuration)
        return filled(prepared, configuration, credentials)

    async def all(self) -> Sequence[Connector]:
        return await asyncio.to_thread(self._all)

    def _all(self) -> list[Connector]:
        return [self._library.get(id).connector for id in self._library.ids()]
