"""The keys that sign the platform's tokens: made, published, used, retired; on a schedule."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec
from joserfc.jwk import ECKey

from freehold.kernel import clock, ids
from freehold.kernel.errors import Unavailable
from freehold.ports.database import Connection, Database
from freehold.ports.secrets import SealBroken, Sealer
from freehold.services.identity import store
from freehold.services.identity.model import SigningKey

log = logging.getLogger("freehold.identity")

ALGORITHM = "ES256"
_CURVE = "P-256"
_RETRY_SECONDS = 5.0
_SLEEP_SECONDS_MAX = 6 * 3600.0  # the clock may be set, or the machine have slept
_UNKNOWN_COOLDOWN_SECONDS = 5.0


class KeySchedule(msgspec.Struct, frozen=True, kw_only=True):
    """A key signs for `rotation`. It is published `ahead` before that, and until `kept` after it:
    until the last token that it signed has expired, and clocks that differ agree on that."""

    rotation: timedelta = timedelta(days=30)
    ahead: timedelta = timedelta(days=1)
    kept: timedelta

    def due(self, keys: list[SigningKey], now: datetime) -> datetime:
        """When the next key is to be made."""
        return keys[-1].signs_from + self.rotation - self.ahead if keys else now

    def retired(self, keys: list[SigningKey], now: datetime) -> list[str]:
        return [key.id for key, next_key in pairwise(keys) if next_key.signs_from + self.kept < now]

    def wakes(self, keys: list[SigningKey], now: datetime) -> datetime:
        """When there is something to do, a key to make or one to retire."""
        ends = [next_key.signs_from + self.kept for _, next_key in pairwise(keys)]
        return min([self.due(keys, now), *ends])


class _Opened(msgspec.Struct, frozen=True):
    key: ECKey
    signs_from: datetime


class SigningKeys:
    """Every worker has one: any of them rotates when it is time, one at a time, all hear of it.

    While the store is away, what is known goes on signing and verifying.
    """

    def __init__(
        self,
        database: Database,
        sealer: Sealer,
        schedule: KeySchedule,
        *,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._database, self._sealer, self._schedule, self._now = database, sealer, schedule, now
        self._stored: list[SigningKey] = []
        self._opened: dict[str, _Opened] = {}
        self._platform_id = ""
        self._loading = asyncio.Lock()
        self._looked_at = float("-inf")
        self._news = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        database.listen(store.CHANNEL, self._heard)

    async def open(self) -> None:
        """There is a key to sign with once this returns."""
        await self.rotate_when_due()
        self._keeper = asyncio.create_task(self._keep_rotating(), name="signing keys")

    async def close(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None

    @property
    def platform_id(self) -> str:
        """What this platform and no other is called."""
        assert self._platform_id, "opened before use"
        return self._platform_id

    def signing(self) -> tuple[str, ECKey]:
        """(id, key) of the one that signs now."""
        now = self._now()
        current: tuple[str, ECKey] | None = None
        for key in self._stored:
            opened = self._opened.get(key.id)
            if opened is not None and (opened.signs_from <= now or current is None):
                current = (key.id, opened.key)
        if current is None:
            raise Unavailable("the platform has no key to sign with just now")
        return current

    async def verifying(self, id: str) -> ECKey | None:
        """A key that this worker does not know is looked for, but not for every forged token."""
        if id not in self._opened:
            async with self._loading:  # who comes while somebody looks waits for what they find
                now = time.monotonic()
                if id not in self._opened and now - self._looked_at > _UNKNOWN_COOLDOWN_SECONDS:
                    self._looked_at = now
                    await self._load()
        found = self._opened.get(id)
        return found.key if found is not None else None

    def published(self) -> list[dict[str, Any]]:
        """Public JWKs: the one that signs, its successor, and those whose tokens still live."""
        return [
            {**opened.key.as_dict(private=False), "kid": id, "use": "sig", "alg": ALGORITHM}
            for id, opened in self._opened.items()
        ]

    async def rotate_when_due(self) -> bool:
        """Whether a key was made or retired."""
        async with self._database.transaction() as connection:
            await store.lock(connection)
            self._platform_id = await store.platform_id(connection)
            before = await store.keys(connection)
            changed = await self._change(connection, before)
            after = await store.keys(connection) if changed else before
            if changed:
                await self._database.notify(connection, store.CHANNEL, after[-1].id)
        self._take(after)
        return changed

    async def _change(self, connection: Connection, keys: list[SigningKey]) -> bool:
        now = self._now()
        retired = self._schedule.retired(keys, now)
        if retired:
            await store.drop_keys(connection, retired)
        due = self._schedule.due(keys, now) <= now
        if due:
            # The very first signs at once: nobody could know of it before.
            new = self._new(now + self._schedule.ahead if keys else now)
            await store.add_key(connection, new)
            log.info("signing key %s signs from %s", new.id, new.signs_from)
        return due or bool(retired)

    def _new(self, signs_from: datetime) -> SigningKey:
        id = ids.random_text(22)
        private = ECKey.generate_key(_CURVE).as_dict(private=True)
        sealed = self._sealer.seal(msgspec.json.encode(private), context=_context(id))
        return SigningKey(id=id, sealed_private=sealed, signs_from=signs_from)

    async def _load(self) -> None:
        async with self._database.connection() as connection:
            self._take(await store.keys(connection))

    def _take(self, keys: list[SigningKey]) -> None:
        opened = {}
        for key in keys:
            known = self._opened.get(key.id)
            if known is not None:
                opened[key.id] = known
                continue
            try:
                private = self._sealer.open(key.sealed_private, context=_context(key.id))
            except SealBroken as error:
                log.error("signing key %s cannot be opened: %s", key.id, error)
                continue
            members = msgspec.json.decode(private, type=dict[str, str | list[str]])
            opened[key.id] = _Opened(ECKey.import_key(members), key.signs_from)
        self._stored, self._opened = keys, opened

    async def _heard(self, _: str) -> None:
        async with self._loading:
            await self._load()
        self._news.set()

    async def _keep_rotating(self) -> None:
        while True:
            now = self._now()
            pause = (self._schedule.wakes(self._stored, now) - now).total_seconds()
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(max(pause, 0.01), _SLEEP_SECONDS_MAX)):
                    await self._news.wait()
                    continue
            try:
                await self.rotate_when_due()
            except Exception as error:  # the boundary: a keeper that ended would be missed late
                away = isinstance(error, Unavailable)
                log.warning("signing keys are not rotated just now", exc_info=not away)
                await asyncio.sleep(_RETRY_SECONDS)


def _context(id: str) -> str:
    return f"platform|signing_key|{id}"
