"""What is ready before anybody asks: templates of agent versions, and started sandboxes that wait.

A version that is used gets a template, from which sessions start in milliseconds. One that cannot
have a template gets a started sandbox that waits. An endpoint may want some to wait in any case.
All of it goes when nobody used it for a while, and the least recently used goes first when it
takes more memory than warmth may.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

import msgspec

from freehold.adapters.placement.local.probe import Health
from freehold.adapters.placement.local.session import EndedWhileStarting, LiveSession
from freehold.adapters.placement.local.starter import Starter
from freehold.adapters.placement.local.tiers import ended
from freehold.adapters.placement.local.version import (
    ANY_ENDPOINT,
    FAILURES_MAX,
    MISSES_MAX,
    Version,
    fingerprint,
    waiting_key,
)
from freehold.kernel.errors import FreeholdError
from freehold.ports.placement import KeptWarm, Launch
from freehold.ports.sandbox import Template

log = logging.getLogger(__name__)

_AT_ONCE = 2
_PAUSE_SECONDS = 0.3
"""Before anything is made ahead: whoever just came needs the processors first."""
_TEMPLATE_BYTES_GUESSED = 64 << 20
_NO_WARMTH = frozenset({"process"})
"""Tiers whose agents share the host's ports: one that waits could take another's."""


class WarmthLimits(msgspec.Struct, frozen=True, kw_only=True):
    """`bytes_max` 0: nothing is kept warm. `idle_seconds`: of a version that nobody uses.
    `freezes`: what waits stands still.
    """

    bytes_max: int
    idle_seconds: float
    freezes: bool


class Warmth:
    def __init__(self, starter: Starter, limits: WarmthLimits) -> None:
        self._starter, self._limits = starter, limits
        self._versions: dict[str, Version] = {}
        self._tending: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._mourners: set[asyncio.Task[None]] = set()
        self._clearing: set[asyncio.Task[None]] = set()
        self._comings: dict[str, asyncio.Task[None]] = {}
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._closing = False

    async def close(self) -> None:
        self._closing = True
        for timer in self._timers.values():
            timer.cancel()
        await ended({*self._tending.values(), *self._comings.values(), *self._mourners})
        doomed = [s for version in self._versions.values() for s in version.take_memory()]
        await asyncio.gather(*(self._starter.discard(session) for session in doomed))
        if self._clearing:  # to the end: what is half cleared away now, nobody knows of later
            await asyncio.wait(self._clearing)

    # -- used by sessions that start

    def taken(self, launch: Launch) -> LiveSession | None:
        """A sandbox that waited for such a session, which it is from now on."""
        found = self._find(launch)
        if found is None:
            return None
        name, version = found
        session = version.taken(launch.key.endpoint)
        if session is None:
            return None
        if (coming := self._comings.pop(session.sandbox_id, None)) is not None:
            coming.cancel()
        session.assign(launch)
        session.start_note = version.unfit
        version.failures = 0
        self._used(name, version)
        return session

    def template(self, launch: Launch) -> tuple[Template | None, str]:
        """What to start from; without one, why."""
        found = self._find(launch)
        if found is None:
            return None, ""
        version = found[1]
        return version.template, version.unfit

    def started(self, launch: Launch, session: LiveSession) -> None:
        """A session of it is there, and others may follow."""
        if not self._keeps(launch):
            return
        name = fingerprint(launch, self._starter.tiers.default)
        version = self._versions.get(name)
        if version is None:
            version = self._versions[name] = self._new(launch)
        if version.template is not None and session.start == "cold" and session.start_note:
            self._missed(version, session.start_note)
        elif session.start in ("forked", "restored"):
            version.misses = 0
        # It can come up: what failed to in advance is tried once more.
        version.failures = min(version.failures, FAILURES_MAX - 1)
        self._used(name, version)

    def _missed(self, version: Version, because: str) -> None:
        version.misses += 1
        assert version.template is not None
        if version.template.state != "ready":
            self._drop_template(version)  # and another is made
        elif version.misses >= MISSES_MAX:
            self._drop_template(version)
            self._give_up_template(version, because)

    # -- asked for

    def keep(self, wanted: list[KeptWarm]) -> None:
        """The sandboxes that endpoints want to wait: all of them, in place of what was."""
        asked: dict[str, dict[str, int]] = {}
        for each in wanted:
            if not self._keeps(each.launch):
                continue
            name = fingerprint(each.launch, self._starter.tiers.default)
            if name not in self._versions:
                self._versions[name] = self._new(each.launch)
                self._watch_idle(name, self._limits.idle_seconds)
            asked.setdefault(name, {})[each.launch.key.endpoint] = each.count
        for name, version in list(self._versions.items()):
            own = {ANY_ENDPOINT: version.wanted.get(ANY_ENDPOINT, 0)}
            wishes = {**own, **asked.get(name, {})}
            if wishes != {**own, **version.wanted}:
                version.wanted, version.failures = wishes, 0
                self._tend(name)
            if not version.is_wanted and name not in self._timers:
                self._watch_idle(name, 0)

    def forget_runtime(self, tenant: str, runtime_id: str) -> None:
        for name, version in list(self._versions.items()):
            key = version.launch.key
            if (key.tenant, key.runtime_id) == (tenant, runtime_id):
                del self._versions[name]
                self._cool(version)
        self._tend_lacking()

    # -- in the background

    def _keeps(self, launch: Launch) -> bool:
        tier = launch.tier or self._starter.tiers.default
        return self._limits.bytes_max > 0 and tier not in _NO_WARMTH and not self._closing

    def _new(self, launch: Launch) -> Version:
        alike = msgspec.structs.replace(launch, key=waiting_key(launch, ANY_ENDPOINT), user=None)
        return Version(alike, asyncio.get_running_loop().time())

    def _find(self, launch: Launch) -> tuple[str, Version] | None:
        name = fingerprint(launch, self._starter.tiers.default)
        version = self._versions.get(name)
        return None if version is None else (name, version)

    def _used(self, name: str, version: Version) -> None:
        version.used_at = asyncio.get_running_loop().time()
        if version.unfit:
            version.wanted[ANY_ENDPOINT] = 1
        if name not in self._timers:
            self._watch_idle(name, self._limits.idle_seconds)
        self._tend(name)

    def _watch_idle(self, name: str, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._timers[name] = loop.call_later(seconds, self._perhaps_idle, name)

    def _perhaps_idle(self, name: str) -> None:
        """Nothing of a version is left that nobody used for long, but what an endpoint wants."""
        del self._timers[name]
        version = self._versions.get(name)
        if version is None:
            return
        left = version.used_at + self._limits.idle_seconds - asyncio.get_running_loop().time()
        if left > 0:
            self._watch_idle(name, left)
            return
        log.info("nobody used %s for a while: it is kept warm no more", _named(version))
        self._drop_template(version)
        version.wanted[ANY_ENDPOINT] = 0
        if version.is_wanted:
            self._shed(version.surplus(), version)
        else:
            del self._versions[name]
            self._cool(version)
        self._tend_lacking()

    def _tend_lacking(self) -> None:
        """There may be room now for what an endpoint wants."""
        for name, version in self._versions.items():
            if version.lacking() is not None:
                self._tend(name)

    def _tend(self, name: str) -> None:
        """One task a version makes what is lacking; what is asked meanwhile it sees."""
        if self._closing:
            return
        if name in self._tending:
            self._again.add(name)
            return
        task = asyncio.create_task(self._tended(name))
        self._tending[name] = task
        task.add_done_callback(lambda done: self._tended_once(name, done))

    def _tended_once(self, name: str, task: "asyncio.Task[None]") -> None:
        del self._tending[name]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("nothing could be kept warm", exc_info=error)
        elif name in self._again:
            self._again.discard(name)
            self._tend(name)

    async def _tended(self, name: str) -> None:
        await asyncio.sleep(_PAUSE_SECONDS)
        version = self._versions.get(name)
        if version is None:
            return
        self._shed(version.surplus(), version)
        if version.template is None and not version.unfit and self._is_recent(version):
            async with self._places:
                if self._versions.get(name) is version:
                    await self._prepare(name, version)
        while self._versions.get(name) is version and version.lacking() is not None:
            async with self._places:
                endpoint = version.lacking()
                if self._versions.get(name) is not version or endpoint is None:
                    return  # deleted, or wanted no more, while others came first
                if not self._has_room(version, version.next_bytes):
                    log.warning("no memory is left to keep %s warm", _named(version))
                    return
                await self._warm_up(name, version, endpoint)

    def _is_recent(self, version: Version) -> bool:
        age = asyncio.get_running_loop().time() - version.used_at
        return age < self._limits.idle_seconds

    async def _prepare(self, name: str, version: Version) -> None:
        if not self._has_room(version, _TEMPLATE_BYTES_GUESSED):
            return
        try:
            made = await self._starter.prepared(version.launch)
        except (FreeholdError, OSError) as error:
            made = str(error)
        if isinstance(made, str):
            self._give_up_template(version, made)
            return
        if self._versions.get(name) is not version:  # deleted meanwhile
            await self._starter.close_template(made)
            return
        version.template, version.misses = made, 0
        version.template_bytes = made.usage().memory_peak_bytes or 0
        if name not in self._timers:
            self._watch_idle(name, self._limits.idle_seconds)
        if not self._has_room(version, 0):
            self._drop_template(version)
            self._give_up_template(version, "its template takes more memory than warmth may")

    def _give_up_template(self, version: Version, because: str) -> None:
        version.unfit = f"no template: {because}"
        if self._is_recent(version):
            version.wanted[ANY_ENDPOINT] = 1
        log.warning("%s starts from no template (%s): one waits instead", _named(version), because)

    async def _warm_up(self, name: str, version: Version, endpoint: str) -> None:
        key = waiting_key(version.launch, endpoint)
        launch = msgspec.structs.replace(version.launch, key=key)
        session = self._starter.session(launch)
        version.waiting.append(session)
        coming = asyncio.create_task(self._come_up(session, launch, version))
        self._comings[session.sandbox_id] = coming
        await asyncio.wait([coming])
        self._comings.pop(session.sandbox_id, None)
        if coming.cancelled():
            return  # it was given to somebody before it was up, or we end
        if (error := coming.exception()) is None:
            assert session.sandbox is not None
            _spawn(self._mourners, self._mourn(name, version, session))
            return
        if isinstance(error, EndedWhileStarting) and session.start in ("forked", "restored"):
            self._drop_template(version)
            self._give_up_template(version, f"what came from it ended at once: {error.after}")
        else:
            version.failures += 1
        if not isinstance(error, FreeholdError | OSError):
            log.error("a sandbox of %s could not be kept warm", _named(version), exc_info=error)
        else:
            said = str(error).partition("\n")[0]
            log.warning("a sandbox of %s did not come up: %s", _named(version), said)
        if session in version.waiting:
            self._shed([session], version)

    async def _come_up(self, session: LiveSession, launch: Launch, version: Version) -> None:
        self._starter.begin(session, launch)
        await self._starter.start(session, version.template, version.unfit)
        await self._starter.until_ready(session)
        assert session.sandbox is not None
        version.bytes_each = session.sandbox.usage().memory_peak_bytes or 0
        if self._limits.freezes and await session.ping() is not Health.BUSY:
            await session.freeze()

    async def _mourn(self, name: str, version: Version, session: LiveSession) -> None:
        """One that ends while it waits gives its place to another."""
        assert session.sandbox is not None
        await session.sandbox.wait()
        if session in version.waiting:
            version.failures += 1
            self._shed([session], version)
            if version.failures >= FAILURES_MAX:
                log.warning("sandboxes of %s end while they wait", _named(version))
            self._tend(name)

    # -- room

    def _has_room(self, version: Version, more: int) -> bool:
        """Makes it, at the cost of what was used longer ago."""
        others = sorted(
            (v for v in self._versions.values() if v is not version and v.bytes),
            key=lambda v: (v.is_wanted, v.used_at),
        )
        while self._bytes() + more > self._limits.bytes_max:
            if not others or (others[0].is_wanted and not version.is_wanted):
                return False
            coldest = others.pop(0)
            log.info("%s makes room for %s", _named(coldest), _named(version))
            coldest.wanted[ANY_ENDPOINT] = 0
            self._cool(coldest)
        return True

    def _bytes(self) -> int:
        return sum(version.bytes for version in self._versions.values())

    def _cool(self, version: Version) -> None:
        self._drop_template(version)
        self._shed(version.take_memory(), version)

    def _drop_template(self, version: Version) -> None:
        template, version.template, version.template_bytes = version.template, None, 0
        if template is not None:
            _spawn(self._clearing, self._starter.close_template(template))

    def _shed(self, doomed: list[LiveSession], version: Version) -> None:
        for session in doomed:
            if session in version.waiting:
                version.waiting.remove(session)
            _spawn(self._clearing, self._discarded(session))

    async def _discarded(self, session: LiveSession) -> None:
        if (coming := self._comings.pop(session.sandbox_id, None)) is not None:
            coming.cancel()
            await asyncio.wait([coming])
        await self._starter.discard(session)


def _spawn(among: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(work)
    among.add(task)
    task.add_done_callback(among.discard)


def _named(version: Version) -> str:
    launch = version.launch
    return f"{launch.runtime_name} version {launch.version}"
