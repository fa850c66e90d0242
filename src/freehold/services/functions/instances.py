"""Which session of a function's runtime gets the next event.

An instance gets one event at a time, as Lambda's do. The one that was used last comes first, so
that the others go idle, freeze and end by themselves. Each worker has instances of its own, and no
function, and so no tenant, ever sees those of another: the pool is of one function's version.
"""

import asyncio
import contextlib
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator

POOLS_MAX = 10_000


class Leased:
    """An instance, while it has an event. `gone`: it is not to be used again."""

    def __init__(self, session_id: str) -> None:
        self.session_id, self.gone = session_id, False


class InstancePool:
    def __init__(self, instances_max: int) -> None:
        self._free: list[str] = []
        self._room = asyncio.Semaphore(instances_max)
        self.leased = 0

    @contextlib.asynccontextmanager
    async def lease(self) -> AsyncIterator[Leased]:
        """Waits while all have an event: bound it."""
        async with self._room:
            lease = Leased(self._free.pop() if self._free else f"function-{uuid.uuid4()}")
            self.leased += 1
            try:
                yield lease
            except BaseException:
                lease.gone = True  # whether its event still runs, nobody knows
                raise
            finally:
                self.leased -= 1
                if not lease.gone:
                    self._free.append(lease.session_id)


class InstancePools:
    def __init__(self, *, instances_max: int) -> None:
        """`instances_max`: of one function in this worker."""
        self._instances_max = instances_max
        self._pools: OrderedDict[tuple[str, str, int], InstancePool] = OrderedDict()

    def of(self, tenant: str, runtime_id: str, version: int) -> InstancePool:
        key = (tenant, runtime_id, version)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = InstancePool(self._instances_max)
            self._make_room()
        else:
            self._pools.move_to_end(key)
        return pool

    def _make_room(self) -> None:
        """Sessions of a pool that is forgotten go idle, and end."""
        for key in list(self._pools)[: max(0, len(self._pools) - POOLS_MAX)]:
            if not self._pools[key].leased:
                del self._pools[key]
