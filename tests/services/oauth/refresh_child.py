"""A process that renews a grant and is killed in the middle: `hang` says where it stops.

One line on its input: the DSN, the key of the grant, the provider. It says so when it is there.
"""

import asyncio
import sys
from datetime import timedelta
from typing import Any

import msgspec
from oauth_ground import Sealed, loopback_web

from freehold.adapters.oauth.client import HttpOauthClient
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.kernel import clock
from freehold.ports.credentials import Oauth2Provider
from freehold.ports.oauth import Asked, Tokens
from freehold.services.oauth.grants import Grants
from freehold.services.oauth.model import GrantKey


class Orders(msgspec.Struct, kw_only=True):
    dsn: str
    key: GrantKey
    provider: dict[str, Any]
    later_seconds: float
    renewal_seconds: float
    hang: str


async def _hang(where: str) -> None:
    sys.stdout.write(f"{where}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


async def main(orders: Orders) -> None:
    later = timedelta(seconds=orders.later_seconds)
    database = PostgresDatabase(orders.dsn, pool_size_max=2, application_name="dies")
    grants = Grants(
        database, Sealed(), now=lambda: clock.now() + later, renewal_seconds=orders.renewal_seconds
    )
    web = loopback_web()
    await web.start()
    await database.start()
    client, provider = HttpOauthClient(web), Oauth2Provider(**orders.provider)

    async def fetch(refresh_token: str | None) -> Tokens:
        assert refresh_token is not None
        if orders.hang == "before it is sent":
            await _hang(orders.hang)
        tokens = await client.refresh(provider, Asked(), refresh_token)
        if orders.hang == "before it is stored":
            await _hang(orders.hang)
        return tokens

    await grants.get(orders.key, fetch)
    await _hang("after it is stored")


if __name__ == "__main__":
    asyncio.run(main(msgspec.json.decode(sys.stdin.readline(), type=Orders)))
