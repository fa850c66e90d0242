"""Writing: durable, together, once, and in spite of a server that goes away."""

import asyncio
import json
from datetime import timedelta

import pytest
from audit_ground import ALL, Ground, event, ground

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.kernel import clock
from freehold.kernel.errors import Unavailable
from freehold.services.audit.model import Filter


async def test_a_line_is_in_the_database_when_write_returns(audit: Ground, tenant: str) -> None:
    written = event(tenant)
    await audit.writer.write(written)
    assert [json.loads(t)["call_id"] for t in await audit.texts(tenant)] == [written.call_id]


async def test_lines_that_come_together_are_one_statement(audit: Ground, tenant: str) -> None:
    statements: list[str] = []
    run = audit.lane.run

    async def counted(statement: str, *values: bytes | None) -> list[tuple[bytes | None, ...]]:
        statements.append(statement)
        return await run(statement, *values)

    audit.lane.run = counted  # type: ignore[method-assign]
    await asyncio.gather(*(audit.writer.write(event(tenant)) for _ in range(200)))
    assert len(await audit.texts(tenant)) == 200
    assert len(statements) <= 2, "200 lines were as many commits"


async def test_a_caller_that_leaves_takes_no_line_with_it(audit: Ground, tenant: str) -> None:
    writes = [asyncio.create_task(audit.writer.write(event(tenant))) for _ in range(20)]
    await asyncio.sleep(0)
    for write in writes[:10]:
        write.cancel()
    done = await asyncio.gather(*writes, return_exceptions=True)
    assert sum(isinstance(d, asyncio.CancelledError) for d in done) == 10
    assert len(await audit.texts(tenant)) == 20


async def test_noted_lines_are_written_without_anybody_waiting(
    database_dsn: str, database: PostgresDatabase, tenant: str
) -> None:
    async with ground(database_dsn, database) as audit:
        audit.writer.note(event(tenant))
        await audit.writer.close()
        assert len(await audit.texts(tenant)) == 1


NASTY = {
    "a NUL": "a\0b",
    "half a surrogate pair": "a\ud800b",
    "more than an index takes": "\U0001f511" * 5000,
    "quotes": "'\"; DROP TABLE audit_entries; --\\",
    "a line's end": "one\r\ntwo\u2028three",
}


@pytest.mark.parametrize("what", NASTY)
async def test_whatever_a_client_said_can_be_written(what: str, audit: Ground, tenant: str) -> None:
    text = NASTY[what]
    nasty = event(
        tenant, principal=text, user=text, resource=text, source=text, operation=text,
        call_id=text, detail={text: text},
    )  # fmt: skip
    await audit.wrote(nasty, event(tenant))
    assert (await audit.verdict(tenant)).holds
    stored = json.loads((await audit.texts(tenant))[1])
    assert len(stored["resource"].encode()) <= 1600


async def _cut(audit: Ground) -> int:
    """The server ends the writer's connection, as it does when it is killed. How many it were."""
    async with audit.database.connection() as connection:
        ended = await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'tests audit' AND datname = current_database()"
        )
        return ended.rowcount


async def test_lines_that_a_broken_connection_interrupts_are_written_once(
    audit: Ground, tenant: str
) -> None:
    """Again and again, in the middle of commits: never lost, never twice."""
    calls = [event(tenant) for _ in range(400)]

    audit.writer._patience_seconds = 60
    written = asyncio.Event()

    async def write(some: int) -> None:
        for call in calls[some::4]:
            await audit.writer.write(call)
            written.set()

    writing = asyncio.gather(*(write(n) for n in range(4)))
    cuts = 0
    while not writing.done():
        cuts += await _cut(audit)
        # However slow the machine is, some get through before the next cut: nobody waits for ever.
        written.clear()
        through = asyncio.ensure_future(written.wait())
        await asyncio.wait([writing, through], return_when=asyncio.FIRST_COMPLETED)
        through.cancel()
    await writing
    assert cuts > 1
    await audit.link()
    stored = sorted(json.loads(t)["call_id"] for t in await audit.texts(tenant))
    assert stored == sorted(call.call_id for call in calls)
    assert (await audit.verdict(tenant)).holds


async def test_while_the_database_is_away_calls_are_refused_and_their_lines_come_late(
    database_dsn: str, database: PostgresDatabase, tenant: str
) -> None:
    async with ground(database_dsn, database) as audit:
        lane = audit.lane
        audit.writer._patience_seconds = 0.2
        opening = lane.open
        away = True

        async def refuse() -> None:
            if away:
                raise Unavailable("away")
            await opening()

        lane.open = refuse  # type: ignore[method-assign]
        await _cut(audit)
        async with asyncio.timeout(5):
            with pytest.raises(Unavailable):
                await audit.writer.write(event(tenant))
            with pytest.raises(Unavailable):
                await audit.writer.write(event(tenant))  # at once: nobody waits twice as long
        away = False
        async with asyncio.timeout(5):
            await audit.writer._idle.wait()
        await audit.writer.write(event(tenant))
        assert len(await audit.texts(tenant)) == 3


async def test_a_dead_writers_open_calls_have_an_unknown_outcome(
    database_dsn: str, database: PostgresDatabase, tenant: str
) -> None:
    async with ground(database_dsn, database) as dead:
        await dead.writer.write(event(tenant, "intent", call_id="whole"))
        await dead.writer.write(event(tenant, "outcome", call_id="whole"))
        await dead.writer.write(event(tenant, "intent", call_id="cut off"))
        for task in (dead.writer._task, dead.linker._task):
            assert task is not None
            task.cancel()
        await dead.lane.close()
        async with ground(database_dsn, database) as heir:
            outcomes = {
                json.loads(t)["call_id"]: json.loads(t)["outcome"]
                for t in await heir.texts(tenant, Filter())
            }
            assert outcomes == {"whole": "allowed", "cut off": "unknown"}
            found = await heir.verdict(tenant)
            assert (found.holds, found.checked, found.waiting) == (True, 4, 0)
        async with ground(database_dsn, database) as next_heir:
            assert len(await next_heir.texts(tenant)) == 4, "it was adopted twice"


async def test_a_writer_that_lives_is_adopted_by_nobody(
    audit: Ground, database_dsn: str, database: PostgresDatabase, tenant: str
) -> None:
    await audit.writer.write(event(tenant, "intent", call_id="under way"))
    async with ground(database_dsn, database):
        pass
    await audit.writer.write(event(tenant, "outcome", call_id="under way"))
    outcomes = [json.loads(t)["outcome"] for t in await audit.texts(tenant, Filter())]
    assert outcomes == ["allowed"]


async def test_lines_are_found_by_each_of_their_fields(audit: Ground, tenant: str) -> None:
    now = clock.now()
    one = event(
        tenant, principal="p1", user="u1", operation="s3:GetObject", resource="r1", call_id="c1",
        outcome="denied", at=now - timedelta(hours=2),
    )  # fmt: skip
    two = event(
        tenant, principal="p2", user="u2", operation="s3:PutObject", resource="r2", call_id="c2"
    )
    await audit.wrote(event(tenant, "intent", call_id="c2"), one, two)
    for what in (
        Filter(principal="p1"), Filter(user="u1"), Filter(operations=("s3:GetObject", "s3:x")),
        Filter(resource="r1"), Filter(call_id="c1"), Filter(outcome="denied"),
        Filter(until=now - timedelta(hours=1)),
    ):  # fmt: skip
        assert [json.loads(t)["call_id"] for t in await audit.texts(tenant, what)] == ["c1"]
        assert what.matches(one)
        assert not what.matches(two)
    assert len(await audit.texts(tenant, Filter(since=now - timedelta(hours=1)))) == 1
    assert len(await audit.texts(tenant)) == 3


async def test_pages_hold_every_line_once_newest_first(audit: Ground, tenant: str) -> None:
    at = clock.now()
    await audit.wrote(*(event(tenant, call_id=f"c{n}", at=at) for n in range(25)))
    seen: list[str] = []
    token = None
    while True:
        page = await audit.trail.page(tenant, ALL, limit=10, token=token)
        seen += [json.loads(entry.text)["call_id"] for entry in page.items]
        if (token := page.next_token) is None:
            break
    assert seen == [f"c{n}" for n in reversed(range(25))]


async def test_a_follower_sees_what_comes(audit: Ground, tenant: str) -> None:
    await audit.wrote(event(tenant, call_id="before"))
    followed = audit.trail.follow(tenant, Filter(outcome="denied"))
    first = asyncio.ensure_future(anext(followed))
    while not audit.trail._followers.get(tenant):
        await asyncio.sleep(0)
    await audit.wrote(event(tenant), event(tenant, call_id="after", outcome="denied"))
    async with asyncio.timeout(10):
        link = await first
    assert link.text is not None
    assert json.loads(link.text)["call_id"] == "after"
    await followed.aclose()  # type: ignore[attr-defined]
