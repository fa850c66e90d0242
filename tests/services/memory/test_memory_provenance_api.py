"""Where a record comes from, what was so before it, and who was given it: by our own API."""

import itertools
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from person_ground import PersonGround

from freehold.adapters.postgres.pool import PostgresDatabase


@pytest.fixture(scope="module")
async def ground(
    database: PostgresDatabase, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Any]:
    state = tmp_path_factory.mktemp("provenance")
    async with PersonGround(database, state, executor="provenance").open() as opened:
        yield opened


async def learned(ground: PersonGround, tenant: str) -> Any:
    """A city that changed twice, in the order in which it was said."""
    of = ground.of(ground.memory(tenant))
    for minute, city in enumerate(("Paris", "Rome", "Oslo")):
        await of.say(f"city is {city}", ("ASSISTANT", "noted"), minute=minute)
        await of.learn()
    cities = [record for record in await of.all() if record.text.startswith("city")]
    return of, [record.id for record in cities]


async def test_a_record_shows_the_message_it_comes_from(ground: PersonGround, tenant: str) -> None:
    of, [_, rome, _] = await learned(ground, tenant)
    shown = await of.get(f"/records/{rome}/provenance")
    [source] = shown["sources"]
    event = await ground.events.get(tenant, of.memory.id, "anna", "s1", source["eventId"])
    assert source == {
        "eventId": event.id, "index": 0, "actorId": "anna", "sessionId": "s1", "gone": False,
        "at": "2026-01-01T00:01:00Z", "role": "USER", "text": "city is Rome",
    }  # fmt: skip
    assert shown["record"]["text"] == "city is Rome"
    assert shown["record"]["namespaces"] == ["/facts/anna/"]


async def test_a_record_shows_what_it_replaced_and_what_replaced_it(
    ground: PersonGround, tenant: str
) -> None:
    of, [paris, rome, oslo] = await learned(ground, tenant)
    shown = await of.get(f"/records/{rome}/provenance")
    assert [each["recordId"] for each in shown["supersedes"]] == [paris]
    assert shown["supersededBy"]["recordId"] == oslo
    assert shown["record"]["supersededBy"] == oslo
    assert shown["record"]["validUntil"] == shown["supersededBy"]["validFrom"]
    newest = await of.get(f"/records/{oslo}/provenance")
    assert newest["supersededBy"] is None and "validUntil" not in newest["record"]


async def test_a_message_that_is_gone_is_named_without_its_words(
    ground: PersonGround, tenant: str
) -> None:
    of = ground.of(ground.memory(tenant, expiry_days=3))
    event = await of.say("city is Rome")
    await of.learn()
    [record] = await of.all()
    ground.clock.ahead = timedelta(days=4)
    try:
        shown = await of.get(f"/records/{record.id}/provenance")
    finally:
        ground.clock.ahead = timedelta()
    assert shown["sources"] == [
        {"eventId": event.id, "index": 0, "actorId": "anna", "sessionId": "s1", "gone": True}
    ]


async def test_a_raw_turn_comes_from_its_message(ground: PersonGround, tenant: str) -> None:
    of = ground.of(ground.memory(tenant))
    event = await of.say("hello", "city is Rome")
    turns = await of.find("city", namespacePath="/turns/actors/anna/")
    shown = await of.get(f"/records/{turns[0]}/provenance")
    [source] = shown["sources"]
    assert (source["eventId"], source["index"], source["text"]) == (event.id, 1, "city is Rome")
    assert shown["supersedes"] == [] and shown["supersededBy"] is None


async def test_what_was_put_there_comes_from_nothing(ground: PersonGround, tenant: str) -> None:
    of = ground.of(ground.memory(tenant))
    id = await of.put("likes tea", "/actors/anna/")
    shown = await of.get(f"/records/{id}/provenance")
    assert (shown["sources"], shown["retrievals"], shown["nextToken"]) == ([], [], None)


async def test_a_record_shows_who_was_given_it(ground: PersonGround, tenant: str) -> None:
    of = ground.of(ground.memory(tenant))
    id = await of.put("likes tea", "/a/")
    for n in range(25):
        await of.find(f"tea {n}", namespace="/a/")
    await ground.log.written()
    first = await of.get(f"/records/{id}/provenance")
    rest = await of.get(f"/records/{id}/provenance", nextToken=first["nextToken"])
    queries = [line["query"] for line in first["retrievals"] + rest["retrievals"]]
    assert queries == [f"tea {n}" for n in reversed(range(25))]
    assert rest["nextToken"] is None


async def test_a_record_that_is_not_there_is_not_found(ground: PersonGround, tenant: str) -> None:
    of = ground.of(ground.memory(tenant))
    id = await of.put("likes tea", "/a/")
    for path, whose in ((f"/records/{id}x/provenance", tenant),
                        (f"/records/{id}/provenance", "999900009999")):  # fmt: skip
        status, answer = await of.ask(path, tenant=whose)
        assert (status, answer["error"]["code"]) == (404, "ResourceNotFoundException")


# -- history


async def test_history_has_what_is_no_longer_so_newest_first(
    ground: PersonGround, tenant: str
) -> None:
    of, [paris, rome, oslo] = await learned(ground, tenant)
    tea = await of.put("likes tea", "/facts/anna/drinks/")
    page = await of.get("/history")
    found = [each["recordId"] for each in page["records"] if each["text"] != "noted"]
    assert found == [tea, oslo, rome, paris]
    page = await of.get("/history", namespace="/facts/anna")
    assert tea not in [each["recordId"] for each in page["records"]]
    page = await of.get("/history", namespacePath="/facts/")
    found = [each["recordId"] for each in page["records"]]
    assert tea in found and len(set(found)) == len(found)


async def test_pages_of_history_have_each_record_once(ground: PersonGround, tenant: str) -> None:
    of, _ = await learned(ground, tenant)
    whole = [each["recordId"] for each in (await of.get("/history"))["records"]]
    found: list[str] = []
    token: dict[str, str] = {}
    for _ in itertools.count():
        page = await of.get("/history", maxResults=2, **token)
        found += [each["recordId"] for each in page["records"]]
        if "nextToken" not in page:
            break
        token = {"nextToken": page["nextToken"]}
    assert found == whole and len(whole) >= 4


async def test_a_search_of_history_is_best_first_and_is_noted(
    ground: PersonGround, tenant: str
) -> None:
    of, [_, rome, _] = await learned(ground, tenant)
    page = await of.get("/history", query="city Rome", namespacePath="/facts/", maxResults=2)
    best, second = page["records"]
    assert best["recordId"] == rome and best["score"] >= second["score"] > 0
    rest = await of.get("/history", query="city Rome", namespacePath="/facts/", maxResults=2,
                        nextToken=page["nextToken"])  # fmt: skip
    assert {each["text"] for each in rest["records"]} & {"city is Paris", "city is Oslo"}
    line = (await of.retrievals())[1]
    assert (line["operation"], line["query"]) == ("ListMemoryHistory", "city Rome")
    assert [each["recordId"] for each in line["records"]] == [best["recordId"], second["recordId"]]


@pytest.mark.parametrize(
    "asked",
    [
        {"namespace": "/a/", "namespacePath": "/b/"}, {"nextToken": "x"}, {"query": ""},
        {"maxResults": 0}, {"query": "a", "nextToken": "x"},
    ],
)  # fmt: skip
async def test_history_that_makes_no_sense_is_refused(
    ground: PersonGround, tenant: str, asked: dict[str, Any]
) -> None:
    of = ground.of(ground.memory(tenant))
    status, answer = await of.ask("/history", **asked)
    assert (status, answer["error"]["code"]) == (400, "ValidationException")


async def test_a_token_of_another_memory_is_refused(ground: PersonGround, tenant: str) -> None:
    of, _ = await learned(ground, tenant)
    token = (await of.get("/history", maxResults=1))["nextToken"]
    other = ground.of(ground.memory(tenant))
    assert (await other.ask("/history", nextToken=token))[0] == 400
    assert (await of.ask("/history", nextToken=token))[0] == 200
