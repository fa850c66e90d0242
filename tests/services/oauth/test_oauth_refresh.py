"""Tokens are renewed once however many ask, and what a provider rotates is not lost."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from oauth_ground import Ground, Sealed, Worker, workload
from refresh_child import Orders

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.kernel import clock
from freehold.kernel.errors import AccessDenied, Unavailable
from freehold.ports.database import Connection
from freehold.ports.oauth import Asked, OauthRefused, OauthUnavailable, Tokens
from freehold.services.oauth.grants import Grants
from freehold.services.oauth.model import Flow, Grant, GrantKey

OVER = timedelta(seconds=400)
"""The provider's access tokens last 300 s."""
SCOPES = ("openid", "offline_access")


async def test_50_concurrent_refreshes_over_several_workers_are_one_refresh(
    ground: Ground, worker: Worker, tenant: str
) -> None:
    ground.add_provider(tenant)
    ada = workload(tenant)
    first = await worker.consented(ada)
    ground.later = OVER
    ground.oidc.delay("/token", 0.3)
    before = ground.oidc.count("/token")
    try:
        async with ground.worker() as second, ground.worker() as third:
            given = await asyncio.gather(
                *[each.ask(ada) for each in [worker, second, third] for _ in range(17)]
            )
    finally:
        ground.oidc.delay("/token", 0)
    tokens = {each.access_token for each in given}
    assert len(tokens) == 1
    assert tokens.isdisjoint({None, first})
    assert ground.oidc.count("/token") == before + 1


async def test_a_rotated_refresh_token_serves_the_next_time(
    ground: Ground, worker: Worker, tenant: str
) -> None:
    ground.add_provider(tenant)
    ada = workload(tenant)
    tokens = [await worker.consented(ada)]
    for times in (1, 2, 3):
        ground.later = times * OVER
        tokens.append(str((await worker.ask(ada)).access_token))
    assert len(set(tokens)) == 4


async def test_a_client_that_is_refused_loses_no_grant(
    ground: Ground, worker: Worker, tenant: str
) -> None:
    ground.add_provider(tenant)
    await worker.consented(workload(tenant))
    ground.add_provider(tenant, client_secret="not-it-any-more")
    ground.later = OVER
    with pytest.raises(AccessDenied, match="invalid_client"):
        await worker.ask(workload(tenant))
    assert await worker.stored(tenant) == 1  # our mistake, not the person's


async def test_while_the_provider_is_down_a_token_that_still_lives_is_used(
    ground: Ground, worker: Worker, tenant: str
) -> None:
    ground.add_provider(tenant)
    ada = workload(tenant)
    first = await worker.consented(ada)
    ground.oidc.fail("/token", 503)
    try:
        ground.later = timedelta(seconds=270)  # it is to be renewed, but not over
        assert (await worker.ask(ada)).access_token == first
        ground.later = OVER
        with pytest.raises(Unavailable):
            await worker.ask(ada)
    finally:
        ground.oidc.heal("/token")
    assert (await worker.ask(ada)).access_token not in (None, first)


async def test_who_asked_may_go_away_and_the_renewal_is_kept(
    ground: Ground, worker: Worker, tenant: str
) -> None:
    ground.add_provider(tenant)
    ada = workload(tenant)
    await worker.consented(ada)
    ground.later = OVER
    ground.oidc.delay("/token", 0.5)
    before = ground.oidc.count("/token")
    asking = asyncio.create_task(worker.ask(ada))
    async with asyncio.timeout(10):
        while ground.oidc.count("/token") == before:
            await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.wait([asking])
    ground.oidc.delay("/token", 0)
    assert (await worker.ask(ada)).access_token
    assert ground.oidc.count("/token") == before + 1


class TestKill9:
    """A process is killed in the middle of a refresh."""

    @contextlib.asynccontextmanager
    async def killed(
        self, ground: Ground, worker: Worker, tenant: str, hang: str
    ) -> AsyncIterator[Worker]:
        """Where it hung, and a worker that comes after it."""
        provider = ground.add_provider(tenant)
        ada = workload(tenant)
        await worker.consented(ada)
        ground.later = OVER
        orders = Orders(
            dsn=ground.dsn, later_seconds=OVER.total_seconds(), renewal_seconds=1.0, hang=hang,
            key=GrantKey.of(Flow.USER_FEDERATION, ada, provider, Asked(scopes=SCOPES)),
            provider={n: getattr(provider, n) for n in provider.__struct_fields__},
        )  # fmt: skip
        here = Path(__file__).parent
        paths = os.pathsep.join([str(here), str(here.parent.parent)])
        child = await asyncio.create_subprocess_exec(
            sys.executable, str(here / "refresh_child.py"),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": paths},
        )  # fmt: skip
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(msgspec.json.encode(orders) + b"\n")
        try:
            async with asyncio.timeout(30):
                assert (await child.stdout.readline()).decode().strip() == hang
        finally:
            child.send_signal(signal.SIGKILL)
            await child.wait()
        async with ground.worker(renewal_seconds=1.0) as after:
            yield after

    async def test_before_the_request_the_refresh_is_done_by_another(
        self, ground: Ground, worker: Worker, tenant: str
    ) -> None:
        async with self.killed(ground, worker, tenant, "before it is sent") as after:
            assert (await after.ask(workload(tenant))).access_token

    async def test_the_rotated_token_survives_once_it_is_stored(
        self, ground: Ground, worker: Worker, tenant: str
    ) -> None:
        async with self.killed(ground, worker, tenant, "after it is stored") as after:
            before = ground.oidc.count("/token")
            assert (await after.ask(workload(tenant))).access_token
            assert ground.oidc.count("/token") == before
            ground.later = 2 * OVER
            assert (await after.ask(workload(tenant))).access_token
            assert ground.oidc.count("/token") == before + 1

    async def test_between_rotation_and_storing_the_person_is_asked_anew(
        self, ground: Ground, worker: Worker, tenant: str
    ) -> None:
        """The one gap that nobody can close: the provider's word is all there was of it."""
        async with self.killed(ground, worker, tenant, "before it is stored") as after:
            given = await after.ask(workload(tenant))
            assert (given.access_token, given.failed) == (None, False)
            assert given.authorization_url
            assert await after.stored(tenant) == 0


# -- the engine alone, where a real provider cannot be made to do it


def key(tenant: str, flow: Flow = Flow.USER_FEDERATION) -> GrantKey:
    return GrantKey(
        tenant=tenant, provider="p", client="c", workload="w", user="id:ada", flow=flow,
        scopes=(), resources=(), audiences=(),
    )  # fmt: skip


class Interrupted:
    """A database that is away as often as a test says."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database, self.away = database, 0

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        if self.away > 0:
            self.away -= 1
            raise Unavailable("away")
        async with self._database.connection() as connection:
            yield connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)


async def test_a_renewed_token_is_stored_although_the_database_was_away(
    database: PostgresDatabase, tenant: str
) -> None:
    shaky = Interrupted(database)
    grants = Grants(shaky, Sealed(), now=clock.now)
    await grants.put(key(tenant), Tokens(access_token="a1", refresh_token="r1", expires_in=0.001))

    async def fetch(refresh_token: str | None) -> Tokens:
        assert refresh_token == "r1"
        shaky.away = 2
        return Tokens(access_token="a2", refresh_token="r2", expires_in=300)

    assert await grants.get(key(tenant), fetch) == "a2"
    assert await Grants(database, Sealed()).get(key(tenant), fetch) == "a2"


async def test_a_consent_during_a_renewal_counts(database: PostgresDatabase, tenant: str) -> None:
    grants = Grants(database, Sealed())
    await grants.put(key(tenant), Tokens(access_token="a1", refresh_token="r1", expires_in=0.001))

    async def fetch(refresh_token: str | None) -> Tokens:
        anew = Tokens(access_token="of the consent", refresh_token="r9", expires_in=300)
        await grants.put(key(tenant), anew)
        return Tokens(access_token="of the renewal", refresh_token="r2", expires_in=300)

    assert await grants.get(key(tenant), fetch) == "of the consent"


async def test_what_is_taken_back_during_a_renewal_stays_away(
    database: PostgresDatabase, tenant: str
) -> None:
    grants = Grants(database, Sealed())
    await grants.put(key(tenant), Tokens(access_token="a1", refresh_token="r1", expires_in=0.001))

    async def fetch(refresh_token: str | None) -> Tokens:
        assert await grants.drop(tenant, key(tenant).id)
        return Tokens(access_token="a2", refresh_token="r2", expires_in=300)

    assert await grants.get(key(tenant), fetch) is None


@pytest.mark.parametrize("word", ["invalid_grant", "bad_refresh_token", "interaction_required"])
async def test_a_refresh_token_that_is_no_good_any_more_is_forgotten(
    database: PostgresDatabase, tenant: str, word: str
) -> None:
    grants = Grants(database, Sealed())
    await grants.put(key(tenant), Tokens(access_token="a1", refresh_token="r1", expires_in=0.001))
    asked = []

    async def fetch(refresh_token: str | None) -> Tokens:
        asked.append(refresh_token)
        raise OauthRefused(word)

    assert await grants.get(key(tenant), fetch) is None
    assert await grants.get(key(tenant), fetch) is None
    assert asked == ["r1"]


async def test_a_failure_reaches_everybody_who_waits_and_the_next_one_tries_again(
    database: PostgresDatabase, tenant: str
) -> None:
    grants, asked = Grants(database, Sealed()), 0

    async def fetch(_: str | None) -> Tokens:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise OauthUnavailable("away")
        return Tokens(access_token="a", expires_in=300)

    own = key(tenant, Flow.M2M)
    failed = await asyncio.gather(
        *[grants.get(own, fetch) for _ in range(5)], return_exceptions=True
    )
    assert [str(each) for each in failed] == ["away"] * 5
    assert await grants.get(own, fetch) == "a"


@pytest.mark.parametrize(
    ("flow", "refresh_token", "lasts"),
    [
        (Flow.USER_FEDERATION, None, None),
        (Flow.USER_FEDERATION, "r", 900),
        (Flow.M2M, None, 900),
    ],
    ids=["GitHub's has no end", "Salesforce's is renewed", "an agent's is fetched again"],
)
async def test_a_token_without_a_said_end(
    flow: Flow, refresh_token: str | None, lasts: int | None
) -> None:
    now = clock.now()
    grant = Grant.of(Tokens(access_token="a", refresh_token=refresh_token), now, flow=flow)
    assert grant.expires_at == (None if lasts is None else now + timedelta(seconds=lasts))
