"""Engines in a worker's memory: loaded once, dropped when something of theirs changes."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import msgspec

from freehold.kernel.errors import NotFound
from freehold.services.policy.model import ENGINE, POLICY, EngineRow

_KEPT_MAX = 500

Key = tuple[str, str]
"""The tenant, and the engine's id."""


class Rows(Protocol):
    async def load(self, tenant: str, engine_id: str) -> EngineRow: ...


class _Kept(msgspec.Struct):
    row: EngineRow
    fresh: bool = True


class LoadedEngines:
    """Implements `ports.Engines`. A row is the same object for as long as the engine is the same.
    That there is no such engine is not kept: somebody may just be making it."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._kept: OrderedDict[Key, _Kept] = OrderedDict()
        self._loading: dict[Key, asyncio.Task[EngineRow | None]] = {}
        self._changes = 0
        self.changed: list[Callable[[str, str], None]] = []
        """Each is told the tenant and the engine's id; "" and "" where any may have changed."""

    async def load(self, tenant: str, engine_arn: str) -> EngineRow | None:
        key = tenant, engine_arn.rpartition("/")[2]
        kept = self._kept.get(key)
        if kept is not None and kept.fresh:
            return kept.row if kept.row.arn == engine_arn else None
        asked = tenant, engine_arn
        task = self._loading.get(asked)
        if task is None:
            task = asyncio.create_task(self._load(key, engine_arn))
            self._loading[asked] = task
            task.add_done_callback(lambda _: self._loading.pop(asked, None))
        return await asyncio.shield(task)

    def heard_change(self, payload: str) -> None:
        """Of the resources' channel: "{tenant}/{kind}/{id}", a policy's with its engine before."""
        if not payload:
            self._drop(None)
            return
        tenant, kind, *path = payload.split("/")
        if kind in (ENGINE.name, POLICY.name):
            self._drop((tenant, path[0]))

    def heard_policies(self, payload: str) -> None:
        """Of our own: "{tenant}/{engine_id}", or anything may have changed ("")."""
        tenant, _, engine_id = payload.partition("/")
        self._drop((tenant, engine_id) if payload else None)

    def _drop(self, key: Key | None) -> None:
        self._changes += 1
        for kept in self._kept.values() if key is None else filter(None, [self._kept.get(key)]):
            kept.fresh = False
        for told in self.changed:
            told(*(key or ("", "")))

    async def _load(self, key: Key, engine_arn: str) -> EngineRow | None:
        tenant, engine_id = key
        while True:
            changes = self._changes
            try:
                row = await self._rows.load(tenant, engine_id)
            except NotFound:
                self._kept.pop(key, None)
                return None
            if row.arn != engine_arn:
                return None
            if changes == self._changes:
                break
        before = self._kept.get(key)
        if before is not None and _same(before.row, row):
            row = before.row
        self._kept[key] = _Kept(row)
        self._kept.move_to_end(key)
        if len(self._kept) > _KEPT_MAX:
            self._kept.popitem(last=False)
        return row


def _same(one: EngineRow, other: EngineRow) -> bool:
    return (one.arn, one.name, one.version) == (other.arn, other.name, other.version)
