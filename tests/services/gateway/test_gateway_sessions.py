"""MCP's sessions: kept by use, known to every worker, and nobody else's."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import msgspec
import pytest

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import Throttled
from freehold.ports.mcp import Door, Letter, Session
from freehold.services.gateway import sessions as module
from freehold.services.gateway.sessions import GatewaySessions

HOUR = 3600


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def door(tenant: str) -> Door:
    arn = f"arn:aws:bedrock-agentcore:us-east-1:{tenant}:gateway/tools"
    return Door(
        tenant=tenant, gateway_id="tools", arn=arn, name="tools", authorizer="AWS_IAM",
        session_seconds=HOUR,
    )  # fmt: skip


def caller(tenant: str, name: str = "ada") -> Caller:
    return Caller(tenant=tenant, principal=name, kind=CallerKind.ACCESS_KEY)


@pytest.fixture
async def sessions(database: PostgresDatabase, clock: Clock) -> GatewaySessions:
    return GatewaySessions(database, seconds=clock)


@pytest.fixture
async def elsewhere(database_dsn: str, clock: Clock) -> AsyncIterator[GatewaySessions]:
    """Those of another worker."""
    database = PostgresDatabase(database_dsn, pool_size_max=2, application_name="elsewhere")
    made = GatewaySessions(database, seconds=clock)
    await database.start()
    yield made
    await database.close()


async def begin(sessions: GatewaySessions, door: Door, name: str = "ada") -> Session:
    return await sessions.begin(
        door, caller(door.tenant, name), version="2025-11-25",
        capabilities={"elicitation": {}}, info={"name": "grüße"},
    )  # fmt: skip


async def ends_at(database: PostgresDatabase, session: Session) -> datetime:
    async with database.connection() as connection:
        cursor = await connection.execute(
            "SELECT ends_at FROM gateway_sessions WHERE id = %s", (session.id,)
        )
        row = await cursor.fetchone()
    assert row is not None
    found: datetime = row[0]
    return found


async def pass_away(database: PostgresDatabase, session: Session) -> None:
    async with database.connection() as connection:
        await connection.execute(
            "UPDATE gateway_sessions SET ends_at = now() - interval '1 second' WHERE id = %s",
            (session.id,),
        )


async def eventually(true: Any) -> None:
    async with asyncio.timeout(10):
        while not await true():
            await asyncio.sleep(0.01)


async def test_every_worker_knows_what_initialize_settled(
    sessions: GatewaySessions, elsewhere: GatewaySessions, door: Door
) -> None:
    begun = await begin(sessions, door)
    for each in (sessions, elsewhere):
        assert await each.find(begun.id, door, caller(door.tenant)) == begun


async def test_ids_cannot_be_guessed(sessions: GatewaySessions, door: Door) -> None:
    made = {(await begin(sessions, door)).id for _ in range(50)}
    assert len(made) == 50
    assert all(len(id) >= 32 for id in made)


@pytest.mark.parametrize("cached", [True, False])
async def test_a_session_opens_to_its_owner_at_its_gateway_alone(
    sessions: GatewaySessions, elsewhere: GatewaySessions, door: Door, *, cached: bool
) -> None:
    begun = await begin(sessions, door)
    looking = sessions if cached else elsewhere
    other_gateway = msgspec.structs.replace(door, gateway_id="others")
    other_tenant = msgspec.structs.replace(door, tenant="999999999999")
    for where, who in (
        (door, caller(door.tenant, "eve")),
        (other_gateway, caller(door.tenant)),
        (other_tenant, caller("999999999999")),
    ):
        assert await looking.find(begun.id, where, who) is None
    assert await looking.find(begun.id, door, caller(door.tenant)) == begun
    assert await looking.find("nonesuch", door, caller(door.tenant)) is None


async def test_use_lengthens_a_session_without_a_write_for_each(
    sessions: GatewaySessions, database: PostgresDatabase, clock: Clock, door: Door
) -> None:
    begun = await begin(sessions, door)
    first = await ends_at(database, begun)
    for _ in range(100):
        clock.now += HOUR / 1000
        assert await sessions.find(begun.id, door, caller(door.tenant))
    assert await ends_at(database, begun) == first
    clock.now += HOUR / 8
    assert await sessions.find(begun.id, door, caller(door.tenant))
    assert await ends_at(database, begun) > first
    for _ in range(20):
        clock.now += HOUR * 0.9
        assert await sessions.find(begun.id, door, caller(door.tenant))


async def test_a_session_that_nobody_uses_ends(
    sessions: GatewaySessions, database: PostgresDatabase, clock: Clock, door: Door
) -> None:
    begun = await begin(sessions, door)
    await pass_away(database, begun)
    clock.now += HOUR * 1.2
    assert await sessions.find(begun.id, door, caller(door.tenant)) is None


async def test_use_at_another_worker_counts(
    sessions: GatewaySessions, elsewhere: GatewaySessions, clock: Clock, door: Door
) -> None:
    begun = await begin(sessions, door)
    clock.now += HOUR * 1.2  # this worker has not seen it for too long
    assert await elsewhere.find(begun.id, door, caller(door.tenant))
    assert await sessions.find(begun.id, door, caller(door.tenant))


async def test_an_end_is_known_everywhere(
    sessions: GatewaySessions, elsewhere: GatewaySessions, door: Door
) -> None:
    begun = await begin(sessions, door)
    assert await elsewhere.find(begun.id, door, caller(door.tenant))
    await sessions.end(begun)
    assert await sessions.find(begun.id, door, caller(door.tenant)) is None

    async def over() -> bool:
        return await elsewhere.find(begun.id, door, caller(door.tenant)) is None

    await eventually(over)


async def test_a_log_level_is_known_everywhere(
    sessions: GatewaySessions, elsewhere: GatewaySessions, door: Door
) -> None:
    begun = await begin(sessions, door)
    assert await elsewhere.find(begun.id, door, caller(door.tenant))
    await sessions.set_log_level(begun, "error")

    async def told() -> bool:
        found = await elsewhere.find(begun.id, door, caller(door.tenant))
        return found is not None and found.log_level == "error"

    await eventually(told)


async def test_sessions_that_are_over_are_deleted_in_time(
    sessions: GatewaySessions, database: PostgresDatabase, clock: Clock, door: Door
) -> None:
    over = await begin(sessions, door)
    await pass_away(database, over)
    clock.now += module.SWEEP_SECONDS + 1
    kept = await begin(sessions, door)
    async with database.connection() as connection:
        cursor = await connection.execute(
            "SELECT id FROM gateway_sessions WHERE tenant = %s", (door.tenant,)
        )
        assert await cursor.fetchall() == [(kept.id,)]


async def test_one_caller_cannot_fill_the_store(
    sessions: GatewaySessions, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EACH_MAX", 3)
    for _ in range(3):
        await begin(sessions, door)
    with pytest.raises(Throttled):
        await begin(sessions, door)
    await begin(sessions, door, "grace")


@pytest.mark.parametrize("size", [10, 100_000])
async def test_a_letter_comes_to_the_worker_that_waits_for_it(
    sessions: GatewaySessions, elsewhere: GatewaySessions, door: Door, size: int
) -> None:
    begun = await begin(sessions, door)
    heard: asyncio.Queue[Letter] = asyncio.Queue()
    unheard: list[Letter] = []
    elsewhere.listen(lambda letter: letter.key == "mine", heard.put_nowait)
    sessions.listen(lambda letter: False, unheard.append)
    await asyncio.sleep(0)
    body = {"text": "ü" * size}
    async with asyncio.timeout(10):
        letter = Letter(session=begun.id, kind="reply", key="theirs", body=body)
        await sessions.send(letter)
        letter = Letter(session=begun.id, kind="reply", key="mine", body=body)
        while heard.empty():  # it may not be listening yet
            await sessions.send(letter)
            await asyncio.sleep(0.05)
        assert await heard.get() == letter
    assert unheard == []


async def test_letters_about_a_session_that_is_over_are_dropped(
    sessions: GatewaySessions, database: PostgresDatabase, door: Door
) -> None:
    begun = await begin(sessions, door)
    await sessions.end(begun)
    body = {"text": "x" * 100_000}
    await sessions.send(Letter(session=begun.id, kind="reply", key="k", body=body))
    async with database.connection() as connection:
        cursor = await connection.execute(
            "SELECT count(*) FROM gateway_letters WHERE tenant = %s", (door.tenant,)
        )
        assert await cursor.fetchone() == (0,)
