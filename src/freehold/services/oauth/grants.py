"""Tokens that are there, or are fetched: once, however many ask for one in however many workers.

Whoever fetches first writes that it does, with an end to it, and holds no lock and no connection
meanwhile; the others wait for a notification. A refresh token that the provider replaced is durable
before its access token is handed out. When the process dies in between, the end of its time lets
another try the old refresh token: where the provider has used that one up, the person is asked.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime

import msgspec

from freehold.kernel import clock, ids
from freehold.kernel.errors import Unavailable
from freehold.ports.database import Database
from freehold.ports.oauth import OauthRefused, OauthUnavailable, Tokens
from freehold.ports.secrets import SealBroken, TenantSealer
from freehold.services.oauth import store
from freehold.services.oauth.model import RENEWAL_SECONDS, Flow, Grant, GrantKey, Held

log = logging.getLogger("freehold.oauth")

Fetch = Callable[[str | None], Awaitable[Tokens]]
"""Given the refresh token, where there is one."""

_CACHED_MAX = 10_000
_CACHED_SECONDS_MAX = 60.0
_WAIT_SECONDS_MAX = 60.0
_STORE_AGAIN_SECONDS = 0.3
_SWEEP_EVERY_SECONDS = 600.0
# What providers say of a refresh token that is no good any more; the first is the standard's word.
_GONE = frozenset(
    [
        "invalid_grant", "interaction_required", "consent_required", "login_required",
        "bad_refresh_token", "invalid_refresh_token", "token_expired", "token_revoked",
    ]
)  # fmt: skip


class Grants:
    """One a worker. `close` lets renewals that are under way end."""

    def __init__(
        self,
        database: Database,
        sealer: TenantSealer,
        *,
        now: Callable[[], datetime] = clock.now,
        renewal_seconds: float = RENEWAL_SECONDS,
    ) -> None:
        self._database, self._sealer, self._now = database, sealer, now
        self._renewal_seconds = renewal_seconds
        self._cache: dict[str, tuple[float, Grant]] = {}
        self._changes = 0
        self._under_way: dict[str, asyncio.Task[Grant | None]] = {}
        self._waiting: dict[str, asyncio.Event] = {}
        self._swept_at = time.monotonic()
        database.listen(store.CHANNEL, self._heard)

    async def close(self) -> None:
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    async def get(self, key: GrantKey, fetch: Fetch) -> str | None:
        """An access token that is good for now; None: a person has to agree first.

        Raises OauthRefused, OauthUnavailable, Unavailable.
        """
        kept = self.at_hand(key)
        if kept is not None:
            return kept
        task = self._under_way.get(key.id)
        if task is None:
            # A task of its own: whoever asked may go away, the renewal must not.
            task = asyncio.create_task(self._find(key, fetch), name="oauth grant")
            self._under_way[key.id] = task
            task.add_done_callback(lambda done: self._found(key.id, done))
        grant = await asyncio.shield(task)
        return grant.access_token if grant is not None else None

    def at_hand(self, key: GrantKey) -> str | None:
        """An access token that needs no looking for. None says nothing."""
        kept = self._cache.get(key.id)
        if kept is not None and kept[0] > time.monotonic() and kept[1].fresh(self._now()):
            return kept[1].access_token
        return None

    async def put(self, key: GrantKey, tokens: Tokens) -> None:
        """A person agreed: in place of whatever there was."""
        grant = Grant.of(tokens, self._now(), flow=key.flow)
        for _ in range(5):
            async with self._database.transaction() as connection:
                version = await store.locked_version(connection, key.tenant, key.id) + 1
                sealed = await self._seal(key, grant, version)
                put = await store.put(connection, key, grant, version=version, sealed=sealed)
            if put:
                self._forget(key.id)
                return
        raise Unavailable("the grant could not be stored; try again shortly")

    async def drop(self, tenant: str, id: str) -> bool:
        """Whether there was one."""
        async with self._database.connection() as connection:
            dropped = await store.drop(connection, tenant, id)
        self._forget(id)  # others hear of it; for us it is true from now on
        return dropped

    async def drop_of_provider(self, tenant: str, provider: str) -> None:
        async with self._database.connection() as connection:
            dropped = await store.drop_of_provider(connection, tenant, provider)
        for id in dropped:
            self._forget(id)

    async def drop_of_workload(self, tenant: str, workload: str) -> None:
        async with self._database.connection() as connection:
            dropped = await store.drop_of_workload(connection, tenant, workload)
        for id in dropped:
            self._forget(id)

    def _found(self, id: str, done: asyncio.Task[Grant | None]) -> None:
        self._under_way.pop(id, None)
        if not done.cancelled():
            done.exception()  # seen, whether or not somebody still waits

    async def _find(self, key: GrantKey, fetch: Fetch) -> Grant | None:
        give_up = time.monotonic() + _WAIT_SECONDS_MAX
        federated = key.flow is Flow.USER_FEDERATION
        while time.monotonic() < give_up:
            with self._hearing(key.id) as changed:
                held, grant = await self._load(key)
                now = self._now()
                if grant is not None and grant.fresh(now):
                    return grant
                if federated and (grant is None or grant.refresh_token is None):
                    return grant if grant is not None and grant.valid(now) else None
                if held is not None and held.renewal and held.renewal_left_seconds > 0:
                    if grant is not None and grant.valid(now):
                        return grant
                    await _wait(changed, held.renewal_left_seconds)
                    continue
                renewal = ids.random_text(20)
                if await self._claim(key, held, renewal):
                    done, grant = await self._renew(key, held, grant, renewal, fetch)
                    if done:
                        return grant
        raise Unavailable("the token is still being fetched; try again shortly")

    async def _load(self, key: GrantKey) -> tuple[Held | None, Grant | None]:
        changes = self._changes
        async with self._database.connection() as connection:
            held = await store.load(connection, key.tenant, key.id)
        if held is None or held.sealed is None:
            return held, None
        grant = await self._open(key, held.sealed, held.version)
        if changes == self._changes and grant.fresh(self._now()):
            if len(self._cache) >= _CACHED_MAX:
                del self._cache[next(iter(self._cache))]
            self._cache[key.id] = (time.monotonic() + _CACHED_SECONDS_MAX, grant)
        return held, grant

    async def _claim(self, key: GrantKey, held: Held | None, renewal: str) -> bool:
        seconds = self._renewal_seconds
        async with self._database.connection() as connection:
            if time.monotonic() - self._swept_at > _SWEEP_EVERY_SECONDS:
                self._swept_at = time.monotonic()
                await store.sweep(connection)
            return await store.claim(connection, key, held, renewal=renewal, seconds=seconds)

    async def _renew(
        self, key: GrantKey, held: Held | None, grant: Grant | None, renewal: str, fetch: Fetch
    ) -> tuple[bool, Grant | None]:
        """(False, ...): something else happened to the grant meanwhile; look again."""
        give_up = time.monotonic() + self._renewal_seconds
        earlier = grant.refresh_token if grant is not None else None
        try:
            async with asyncio.timeout(self._renewal_seconds):
                tokens = await fetch(earlier)
        except (OauthRefused, OauthUnavailable, TimeoutError) as error:
            return True, await self._not_renewed(key, grant, renewal, error)
        except BaseException:
            await self._release(key, renewal)
            raise
        new = Grant.of(tokens, self._now(), flow=key.flow, earlier=earlier)
        version = (held.version if held is not None else 0) + 1
        return await self._store(key, new, version, renewal, give_up), new

    async def _not_renewed(
        self, key: GrantKey, grant: Grant | None, renewal: str, error: Exception
    ) -> Grant | None:
        federated = key.flow is Flow.USER_FEDERATION
        if federated and isinstance(error, OauthRefused) and error.error in _GONE:
            # Revoked, over, or replaced by a process that died before it could store the new one.
            log.warning("a grant of provider %s is over: %s", key.provider, error)
            async with self._database.connection() as connection:
                await store.drop(connection, key.tenant, key.id, renewal=renewal)
            return None
        await self._release(key, renewal)
        if grant is not None and grant.valid(self._now()):
            return grant
        if isinstance(error, TimeoutError):
            raise OauthUnavailable("the provider did not answer in time") from error
        raise error

    async def _release(self, key: GrantKey, renewal: str) -> None:
        # Not done, it ends by itself.
        with contextlib.suppress(Unavailable):
            async with self._database.connection() as connection:
                await store.release(connection, key, renewal=renewal)

    async def _store(
        self, key: GrantKey, grant: Grant, version: int, renewal: str, give_up: float
    ) -> bool:
        """Tries while the renewal is ours: what is lost here, only a person can bring back."""
        while True:
            try:
                sealed = await self._seal(key, grant, version)
                async with self._database.connection() as connection:
                    return await store.store(
                        connection, key, grant, version=version, sealed=sealed, renewal=renewal
                    )
            except Unavailable:
                if time.monotonic() + _STORE_AGAIN_SECONDS > give_up:
                    log.error("a renewed grant of provider %s is not stored", key.provider)
                    raise
            await asyncio.sleep(_STORE_AGAIN_SECONDS)

    async def _seal(self, key: GrantKey, grant: Grant, version: int) -> bytes:
        plain = msgspec.json.encode(grant)
        return await self._sealer.seal(key.tenant, plain, context=_context(key, version))

    async def _open(self, key: GrantKey, sealed: bytes, version: int) -> Grant:
        try:
            plain = await self._sealer.open(key.tenant, sealed, context=_context(key, version))
        except SealBroken as error:
            log.error("a grant of provider %s cannot be opened: %s", key.provider, error)
            raise Unavailable("the stored grant cannot be opened") from error
        return msgspec.json.decode(plain, type=Grant)

    def _heard(self, id: str) -> None:
        if id:
            self._forget(id)
            return
        self._changes += 1
        self._cache.clear()
        for changed in self._waiting.values():
            changed.set()

    def _forget(self, id: str) -> None:
        self._changes += 1
        self._cache.pop(id, None)
        if (changed := self._waiting.get(id)) is not None:
            changed.set()

    @contextlib.contextmanager
    def _hearing(self, id: str) -> Iterator[asyncio.Event]:
        """Set by a change of the grant from here on. One `_find` a grant: one event."""
        changed = self._waiting[id] = asyncio.Event()
        try:
            yield changed
        finally:
            del self._waiting[id]


def _context(key: GrantKey, version: int) -> str:
    return f"oauth_grant|{key.id}|{version}"


async def _wait(changed: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds + 0.05):
            await changed.wait()
