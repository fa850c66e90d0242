"""`mcp.Search`: tools by what they are for, among those that a caller may use."""

from collections.abc import Sequence

import msgspec

from freehold.ports.targets import Definition
from freehold.services.gateway.calls import Asking
from freehold.services.gateway.catalog import Offer
from freehold.services.gateway.search import SearchText, ToolSearch


class ToolFinder:
    def __init__(self, search: ToolSearch) -> None:
        self._search = search

    async def __call__(
        self, asking: Asking, offers: Sequence[Offer], query: str, limit: int
    ) -> tuple[Sequence[Offer], str]:
        catalog = asking.catalog
        index = await self._search.index(
            catalog.door.tenant,
            catalog.door.gateway_id,
            catalog.version,
            lambda: [search_text(each) for each in catalog.offers("tool")],
        )
        usable = {each.name: each for each in offers}
        hits = await self._search.find(index, query, limit, usable)
        return [usable[key] for key, _ in hits], self._search.say_how(index)


def search_text(offer: Offer) -> SearchText:
    return text_of(offer.name, offer.definition)


def text_of(name: str, definition: Definition) -> SearchText:
    document = definition.document
    return SearchText(
        key=name,
        name=name,
        description=" ".join(
            text for key in ("title", "description") if isinstance(text := document.get(key), str)
        ),
        schema=msgspec.convert(document.get("inputSchema") or {}, dict),
    )
