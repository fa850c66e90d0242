"""A person is erased from a memory: nothing of theirs is left, and it is proven."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from extraction_ground import START, ModelDouble, semantic
from person_ground import OfPerson, PersonGround
from test_memory_self_managed import BUCKET, managed

from edge_ground import refused
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.services.memory.erasure_steps import Steps
from freehold.services.memory.erasure_store import KINDS
from running import RunningPlatform, until

Make = Callable[..., Awaitable[PersonGround]]
MakeDsn = Callable[[], Awaitable[str]]
TEAM = (semantic(namespaces=["/team/"]),)


@pytest.fixture(scope="module")
async def ground(
    database: PostgresDatabase, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Any]:
    state = tmp_path_factory.mktemp("erasure")
    async with PersonGround(database, state, executor="erasure").open() as opened:
        yield opened


@pytest.fixture
async def alone(fresh_dsn: MakeDsn, tmp_path: Path) -> AsyncIterator[Any]:
    """Makes a ground with a database of its own, whose jobs nobody else does."""
    async with AsyncExitStack() as stack:

        async def make(**how: Any) -> PersonGround:
            database = PostgresDatabase(
                await fresh_dsn(), pool_size_max=6, application_name="erasure test"
            )
            ground = PersonGround(database, tmp_path, **how)
            await database.start()
            stack.push_async_callback(database.close)
            return await stack.enter_async_context(ground.open())

        yield make


async def mentions(of: OfPerson, *words: str) -> dict[str, int]:
    """Rows of any table about memories, or of jobs, that hold one of these words."""
    tables = await of.rows(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()"
        " AND (starts_with(table_name, 'memory_') OR table_name = 'jobs')"
    )
    found = {}
    for (table,) in tables:
        [(count,)] = await of.rows(
            f"SELECT count(*) FROM {table} t WHERE t::text ILIKE ANY(%(words)s)",
            words=[f"%{word}%" for word in words],
        )
        if count:
            found[table] = count
    return found


def nothing(**counts: int) -> dict[str, int]:
    return dict.fromkeys(KINDS, 0) | counts


def digest(*lines: str) -> str:
    return hashlib.sha256("".join(f"{line}\n" for line in sorted(lines)).encode()).hexdigest()


async def lived(of: OfPerson, who: str, word: str) -> list[str]:
    """All that can be known of somebody; what an export of it has."""
    events = []
    for minute, city in enumerate((f"paris{word}", f"rome{word}")):
        events.append(await of.say(f"city is {city}", minute=minute, actor=who, session=f"s{word}"))
        await of.learn()
    events.append(await of.say(f"dog{word} is rex", minute=9, actor=who, session=f"t{word}"))
    put = await of.put(f"likes tea{word}", f"/actors/{who}/notes/")
    await of.find(f"city of {word}", namespacePath=f"/facts/{who}/")
    await of.find(f"everything of {word}", namespacePath="/")
    await of.ground.log.written()
    records = [each.id for each in await of.all() if word in each.text]
    assert len(records) == 3 and put in records
    lines = [f"event {event.id}" for event in events]
    lines += [f"session s{word}", f"session t{word}", *(f"record {id}" for id in records)]
    turns = await of.rows(
        "SELECT id FROM memory_turns WHERE memory_id = %(memory)s AND namespace LIKE %(of)s",
        of=f"/turns/actors/{who}/%",
    )
    return lines + [f"turn {id}" for (id,) in turns]


async def test_all_that_there_is_of_a_person_goes_and_is_proven(
    ground: PersonGround, tenant: str
) -> None:
    of = ground.of(ground.memory(tenant))
    who, word = f"anna{tenant}", f"xq{tenant}"
    await lived(of, "bob", "zz")
    lines = await lived(of, who, word)
    dry = await of.begin(who, dryRun=True)
    assert (dry["state"], dry["left"], dry["digest"]) == ("DONE", nothing(), "")
    assert await mentions(of, who, word) != {}
    proof = await of.erase(who)
    assert proof["state"] == "DONE" and "error" not in proof
    assert proof["left"] == nothing()
    assert proof["erased"] == dry["erased"]
    counted = {"events": 3, "sessions": 2, "records": 3, "turns": 3, "queued": 1, "indexed": 6}
    assert {kind: proof["erased"][kind] for kind in counted} == counted
    assert proof["digest"] == digest(*lines)
    for kind, of_kind in proof["digests"].items():
        assert of_kind == digest(*(line for line in lines if line.startswith(f"{kind} ")))
    assert (
        proof["actorDigest"]
        == hashlib.sha256(f"{tenant}\n{of.memory.id}\n{who}".encode()).hexdigest()
    )
    assert await mentions(of, who, word) == {}
    assert len([text for text in await of.texts() if "zz" in text]) == 4
    assert len(await of.find("romezz", namespacePath="/turns/actors/bob/")) >= 1


async def test_the_proof_is_found_again_and_is_in_the_audit(
    ground: PersonGround, tenant: str
) -> None:
    of = ground.of(ground.memory(tenant))
    await of.say("city is Rome")
    proof = await of.erase("anna")
    dry = await of.begin("bob", dryRun=True)
    listed = (await of.get("/erasures"))["erasures"]
    assert [each["erasureId"] for each in listed] == [dry["erasureId"], proof["erasureId"]]
    assert (await of.get("/erasures", actor="anna"))["erasures"] == [proof]
    page = await of.get("/erasures", maxResults=1)
    rest = await of.get("/erasures", maxResults=1, nextToken=page["nextToken"])
    assert rest == {"erasures": [proof]}
    [line] = ground.audit.of(tenant, "freehold:EraseMemoryActor")
    assert (line["outcome"], line["resource"]) == ("allowed", of.memory.arn)
    assert (line["erasure"], line["digest"]) == (proof["erasureId"], proof["digest"])
    assert "anna" not in str(line)


async def test_it_outlives_the_memory(ground: PersonGround, tenant: str) -> None:
    of = ground.of(ground.memory(tenant))
    proof = await of.erase("anna")
    del ground.memories.by_id[tenant, of.memory.id]
    assert await of.get(f"/erasures/{proof['erasureId']}") == proof
    assert (await of.get("/erasures"))["erasures"] == [proof]


@pytest.mark.parametrize(
    ("method", "path"), [("POST", ""), ("GET", "/{id}"), ("GET", ""), ("GET", "/no-such")]
)
async def test_another_tenants_erasures_are_not_there(
    ground: PersonGround, tenant: str, method: str, path: str
) -> None:
    of = ground.of(ground.memory(tenant))
    proof = await of.erase("anna")
    status, answer = await of.ask(
        f"/erasures{path.format(id=proof['erasureId'])}", method=method, tenant="999900009999",
        body={"actorId": "anna"} if method == "POST" else None,
    )  # fmt: skip
    assert (status, answer["error"]["code"]) == (404, "ResourceNotFoundException")


@pytest.mark.parametrize("actor", ["", "/", "a" * 300, "a\0b"])
async def test_nobody_cannot_be_erased(ground: PersonGround, tenant: str, actor: str) -> None:
    of = ground.of(ground.memory(tenant))
    assert (await of.ask("/erasures", method="POST", body={"actorId": actor}))[0] == 400


async def test_who_was_never_there_leaves_nothing(ground: PersonGround, tenant: str) -> None:
    of = ground.of(ground.memory(tenant))
    await of.say("city is Rome")
    proof = await of.erase("nobody")
    assert (proof["state"], proof["erased"]) == ("DONE", nothing())
    assert proof["digest"] == hashlib.sha256(b"").hexdigest()
    assert len(await of.rows("SELECT FROM memory_events WHERE memory_id = %(memory)s")) == 1


# -- what was learned


async def test_what_others_said_too_is_learned_again_from_them(
    ground: PersonGround, tenant: str
) -> None:
    of = ground.of(ground.memory(tenant, strategies=TEAM))
    await of.say("city is Rome", minute=1)
    await of.learn()
    theirs = await of.say("city is Rome", minute=2, actor="bob")
    await of.learn()
    [record] = await of.all()
    assert {source.actor_id for source in record.sources} == {"anna", "bob"}
    dry = await of.begin("anna", dryRun=True)
    proof = await of.erase("anna")
    assert proof["erased"]["recordsRederived"] == dry["erased"]["recordsRederived"] == 1
    assert proof["erased"]["records"] == 0
    assert proof["digests"]["record"] == digest(f"record {record.id}")
    assert await of.all() == []
    await of.learn()
    [again] = await of.all()
    assert [source.event_id for source in again.sources] == [theirs.id]


async def test_what_they_had_replaced_is_so_again(ground: PersonGround, tenant: str) -> None:
    of = ground.of(ground.memory(tenant, strategies=TEAM))
    await of.say("city is Rome", minute=1, actor="bob")
    await of.learn()
    await of.say("city is Oslo", minute=2)
    await of.learn()
    await of.erase("anna")
    [record] = await of.all()
    assert (record.text, record.valid_until) == ("city is Rome", None)


async def test_what_was_learned_of_events_that_expired_goes_too(
    ground: PersonGround, tenant: str
) -> None:
    of = ground.of(ground.memory(tenant, expiry_days=3))
    await of.say("city is Paris", minute=1)
    await of.say("city is Rome", minute=2, actor="bob")
    await of.learn()
    ground.clock.ahead = timedelta(days=400)
    try:
        while await ground.expiry.sweep():
            pass
    finally:
        ground.clock.ahead = timedelta()
    assert await of.rows("SELECT FROM memory_events WHERE memory_id = %(memory)s") == []
    proof = await of.erase("anna")
    assert (proof["erased"]["events"], proof["erased"]["records"]) == (0, 1)
    assert proof["erased"]["turns"] == 1
    assert await of.texts() == ["city is Rome"]


async def test_what_was_put_where_they_are_named_goes(ground: PersonGround, tenant: str) -> None:
    of = ground.of(ground.memory(tenant))
    for namespace in ("/anna/", "/a/anna/b/", "/a/annabel/", "/a/b-anna/", "/b/"):
        await of.put(f"put into {namespace}", namespace)
    proof = await of.erase("anna")
    assert proof["erased"]["records"] == 2
    assert sorted(await of.texts()) == [
        "put into /a/annabel/", "put into /a/b-anna/", "put into /b/",
    ]  # fmt: skip


async def test_a_person_whose_id_begins_with_anothers_stays(
    ground: PersonGround, tenant: str
) -> None:
    of = ground.of(ground.memory(tenant))
    for minute, who in enumerate(("org/anna", "org", "org/anna/2")):
        await of.say(f"name{minute} is {who}", minute=minute, actor=who)
    await of.learn()
    proof = await of.erase("org/anna")
    assert (proof["state"], proof["erased"]["events"], proof["erased"]["turns"]) == ("DONE", 1, 1)
    assert await of.texts() == ["name1 is org", "name2 is org/anna/2"]


async def test_what_waits_and_what_failed_goes(alone: Make, tenant: str) -> None:
    g = await alone(model=ModelDouble(*["no JSON"] * 5))
    of = g.of(g.memory(tenant))
    await of.say("city is Rome")
    await of.learn()
    assert len(await of.rows("SELECT FROM memory_extraction_failures"
                             " WHERE memory_id = %(memory)s")) == 1  # fmt: skip
    await of.say("dog is Rex")
    proof = await of.erase("anna")
    assert (proof["erased"]["failedJobs"], proof["erased"]["queued"]) == (1, 1)
    assert proof["left"] == nothing()


async def test_what_jobs_remember_goes(ground: PersonGround, tenant: str) -> None:
    of = ground.of(ground.memory(tenant))
    place = {"tenant": tenant, "memory_id": of.memory.id, "strategy_id": "s", "session_id": "s1"}
    for who in ("anna", "bob"):
        await ground.jobs.enqueue(
            "memory-extraction", {"place": {**place, "actor_id": who}, "job_id": "none"},
            id=f"{tenant}-{who}",
        )  # fmt: skip
    proof = await of.erase("anna")
    assert proof["erased"]["jobs"] == 1
    left = await of.rows("SELECT id FROM jobs WHERE id LIKE %(of)s", of=f"{tenant}-%")
    assert left == [(f"{tenant}-bob",)]


# -- what happens meanwhile


class Held(Steps):
    """Stops before a step until it is let go."""

    def __init__(self, steps: Steps, name: str) -> None:
        self.__dict__.update(steps.__dict__)
        self.reached, self.go = asyncio.Event(), asyncio.Event()
        real = getattr(self, name)

        async def held(person: Any) -> None:
            self.reached.set()
            async with asyncio.timeout(60):
                await self.go.wait()
            await real(person)

        setattr(self, name, held)


@asynccontextmanager
async def holding(ground: PersonGround, name: str) -> Any:
    steps = Held(ground.steps, name)
    ground.erasures._steps = steps
    try:
        yield steps
    finally:
        steps.go.set()
        ground.erasures._steps = ground.steps


async def test_what_they_say_meanwhile_is_refused(ground: PersonGround, tenant: str) -> None:
    of = ground.of(ground.memory(tenant))
    await of.say("city is Rome")
    said = {
        "memoryId": of.memory.id, "sessionId": "s9", "eventTimestamp": START,
        "payload": [{"conversational": {"role": "USER", "content": {"text": "and then"}}}],
    }  # fmt: skip
    async with holding(ground, "retrievals") as steps:
        begun = await of.begin("anna")
        async with asyncio.timeout(60):
            await steps.reached.wait()
        message = await refused(of.client.create_event(actorId="anna", **said), "ConflictException")
        assert "erased" in message
        await of.client.create_event(actorId="bob", **said)
        again = await of.begin("anna")
        assert again["erasureId"] == begun["erasureId"]
        assert again["state"] == "RUNNING"
    assert (await of.ended(begun))["erased"]["events"] == 1
    await of.client.create_event(actorId="anna", **said)
    assert len(await of.rows("SELECT FROM memory_sessions WHERE memory_id = %(memory)s")) == 2


async def test_what_is_just_being_said_is_erased_too(
    ground: PersonGround, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = ground.of(ground.memory(tenant))
    saying, go, said = asyncio.Event(), asyncio.Event(), ground.turns.said

    async def slowly(*given: Any) -> None:
        saying.set()
        async with asyncio.timeout(60):
            await go.wait()
        await said(*given)

    monkeypatch.setattr(ground.turns, "said", slowly)
    talking = asyncio.create_task(of.say("city is Rome"))
    async with asyncio.timeout(60):
        await saying.wait()
    async with holding(ground, "queue") as steps:
        begun = await of.begin("anna")
        with pytest.raises(TimeoutError):  # it waits for whoever speaks
            async with asyncio.timeout(0.5):
                await steps.reached.wait()
        go.set()
        await talking
    proof = await of.ended(begun)
    assert (proof["erased"]["events"], proof["erased"]["turns"]) == (1, 1)
    assert proof["left"] == nothing()


async def test_what_is_being_learned_of_them_is_not_written(alone: Make, tenant: str) -> None:
    reached, go = asyncio.Event(), asyncio.Event()

    async def slowly(document: dict[str, Any]) -> str:
        reached.set()
        async with asyncio.timeout(60):
            await go.wait()
        return '{"items": [{"text": "city is Rome", "from": [1]}]}'

    slow = await alone(model=ModelDouble(slowly))
    of = slow.of(slow.memory(tenant))
    await of.say("city is Rome")
    learning = asyncio.create_task(of.learn())
    async with asyncio.timeout(60):
        await reached.wait()
    proof = await of.erase("anna")
    go.set()
    await learning
    assert (proof["state"], proof["erased"]["queued"]) == ("DONE", 1)
    assert await of.all() == []


async def test_a_search_that_was_answered_meanwhile_leaves_no_line(
    ground: PersonGround, tenant: str
) -> None:
    of = ground.of(ground.memory(tenant))
    await of.put("likes tea", "/actors/anna/")
    async with holding(ground, "index") as steps:
        begun = await of.begin("anna")
        async with asyncio.timeout(60):
            await steps.reached.wait()
        await of.find("tea", namespace="/actors/anna/")
        await ground.log.written()
    assert (await of.ended(begun))["left"] == nothing()
    assert await of.rows("SELECT FROM memory_retrievals WHERE memory_id = %(memory)s") == []


# -- what self-managed strategies were given


class Told:
    """`ports.Topics`."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    async def tell(self, tenant: str, arn: str, message: Any, *, id: str) -> None:
        self.messages.append(message)


async def test_payloads_in_the_bucket_go(alone: Make, tenant: str) -> None:
    arn = f"arn:aws:lambda:us-east-1:{tenant}:function:learn"
    g = await alone(topics=Told())
    of = g.of(g.memory(tenant, strategies=(managed(arn, messages=1),)))
    await g.blobs.create_bucket(tenant, BUCKET)
    await of.say("city is Rome")
    await of.say("dog is Rex", actor="bob")
    await of.learn()
    before = [blob.key for blob in (await g.blobs.list(tenant, BUCKET)).items]
    assert len(before) == 2
    proof = await of.erase("anna")
    assert proof["erased"]["payloads"] == 1
    [left] = (await g.blobs.list(tenant, BUCKET)).items
    _, chunks = await g.blobs.get(tenant, BUCKET, left.key)
    assert b'"actorId":"bob"' in b"".join([chunk async for chunk in chunks])


async def test_a_delivery_of_whom_was_erased_puts_nothing_there(
    alone: Make, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arn, told = f"arn:aws:lambda:us-east-1:{tenant}:function:learn", Told()
    g = await alone(topics=told)
    of = g.of(g.memory(tenant, strategies=(managed(arn, messages=1),)))
    await g.blobs.create_bucket(tenant, BUCKET)
    await of.say("city is Rome")
    notes = g.extraction._payloads
    putting, erased = notes.putting, False

    @asynccontextmanager
    async def late(*given: Any) -> Any:
        nonlocal erased
        if not erased:
            erased = True
            assert (await of.erase("anna"))["state"] == "DONE"
        async with putting(*given) as may:
            yield may

    monkeypatch.setattr(notes, "putting", late)
    await of.learn()
    assert erased and told.messages == []
    assert (await g.blobs.list(tenant, BUCKET)).items == []
    assert await of.rows("SELECT FROM memory_payloads WHERE memory_id = %(memory)s") == []


@pytest.mark.slow
def test_a_whole_platform_tells_who_was_given_what_and_erases(platform: RunningPlatform) -> None:
    control, data = (platform.client(f"bedrock-agentcore{part}") for part in ("-control", ""))
    memory = control.create_memory(
        name="persons", eventExpiryDuration=7, tags={"freehold:turns": "on"}
    )["memory"]["id"]
    data.create_event(
        memoryId=memory, actorId="anna", sessionId="s1", eventTimestamp=START,
        payload=[{"conversational": {"role": "USER", "content": {"text": "My dog is Rex."}}}],
    )  # fmt: skip
    [found] = data.retrieve_memory_records(
        memoryId=memory, namespacePath="/turns/actors/anna/", searchCriteria={"searchQuery": "dog"}
    )["memoryRecordSummaries"]
    id, path = found["memoryRecordId"], f"/memories/{memory}"

    def lines() -> Any:
        return platform.own(f"{path}/records/{id}/provenance")["retrievals"]

    until(lambda: bool(lines()))
    [line] = lines()
    assert (line["query"], line["records"][0]["recordId"]) == ("dog", id)
    begun = platform.own(f"{path}/erasures", method="POST", body={"actorId": "anna"})

    def proof() -> Any:
        return platform.own(f"{path}/erasures/{begun['erasureId']}")

    until(lambda: proof()["state"] != "RUNNING")
    assert (proof()["state"], proof()["left"]) == ("DONE", nothing())
    assert proof()["digest"] == digest(f"event {event_of(id)}", "session s1", f"turn {id}")
    assert data.list_actors(memoryId=memory)["actorSummaries"] == []
    control.delete_memory(memoryId=memory)


def event_of(turn: str) -> str:
    """The id of the event that a turn is of."""
    _, _, moment, arrival, _ = turn.split("-")
    return f"{moment}#{arrival}"
