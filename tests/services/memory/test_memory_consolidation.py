"""How new notes join those that are there, without any model and whatever one says."""

from datetime import UTC, datetime, timedelta

from freehold.services.memory.consolidation import (
    SOURCES_MAX,
    Candidate,
    Consolidation,
    chained,
    ends,
    merged,
)
from freehold.services.memory.extraction_answers import Decision
from freehold.services.memory.model import Record, Source

START = datetime(2026, 1, 1, tzinfo=UTC)
UPDATE, SKIP = Decision(action="UPDATE"), Decision(action="SKIP")


def source(minute, index=0):
    milliseconds = int((START + timedelta(minutes=minute)).timestamp() * 1000)
    return Source(event_id=f"{milliseconds:015d}#00000000", index=index)


def record(id, text, *minutes, **more):
    at = START + timedelta(minutes=max(minutes))
    fields = {"sources": tuple(source(minute) for minute in minutes), "metadata": {}, **more}
    return Record(
        tenant="t", memory_id="m", id=id, namespaces=("/",), strategy_id="s", text=text, at=at,
        created_at=at, valid_from=at, **fields,
    )  # fmt: skip


def note(text, *minutes, **more):
    return Candidate(
        text=text, sources=tuple(source(minute) for minute in minutes),
        at=START + timedelta(minutes=max(minutes)), **more,
    )  # fmt: skip


def joining(*records, strict=()):
    made = Consolidation(
        lambda each: record(
            f"new {each.text}", each.text, 0, sources=each.sources, metadata=each.strict
        ),
        strict,
    )
    made.known(records)
    return made


def test_the_same_in_other_letters_is_the_same():
    old = record("a", "Lives in  ROME!", 1)
    made = joining(old)
    assert made.duplicate(note("lives in Rome", 2), [old])
    (put,) = made.plan().puts
    assert (put.id, put.text, put.sources) == ("a", old.text, (source(1), source(2)))


def test_what_was_learned_of_the_same_messages_in_almost_the_same_words_is_known():
    old = record("a", "Anna lives in Rome now", 1)
    assert joining(old).duplicate(note("Anna now lives in Rome, Italy", 1), [old])
    assert not joining(old).duplicate(note("Anna now lives in Rome, Italy", 2), [old])
    assert not joining(old).duplicate(note("Anna has a dog", 1), [old])


def test_an_update_leaves_the_old_one_as_history():
    old = record("a", "city is Paris", 1)
    made = joining(old)
    made.decide(note("city is Rome", 2), UPDATE, "a")
    (put,), (change,) = made.plan().puts, made.plan().supersessions
    assert (put.text, change.id, change.by) == ("city is Rome", "a", put.id)


def test_what_was_said_earlier_is_history_at_once():
    current = record("a", "city is Rome", 5)
    made = joining(current)
    made.decide(note("city is Paris", 2), UPDATE, "a")
    (put,), (change,) = made.plan().puts, made.plan().supersessions
    assert (put.text, change.id, change.by, change.at) == (
        "city is Paris", put.id, "a", current.valid_from,
    )  # fmt: skip


def test_joined_words_rest_on_what_both_said():
    old = record("a", "likes hiking", 1)
    made = joining(old)
    decision = Decision(action="UPDATE", text="likes hiking in the Alps")
    made.decide(note("hikes in the Alps", 2), decision, "a")
    (put,) = made.plan().puts
    assert (put.text, put.sources) == ("likes hiking in the Alps", (source(1), source(2)))


def test_two_updates_of_one_record_follow_each_other():
    old = record("a", "city is Paris", 1)
    made = joining(old)
    first = made.decide(note("city is Rome", 2), UPDATE, "a")
    made.decide(note("city is Oslo", 3), UPDATE, "a")
    changes = {change.id: change.by for change in made.plan().supersessions}
    assert changes == {"a": first, first: "new city is Oslo"}


def test_an_update_that_says_the_same_is_none():
    old = record("a", "city is Rome", 1)
    made = joining(old)
    made.decide(note("City is Rome.", 2), UPDATE, "a")
    assert [put.id for put in made.plan().puts] == ["a"] and not made.plan().supersessions


def test_what_an_agent_repeats_is_no_further_source():
    old = record("a", "city is Rome", 1)
    made = joining(old)
    assert made.duplicate(note("city is Rome", 2, echo=True), [old])
    assert made.plan().puts == []


def test_what_must_be_consistent_keeps_records_apart():
    old = record("a", "city is Rome", 1, metadata={"team": "red"})
    made = joining(old, strict=["team"])
    other = note("city is Rome", 2, strict={"team": "blue"})
    assert not made.duplicate(other, [old])
    made.decide(other, UPDATE, "a")
    assert not made.plan().supersessions
    assert made.duplicate(note("city is Rome", 3, strict={"team": "red"}), [old])


def test_sources_of_one_record_are_bounded():
    old = record("a", "city is Rome", *range(SOURCES_MAX))
    made = joining(old)
    assert made.duplicate(note("city is Rome", 999), [old])
    assert made.plan().puts == []


def test_what_a_client_put_there_has_no_sources_afterwards_either():
    old = record("a", "city is Rome", 1, sources=())
    made = joining(old)
    made.decide(note("it is Rome", 2), SKIP, "a")
    assert made.plan().puts == []


def test_a_batch_says_each_thing_once():
    found = merged([note("a b", 3), note("c", 2), note("A  b!", 1)])
    assert [(each.text, each.sources) for each in found] == [
        ("c", (source(2),)), ("a b", (source(3), source(1))),
    ]  # fmt: skip


# -- what comes back


def test_of_several_only_the_last_comes_back():
    gone = record("c", "Rome", 3)
    paris = record("a", "Paris", 1, superseded_by="c", valid_until=START)
    berlin = record("b", "Berlin", 2, superseded_by="c", valid_until=START)
    current, changed = chained([berlin, paris], ends([gone]), {})
    assert [(each.id, each.superseded_by, each.valid_until) for each in current] == [
        ("b", "", None)
    ]
    assert [(each.id, each.by) for each in changed] == [("a", "b")]


def test_what_came_after_what_goes_takes_its_place():
    gone = [record("b", "Berlin", 2, superseded_by="c"), record("c", "Rome", 3, superseded_by="d")]
    paris = record("a", "Paris", 1, superseded_by="b", valid_until=START)
    heir = record("d", "Oslo", 4)
    current, changed = chained([paris], ends(gone), {"d": heir})
    assert current == [] and [(each.id, each.by) for each in changed] == [("a", "d")]
    current, changed = chained([paris], ends(gone), {})  # somebody deleted the heir
    assert [each.id for each in current] == ["a"] and changed == []


def test_chains_that_end_together_are_one():
    gone = [record("b", "Berlin", 2, superseded_by="c"), record("c", "Rome", 4)]
    orphans = [
        record("a", "Paris", 1, superseded_by="b", valid_until=START),
        record("x", "Bonn", 3, superseded_by="c", valid_until=START),
    ]
    current, changed = chained(orphans, ends(gone), {})
    assert [each.id for each in current] == ["x"]
    assert [(each.id, each.by) for each in changed] == [("a", "x")]
