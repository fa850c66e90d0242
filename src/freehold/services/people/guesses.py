"""How often a password or a code may be guessed, counted in the database for all workers."""

import ipaddress
from collections.abc import Callable
from datetime import datetime, timedelta

from freehold.kernel.errors import Throttled
from freehold.ports.database import Database
from freehold.services.people import sign_in_store
from freehold.services.people.model import sha256

WINDOW = timedelta(minutes=15)
OF_ONE_FROM_ONE_MAX = 5
"""Guesses at one name from one address in a window."""
OF_ONE_MAX = 50
FROM_ONE_MAX = 50
CODES_OF_ONE_MAX = 10
DEVICES_FROM_ONE_MAX = 200


class Guesses:
    """A guess is counted before it is judged, so that many at once are as many as one by one."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now

    async def at_password(self, tenant: str, name: str, source: str) -> None:
        """Raises Throttled. The address is first: made up names leave no rows without end."""
        await self._take(tenant, f"source|{_network(source)}", FROM_ONE_MAX)
        await self._take(tenant, _pair(name, source), OF_ONE_FROM_ONE_MAX)
        await self._take(tenant, f"name|{name.lower()}", OF_ONE_MAX)

    async def password_was_right(self, name: str, source: str) -> None:
        """Takes this one back, and no more from the address: it must not buy guesses at others."""
        await self._forget(_pair(name, source))
        await self._give_back(f"source|{_network(source)}")
        await self._give_back(f"name|{name.lower()}")

    async def at_code(self, tenant: str, person: str) -> None:
        """A person's at the codes that devices show. Raises Throttled."""
        await self._take(tenant, f"code|{person}", CODES_OF_ONE_MAX)

    async def code_was_right(self, person: str) -> None:
        """Takes one guess back, and no more: a right code must not buy others."""
        await self._give_back(f"code|{person}")

    async def at_start(self, tenant: str, source: str) -> None:
        """A sign-in of a command line that begins. Raises Throttled."""
        await self._take(tenant, f"device|{_network(source)}", DEVICES_FROM_ONE_MAX)

    async def _take(self, tenant: str, what: str, most: int) -> None:
        now = self._now()
        async with self._database.connection() as connection:
            taken = await sign_in_store.take_guess(
                connection,
                tenant=tenant,
                bucket=sha256(what),
                now=now,
                ends_at=now + WINDOW,
                guesses_max=most,
            )
        if not taken:
            raise Throttled("too many attempts; try again in 15 minutes")

    async def _give_back(self, what: str) -> None:
        async with self._database.connection() as connection:
            await sign_in_store.give_back(connection, sha256(what))

    async def _forget(self, what: str) -> None:
        async with self._database.connection() as connection:
            await sign_in_store.forget_guesses(connection, sha256(what))


def _pair(name: str, source: str) -> str:
    return f"password|{name.lower()}|{_network(source)}"


def _network(source: str) -> str:
    """Of IPv6 the /64: that many addresses are anybody's own."""
    try:
        address = ipaddress.ip_address(source)
    except ValueError:
        return source
    if address.version == 4:
        return source
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
