"""Which retrieval used which record: noted without anybody waiting, kept no longer than what it is
about."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from person_ground import PersonGround

from edge_ground import refused
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import Unavailable
from freehold.kernel.request import Request
from freehold.services.memory import retrievals, retrievals_store
from freehold.services.memory.retrievals import RetrievalLog, retrieval_of


@pytest.fixture(scope="module")
async def ground(
    database: PostgresDatabase, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Any]:
    async with PersonGround(database, tmp_path_factory.mktemp("log"), executor="log").open() as it:
        yield it


def caller(tenant: str, **fields: Any) -> Request:
    return Request(
        caller=Caller(
            **{"tenant": tenant, "principal": "arn:key", "kind": CallerKind.ACCESS_KEY, **fields}
        ),
        request_id="one",
    )  # fmt: skip


async def test_a_search_says_who_asked_for_what_and_was_given_what(
    ground: PersonGround, tenant: str
) -> None:
    of = ground.of(ground.memory(tenant))
    await of.say("city is Rome")
    await of.learn()
    found = await of.find("Which city?", namespacePath="/facts/anna")
    [line] = await of.retrievals()
    assert [each["recordId"] for each in line["records"]] == found
    assert all(0 < each["score"] <= 1 for each in line["records"])
    assert (line["operation"], line["namespace"], line["query"]) == (
        "RetrieveMemoryRecords", "/facts/anna/", "Which city?",
    )  # fmt: skip
    assert line["by"].startswith(f"arn:aws:iam::{tenant}:") and "sessionId" not in line


async def test_raw_turns_and_single_records_are_noted_too(
    ground: PersonGround, tenant: str
) -> None:
    of = ground.of(ground.memory(tenant))
    await of.say("The dog is called Rex.")
    id = await of.put("likes tea", "/actors/anna/")
    [turn] = await of.find("What is the dog called?", namespacePath="/turns/actors/anna/")
    await of.client.get_memory_record(memoryId=of.memory.id, memoryRecordId=id)
    asked, found = await of.retrievals()
    assert (asked["operation"], asked["query"], asked["namespace"]) == ("GetMemoryRecord", "", "")
    assert asked["records"] == [{"recordId": id, "score": None}]
    assert [each["recordId"] for each in found["records"]] == [turn]


async def test_an_agent_in_a_sandbox_is_known_by_its_session(
    ground: PersonGround, tenant: str
) -> None:
    memory = ground.memory(tenant)
    request = caller(
        tenant, kind=CallerKind.SESSION, principal="arn:aws:x:runtime/helper-1/session/s-77"
    )
    ground.log.note(retrieval_of(request, memory, "GetMemoryProfile", "/anna/", query="", used=[]))
    [line] = await ground.of(memory).retrievals()
    assert line["sessionId"] == "s-77"


async def test_lists_are_newest_first_by_page_and_by_what_is_asked_for(
    ground: PersonGround, tenant: str
) -> None:
    of = ground.of(ground.memory(tenant))
    tea = await of.put("likes tea", "/actors/anna/")
    cat = await of.put("has a cat", "/actors/bob/")
    for query in ("tea", "cat", "drinks"):
        await of.find(query, namespace=f"/actors/{'bob' if query == 'cat' else 'anna'}/")
    await of.find("tea or a cat", namespacePath="/actors/")

    async def queries(**asked: Any) -> list[str]:
        return [line["query"] for line in await of.retrievals(**asked)]

    assert await queries() == ["tea or a cat", "drinks", "cat", "tea"]
    assert await queries(record=cat) == ["tea or a cat", "cat"]
    assert await queries(record=tea, actor="bob") == ["tea or a cat"]
    assert await queries(actor="anna") == ["tea or a cat", "drinks", "tea"]
    assert await queries(actor="ann") == []
    lines = await of.retrievals()
    assert await queries(since=lines[1]["at"]) == ["tea or a cat", "drinks"]
    assert await queries(until=lines[1]["at"]) == ["cat", "tea"]
    assert await queries(since="1h") == await queries()
    first = await of.get("/retrievals", maxResults=3)
    rest = await of.get("/retrievals", maxResults=3, nextToken=first["nextToken"])
    assert [each["query"] for each in rest["retrievals"]] == ["tea"]
    assert "nextToken" not in rest


@pytest.mark.parametrize(
    "asked", [{"since": "yesterday"}, {"nextToken": "abc"}, {"maxResults": 1000}]
)
async def test_what_makes_no_sense_is_refused(
    ground: PersonGround, tenant: str, asked: dict[str, Any]
) -> None:
    of = ground.of(ground.memory(tenant))
    assert (await of.ask("/retrievals", **asked))[0] == 400


async def test_another_tenants_lines_are_not_there(ground: PersonGround, tenant: str) -> None:
    of = ground.of(ground.memory(tenant))
    status, answer = await of.ask("/retrievals", tenant="999900009999")
    assert (status, answer["error"]["code"]) == (404, "ResourceNotFoundException")


async def test_what_was_asked_is_sealed_at_rest(ground: PersonGround, tenant: str) -> None:
    of = ground.of(ground.memory(tenant))
    await of.find("who has the umbrella of Mr Fogg", namespace="/actors/anna/")
    assert len(await of.retrievals()) == 1
    assert await of.rows(
        "SELECT FROM memory_retrievals r WHERE tenant = %(tenant)s AND (r::text LIKE '%%umbrella%%'"
        " OR position('umbrella'::bytea IN sealed_query) > 0)"
    ) == []  # fmt: skip


async def test_a_record_that_goes_takes_its_lines_along(ground: PersonGround, tenant: str) -> None:
    of = ground.of(ground.memory(tenant))
    tea, cat = await of.put("likes tea", "/a/"), await of.put("likes a cat", "/a/")
    await of.find("who likes what", namespace="/a/")
    await of.client.get_memory_record(memoryId=of.memory.id, memoryRecordId=tea)
    assert len(await of.retrievals()) == 2
    await of.client.delete_memory_record(memoryId=of.memory.id, memoryRecordId=tea)
    [line] = await of.retrievals()
    assert [each["recordId"] for each in line["records"]] == [cat]
    assert await ground.retention.sweep() >= 1
    assert await of.rows("SELECT count(*) FROM memory_retrievals WHERE tenant = %(tenant)s") == [
        (1,)
    ]
    event = await of.say("the turn of a friendly card")
    await of.find("friendly card", namespacePath="/turns/")
    assert len(await of.retrievals()) == 2
    await of.client.delete_event(
        memoryId=of.memory.id, actorId="anna", sessionId="s1", eventId=event.id
    )
    assert len(await of.retrievals()) == 1


async def test_what_goes_while_a_line_waits_is_not_noted(ground: PersonGround, tenant: str) -> None:
    of = ground.of(ground.memory(tenant))
    tea = await of.put("likes tea", "/a/")
    async with ground.database.transaction() as connection:
        await ground.records.remove(connection, of.memory, [tea])
        assert await of.find("tea", namespace="/a/") == [tea]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):  # somebody is at the record: the line waits
                await ground.log.written()
    assert await of.retrievals() == []


async def test_lines_are_kept_for_thirty_days(ground: PersonGround, tenant: str) -> None:
    of = ground.of(ground.memory(tenant))
    await of.find("anything", namespace="/a/")
    assert len(await of.retrievals()) == 1
    late = retrievals.RetrievalRetention(
        ground.database, now=lambda: ground.clock() + timedelta(days=29)
    )
    while await late.sweep():
        pass
    assert len(await of.retrievals()) == 1
    later = retrievals.RetrievalRetention(
        ground.database, now=lambda: ground.clock() + timedelta(days=31)
    )
    while await later.sweep():
        pass
    assert await of.retrievals() == []


async def test_lines_of_a_memory_that_is_deleted_go(ground: PersonGround, tenant: str) -> None:
    of, other = ground.of(ground.memory(tenant)), ground.of(ground.memory(tenant))
    for each in (of, other):
        await each.put("likes tea", "/a/")
        await each.find("tea", namespace="/a/")
        assert len(await each.retrievals()) == 1
    async with ground.database.transaction() as connection:
        assert not await retrievals_store.clear(connection, tenant, of.memory.id)
    assert await of.retrievals() == []
    assert len(await other.retrievals()) == 1


# -- the writer


class Away:
    """A database that is away by turns."""

    def __init__(self, database: Any) -> None:
        self._database, self.away, self.asked = database, True, asyncio.Event()

    @asynccontextmanager
    async def transaction(self) -> Any:
        self.asked.set()
        if self.away:
            raise Unavailable("the database is not available just now")
        async with self._database.transaction() as connection:
            yield connection


def noted(ground: PersonGround, of: Any, query: str) -> Any:
    return retrieval_of(
        caller(of.memory.tenant), of.memory, "RetrieveMemoryRecords", "/a/", query=query, used=[]
    )


async def test_nothing_is_lost_when_a_worker_ends_in_order(
    ground: PersonGround, tenant: str
) -> None:
    of = ground.of(ground.memory(tenant))
    log = RetrievalLog(ground.database, ground.sealer)
    await log.start()
    for n in range(450):
        log.note(noted(ground, of, f"query {n}"))
    await log.close()
    assert await of.rows(
        "SELECT count(*) FROM memory_retrievals WHERE memory_id = %(memory)s"
    ) == [(450,)]  # fmt: skip
    assert (await of.retrievals())[0]["query"] == "query 449"


async def test_lines_wait_while_postgres_is_away(ground: PersonGround, tenant: str) -> None:
    of, away = ground.of(ground.memory(tenant)), Away(ground.database)
    log = RetrievalLog(away, ground.sealer)  # type: ignore[arg-type]
    await log.start()
    log.note(noted(ground, of, "first"))
    async with asyncio.timeout(20):
        await away.asked.wait()
    log.note(noted(ground, of, "second"))
    assert await of.retrievals() == []
    away.away = False
    async with asyncio.timeout(20):
        await log.written()
    await log.close()
    assert [line["query"] for line in await of.retrievals()] == ["second", "first"]


async def test_too_many_are_not_noted_and_nobody_waits(
    ground: PersonGround,
    tenant: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(retrievals, "WAITING_LINES_MAX", 3)
    of, away = ground.of(ground.memory(tenant)), Away(ground.database)
    log = RetrievalLog(away, ground.sealer)  # type: ignore[arg-type]
    await log.start()
    for n in range(5):
        log.note(noted(ground, of, f"query {n}"))
    away.away = False
    async with asyncio.timeout(20):
        await log.written()
    await log.close()
    assert [line["query"] for line in await of.retrievals()] == ["query 2", "query 1", "query 0"]
    assert "2 memory retrievals were not noted" in caplog.text


async def test_one_that_is_refused_takes_no_other_with_it(
    ground: PersonGround, tenant: str, caplog: pytest.LogCaptureFixture
) -> None:
    of = ground.of(ground.memory(tenant))
    log = RetrievalLog(ground.database, ground.sealer)
    await log.start()
    bad = msgspec.structs.replace(noted(ground, of, "bad"), memory_id="no\0id")
    for n in range(6):
        log.note(noted(ground, of, f"query {n}\ud800\0"))
        if n == 3:
            log.note(bad)
    await log.close()
    found = [line["query"] for line in await of.retrievals()]
    assert found == [f"query {n}\\ud800\0" for n in reversed(range(6))]
    assert "could not be noted" in caplog.text


async def test_aws_operations_answer_as_they_did(ground: PersonGround, tenant: str) -> None:
    of = ground.of(ground.memory(tenant))
    message = await refused(
        of.client.get_memory_record(memoryId=of.memory.id, memoryRecordId="mem-" + "0" * 36),
        "ResourceNotFoundException",
    )
    assert "does not exist" in message
    assert await of.retrievals() == []
