"""Whatever happens to records, lists, searches and provenance agree about what there is."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from record_ground import AT, OfMemory, RecordGround

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.services.memory.model import Record
from freehold.services.memory.ports import Where
from freehold.services.memory.records import Change

PLACES = ("/a/", "/a/b/", "/ab/")
EVENTS = tuple(f"00000000000000{n}#00000001" for n in range(4))

IDS = st.integers(0, 4)
STEPS = st.one_of(
    st.tuples(
        st.just("put"), IDS, st.sets(st.sampled_from(PLACES), min_size=1),
        st.sets(st.sampled_from(EVENTS)),
    ),
    st.tuples(st.just("update"), IDS, st.sets(st.sampled_from(PLACES), min_size=1)),
    st.tuples(st.just("supersede"), IDS, IDS),
    st.tuples(st.just("remove"), IDS),
    st.tuples(st.just("fail"), IDS),
)  # fmt: skip


@pytest.fixture(scope="module")
async def ground(
    database: PostgresDatabase, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RecordGround]:
    state = tmp_path_factory.mktemp("histories")
    async with RecordGround(database, state, "histories").open() as opened:
        yield opened


class Expected:
    """The records that there should be, by id."""

    def __init__(self, of: OfMemory) -> None:
        self.of, self.there = of, dict[str, Record]()

    def current(self, place: str, *, below: bool) -> set[str]:
        return {
            record.id
            for record in self.there.values()
            if record.valid_until is None
            and any(
                name.startswith(place) if below else name == place for name in record.namespaces
            )
        }

    def from_event(self, event: str) -> set[str]:
        return {
            record.id
            for record in self.there.values()
            if event in {source.event_id for source in record.sources}
        }


async def step(ground: RecordGround, expected: Expected, action: Sequence[Any]) -> None:
    of, there = expected.of, expected.there
    kind, number, *more = action
    id = of.record(str(number), "").id
    if kind == "put":
        places, events = more
        record = of.record(
            str(number), f"fact {number}", *sorted(events), namespaces=tuple(sorted(places))
        )
        await of.put(record)
        there[id] = record
    elif kind == "update":
        places = tuple(sorted(more[0]))
        failures = await ground.records.update(
            of.memory, [Change(id=id, at=AT, text="fact anew", namespaces=places)]
        )
        assert failures.keys() == {id} - there.keys()
        if id in there:
            there[id] = msgspec.structs.replace(there[id], namespaces=places, text="fact anew")
    elif kind == "supersede":
        async with ground.database.transaction() as connection:
            await ground.records.supersede(connection, of.memory, id, "mem-other", AT)
        if id in there:
            there[id] = msgspec.structs.replace(there[id], valid_until=AT)
    elif kind == "remove":
        failures = await ground.records.delete(of.memory, {id: ""})
        assert failures.keys() == {id} - there.keys()
        there.pop(id, None)
    else:
        with pytest.raises(ZeroDivisionError):
            async with ground.database.transaction() as connection:
                await ground.records.remove(connection, of.memory, [id])
                await ground.records.put(connection, of.memory, [of.record("9", "fact nine")])
                raise ZeroDivisionError


async def check(ground: RecordGround, expected: Expected) -> None:
    memory = expected.of.memory
    for place in (*PLACES, "/"):
        for below in (False, True):
            where = Where(path=place) if below else Where(namespace=place)
            listed = [record.id async for record in ground.records.every(memory, where)]
            hits = await ground.index.search(memory, where, "fact", 100)
            current = expected.current(place, below=below)
            assert sorted(listed) == sorted(current)
            assert sorted(hit.id for hit in hits) == sorted(current)
    everything = Where(path="/", current=False)
    history = [record.id async for record in ground.records.every(memory, everything)]
    assert sorted(history) == sorted(expected.there)
    for event in EVENTS:
        found = await ground.records.from_events(memory, [event])
        assert {record.id for record in found} == expected.from_event(event)
    stored = await ground.records.read(memory, sorted(expected.there))
    for id, record in expected.there.items():
        assert (stored[id].text, stored[id].sources) == (record.text, record.sources)


@settings(
    max_examples=20, deadline=timedelta(seconds=20),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(steps=st.lists(STEPS, min_size=3, max_size=12))
async def test_lists_searches_and_provenance_agree_after_any_history(
    ground: RecordGround, tenant: str, steps: list[Sequence[Any]]
) -> None:
    expected = Expected(ground.of(ground.memory(tenant)))
    for action in steps:
        await step(ground, expected, action)
    await check(ground, expected)
