"""What a caller is shown of a gateway: tools, resources, templates and prompts."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from freehold.kernel.errors import FreeholdError
from freehold.ports.targets import (
    Definition,
    Json,
    Kind,
    Place,
    RpcRefused,
    TargetClient,
    TargetFailed,
)
from freehold.services.gateway import results
from freehold.services.gateway.approvals import Fresh
from freehold.services.gateway.calls import INVALID_PARAMS, Asking, Governing, ToolCalls, owner_of
from freehold.services.gateway.catalog import Behind, Catalog, Offer, offer, search_listed
from freehold.services.gateway.invisible import skeleton
from freehold.services.gateway.model import SEARCH_TOOL
from freehold.services.gateway.ports import ConsentNeeded

log = logging.getLogger("freehold.gateway")

PAGE_SIZE = 1000
# A list is answered in time, whoever else is not.
_DESCRIBE_SECONDS = 5.0
_KEPT_SECONDS = 60.0
_FAILED_SECONDS = 5.0
_KEPT_MAX = 2000

MEMBERS: Mapping[str, tuple[Kind, str]] = {
    "tools/list": ("tool", "tools"),
    "resources/list": ("resource", "resources"),
    "resources/templates/list": ("resource_template", "resourceTemplates"),
    "prompts/list": ("prompt", "prompts"),
}


class Pins(Protocol):
    async def compare(self, place: Place, definitions: Sequence[Definition]) -> Fresh:
        """What of a fresh list is not what was approved, and why: it stays hidden."""


class _Fresh(msgspec.Struct, frozen=True, kw_only=True):
    """What a DYNAMIC target last said to one owner, or why it said nothing."""

    offers: tuple[Offer, ...] = ()
    why: str = ""
    until: float


class Lists:
    """`clients` by the kind of target. What DYNAMIC targets offer is asked with each caller's own
    credential, and kept for that caller a minute."""

    def __init__(
        self,
        *,
        clients: Mapping[str, TargetClient],
        calls: ToolCalls,
        governing: Governing,
        pins: Pins,
    ) -> None:
        self._clients, self._calls = clients, calls
        self._governing, self._pins = governing, pins
        self._fresh: OrderedDict[tuple[str, str, str], _Fresh] = OrderedDict()
        self._asked: dict[tuple[str, str, str], asyncio.Task[_Fresh]] = {}

    async def page(self, asking: Asking) -> Json:
        kind, member = MEMBERS[asking.message.method]
        fresh, unavailable = await self._dynamic(asking, kind)
        shown = await self.usable(asking, kind, [*asking.catalog.offers(kind), *fresh])
        start = _start(shown, asking.message.params.get("cursor"))
        size = PAGE_SIZE if asking.catalog.pages else len(shown)
        part = shown[start : start + size]
        listed = [each.listed for each in part]
        if kind == "tool" and asking.catalog.searches and start == 0:
            listed.insert(0, search_listed())
        answer: Json = {member: listed}
        if start + size < len(shown):
            answer["nextCursor"] = part[-1].name
        unavailable = [*asking.catalog.unavailable(), *unavailable]
        if unavailable:
            answer["_meta"] = {results.UNAVAILABLE: unavailable}
        return answer

    async def usable(self, asking: Asking, kind: Kind, offers: Sequence[Offer]) -> list[Offer]:
        if kind != "tool":
            return [each for each in offers if not each.quarantined]
        may_use = await self._governing.may_use(asking.catalog, asking.request)
        return [each for each in offers if not each.quarantined and may_use(each.name)]

    async def find(self, asking: Asking, kind: Kind, name: str) -> Offer | None:
        """Stored, or else of a DYNAMIC target."""
        found = asking.catalog.find(kind, name)
        if found is not None or not asking.catalog.dynamic:
            return found
        fresh, _ = await self._dynamic(asking, kind, name=name)
        return next((each for each in fresh if each.name == name), None)

    def forget(self, gateway_id: str) -> None:
        for key in [key for key in self._fresh if not gateway_id or key[0] == gateway_id]:
            del self._fresh[key]

    # -- targets that are asked each time

    async def _dynamic(
        self, asking: Asking, kind: Kind, *, name: str = ""
    ) -> tuple[list[Offer], list[Json]]:
        wanted = asking.catalog.dynamic
        if name and asking.catalog.naming == "prefixed" and kind in ("tool", "prompt"):
            wanted = [behind for behind in wanted if name.startswith(behind.name)]
        found = await asyncio.gather(*(self._of(asking, behind) for behind in wanted))
        fresh_offers = [o for fresh in found for o in fresh.offers if o.definition.kind == kind]
        offers = _unshadowed(asking.catalog, kind, fresh_offers)
        unavailable: list[Json] = [
            {"target": behind.name, "status": "UNAVAILABLE", "why": fresh.why}
            for behind, fresh in zip(wanted, found, strict=True)
            if fresh.why
        ]
        return offers, unavailable

    async def _of(self, asking: Asking, behind: Behind) -> _Fresh:
        key = (behind.place.gateway_id, behind.place.target_id, owner_of(asking.request))
        kept = self._fresh.get(key)
        if kept is not None and kept.until > time.monotonic():
            return kept
        task = self._asked.get(key)
        if task is None:
            task = asyncio.create_task(self._ask(asking, behind))
            self._asked[key] = task
            task.add_done_callback(lambda _: self._asked.pop(key, None))
        fresh = await asyncio.shield(task)
        self._fresh[key] = fresh
        self._fresh.move_to_end(key)
        if len(self._fresh) > _KEPT_MAX:
            self._fresh.popitem(last=False)
        return fresh

    async def _ask(self, asking: Asking, behind: Behind) -> _Fresh:
        why = ""
        try:
            async with asyncio.timeout(_DESCRIBE_SECONDS):
                errand = await self._calls.errand(asking, behind, _DESCRIBE_SECONDS)
                described = await self._clients[behind.place.kind].describe(behind.place, errand)
                fresh = await self._pins.compare(behind.place, described.definitions)
        except TimeoutError:
            why = f"no answer within {_DESCRIBE_SECONDS:g} seconds"
        except ConsentNeeded:
            why = "needs the caller's consent: call one of its tools to be led there"
        except TargetFailed as error:
            why = error.message
        except RpcRefused as error:
            why = f"it refused to list: {error.message}"
        except FreeholdError as error:
            why = error.message
        if why:
            log.info("gateway target %s lists nothing: %s", behind.place.target_id, why)
            return _Fresh(why=why, until=time.monotonic() + _FAILED_SECONDS)
        naming = asking.catalog.naming
        offers = [
            offer(behind, each, naming, fresh.hidden.get((each.kind, each.name), ""))
            for each in fresh.definitions
        ]
        return _Fresh(offers=tuple(offers), until=time.monotonic() + _KEPT_SECONDS)


def _unshadowed(catalog: Catalog, kind: Kind, offers: list[Offer]) -> list[Offer]:
    """Without those whose names would be taken for another's: what is stored was there first, and
    of two targets that are asked each time the older."""
    if kind not in catalog.names_taken:
        return offers
    taken, kept = set(catalog.names_taken[kind]), []
    for each in offers:
        reads = skeleton(each.name)
        if reads not in taken:
            taken.add(reads)
            kept.append(each)
    return kept


def _start(shown: Sequence[Offer], cursor: object) -> int:
    """A cursor is the last name that was shown."""
    if cursor is None:
        return 0
    for index, each in enumerate(shown):
        if each.name == cursor:
            return index + 1
    raise RpcRefused(INVALID_PARAMS, "cursor: not one of this list; it may have changed since")


def is_search(asking: Asking, name: str) -> bool:
    return asking.catalog.searches and name == SEARCH_TOOL
