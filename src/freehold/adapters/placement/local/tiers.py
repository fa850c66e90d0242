"""The sandbox tiers of this node: which of them work here, and which one a session gets."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping

from freehold.kernel.errors import FreeholdError, PlatformFailed
from freehold.ports.sandbox import Probe, SandboxDriver

log = logging.getLogger(__name__)


class Tiers:
    """`drivers` are those that the operator allows. The default one was tried before we came."""

    def __init__(self, drivers: Mapping[str, SandboxDriver], *, default: str) -> None:
        self.drivers = drivers
        self.default = default
        self._probes: dict[str, asyncio.Task[Probe]] = {}

    def open(self) -> None:
        """Tries the others, all at once; who asks for one meanwhile waits for the outcome."""
        for name in self.drivers.keys() - {self.default}:
            self._probes[name] = asyncio.create_task(_probed(self.drivers[name]))

    async def close(self) -> None:
        for probe in self._probes.values():
            probe.cancel()
        await asyncio.gather(*self._probes.values(), return_exceptions=True)
        for driver in self.drivers.values():
            await driver.close()

    async def driver(self, tier: str) -> SandboxDriver:
        """Raises PlatformFailed, with what is missing: nobody gets less than was asked for."""
        driver = self.drivers.get(tier)
        if driver is None:
            allowed = ", ".join(sorted(self.drivers))
            raise PlatformFailed(f"tier {tier} is not allowed on this platform; it has {allowed}")
        if probing := self._probes.get(tier):
            probe = await asyncio.shield(probing)
            if not probe.available:
                raise PlatformFailed(f"tier {tier} is not available here: {probe.detail}")
        return driver


async def _probed(driver: SandboxDriver) -> Probe:
    try:
        return await driver.probe()
    except (FreeholdError, OSError) as error:
        log.exception("tier %s could not be tried", driver.tier)
        return Probe(False, str(error))


async def ended(tasks: set["asyncio.Task[None]"]) -> None:
    """Cancels them all, and waits until they have cleared up."""
    for task in list(tasks):
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks, return_exceptions=True)
