"""A search answers as a few plain lines of Python do that look at every text of its namespace."""

import itertools
import math
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from index_ground import WordVectors, memory_of, put, unit

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.services.memory.index import (
    analysis,
    fusion,
    nearest,
    postings,
    queries,
    service,
    store,
    vectors,
    views,
)
from freehold.services.memory.index.bm25 import POSTING, Listed, Postings
from freehold.services.memory.index.candidates import Candidates
from freehold.services.memory.index.filling import Filling
from freehold.services.memory.index.nearest import Cosines
from freehold.services.memory.index.queries import Query
from freehold.services.memory.index.service import MemoryIndex
from freehold.services.memory.index.store import Around
from freehold.services.memory.index.views import K1, B, Statistics
from freehold.services.memory.ports import Unit, Where

WORDS = ("tea", "coffee", "lisbon", "car", "automobile", "kitten", "rain", "bread", "Ana")
TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join)
# A session "" has none: records, which stand alone.
TURNS = st.lists(
    st.tuples(st.sampled_from(["", "s1", "s2"]), st.sampled_from(["Ana", "Ben"]), TEXTS),
    min_size=1,
    max_size=24,
)

LONG = st.lists(
    st.tuples(st.sampled_from(["s1", "s1", "s1", ""]), st.just("Ana"), TEXTS), min_size=20
)


def units_of(turns: Sequence[tuple[str, str, str]]) -> list[Unit]:
    return [
        unit(f"r{n:02}", text, speaker=speaker if session else "", group=session, order=f"{n:02}")
        for n, (session, speaker, text) in enumerate(turns)
    ]


Near = Callable[[Unit, int], list[Unit]]
"""A unit and its neighbours on both sides, as many as asked for."""


def near_in(units: list[Unit]) -> Near:
    def near(one: Unit, reach: int) -> list[Unit]:
        session = [other for other in units if other.group == one.group] if one.group else [one]
        at = session.index(one)
        return session[max(0, at - reach) : at + reach + 1]

    return near


def plain_scores(
    units: list[Unit], query: Query, cosines: dict[str, float], near: Near
) -> dict[str, float]:
    """Of units that are all there are, and all looked at."""
    texts = {unit.id: Counter(analysis.unit_terms(unit)) for unit in units}
    usual = sum(text.total() for text in texts.values()) / len(texts)
    having = {term: sum(term in text for text in texts.values()) for term in query.terms}
    rarity = {
        term: math.log(1 + (len(units) - many + 0.5) / (many + 0.5))
        for term, many in having.items()
    }
    whole = sum(rarity.values()) / (1 + K1)

    def words(near: list[Unit]) -> float:
        counts = sum((texts[one.id] for one in near), Counter[str]())
        length = counts.total() / len(near) / usual
        norm = K1 * (1 - B + B * length)
        return sum(rarity[t] * counts[t] / (counts[t] + norm) for t in query.terms) / whole

    scores = dict.fromkeys(texts, 0.0)
    for view in views.VIEWS:
        of_view = {}
        for one in units:
            some = near(one, view.reach)
            means = [cosines[other.id] for other in some]
            of_view[one.id] = words(some) if view in views.WORDS else sum(means) / len(means)
        best = max(*of_view.values(), 1.0 if view in views.WORDS else 0.0, 0.0)
        for id, score in of_view.items():
            scores[id] += view.weight * max(0.0, score) / best if best else 0.0
    for one in units if query.speakers else ():
        named = one.speaker in query.speakers
        named |= not one.speaker and any(name.lower() in texts[one.id] for name in query.speakers)
        boost = fusion.SPEAKER_BOOST
        scores[one.id] = (scores[one.id] + boost * named) / (1 + boost)
    return scores


async def plain_cosines(
    units: list[Unit], query: Query, embeddings: WordVectors
) -> dict[str, float]:
    """Of vectors as they are stored: in 16 bits."""
    texts = [analysis.embedded_text(unit.speaker, unit.text) for unit in units]
    rows = np.rint(await embeddings.embed([*query.vector_texts, *texts]) * 30_000)
    rows = rows.astype(np.float16).astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return dict(zip([unit.id for unit in units], (rows[1:] @ rows[0]).tolist(), strict=True))


@pytest.mark.parametrize(("all_max", "scanned_max"), [(2_000, 10_000), (0, 10_000), (0, 2)])
@given(turns=TURNS, words=TEXTS, limit=st.integers(1, 30))
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_a_search_answers_as_a_plain_look_at_every_text(
    index_database: PostgresDatabase,
    all_max: int,
    scanned_max: int,
    turns: list[tuple[str, str, str]],
    words: str,
    limit: int,
) -> None:
    """In a small namespace, in one of which only the nearest are taken, and in one with a graph."""
    memory, embeddings = memory_of(secrets.token_hex(6)), WordVectors()
    units = units_of(turns)
    index = MemoryIndex(index_database, embeddings)
    with pytest.MonkeyPatch.context() as sizes:
        sizes.setattr(nearest, "ALL_MAX", all_max)
        sizes.setattr(vectors, "SCANNED_MAX", scanned_max)
        await put(index_database, index, memory, *units)
        filling = Filling(index_database, embeddings)
        async with index_database.connection() as connection:
            (place,), _ = await store.read(connection, memory, Where(path="/"), [])
            await postings.leave_untidy(connection, [place.no])
        await filling.tidy()
        await filling.fill()
        async with index_database.connection() as connection:
            (place,), _ = await store.read(connection, memory, Where(path="/"), [])
        assert (place.graph == 2) == (len(units) > scanned_max)
        answer = await index.answer(memory, Where(namespace="/a/"), words, limit)
    assert not answer.without
    speakers = sorted({unit.speaker for unit in units if unit.speaker})
    query = queries.understand(words, speakers=speakers)
    cosines = await plain_cosines(units, query, embeddings)
    expected = plain_scores(units, query, cosines, near_in(units))
    best = sorted(expected.values(), reverse=True)[:limit]
    assert [hit.score for hit in answer.hits] == pytest.approx(best, abs=1e-3)
    found = {hit.id: hit.score for hit in answer.hits}
    assert found == pytest.approx({id: expected[id] for id in found}, abs=1e-3)


@given(texts=st.lists(TEXTS, min_size=1, max_size=5), words=TEXTS)
@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_what_stands_beside_the_best_counts_with_its_meaning_too(
    index_database: PostgresDatabase, texts: list[str], words: str
) -> None:
    """One unit is the nearest; the others of its session are seen only as its neighbours."""
    memory, embeddings = memory_of(secrets.token_hex(6)), WordVectors()
    units = units_of([("s1", "Ana", text) for text in texts])
    index = MemoryIndex(index_database, embeddings)
    await put(index_database, index, memory, *units)
    await Filling(index_database, embeddings).fill()
    with pytest.MonkeyPatch.context() as sizes:
        sizes.setattr(nearest, "ALL_MAX", 0)
        sizes.setattr(service, "_SEEDS_OF_MANY", 1)
        (hit,) = await index.search(memory, Where(namespace="/a/"), words, 1)
    query = queries.understand(words, speakers=["Ana"])
    cosines = await plain_cosines(units, query, embeddings)
    expected = plain_scores(units, query, cosines, near_in(units))
    assert hit.score == pytest.approx(expected[hit.id], abs=1e-3)


@given(turns=LONG, words=TEXTS, limit=st.integers(1, 30), random=st.randoms(use_true_random=False))
def test_candidates_are_scored_beside_those_neighbours_that_were_read(
    turns: list[tuple[str, str, str]], words: str, limit: int, random: Random
) -> None:
    units = units_of(turns)
    query = queries.understand(words, speakers=["Ana", "Ben"])
    asked = set(random.sample(range(len(units)), random.randint(1, min(4, len(units)))))
    left_out = {n for n in range(len(units)) if random.random() < 0.2} - asked
    near = near_in(units)
    windows = {n: [int(u.id[1:]) for u in near(units[n], 2 * views.REACH)] for n in asked}
    read = [units[n] for n in sorted(set().union(*windows.values()))]
    cosines = {unit.id: random.uniform(-1, 1) for unit in read}

    def near_read(one: Unit, reach: int) -> list[Unit]:
        """Two follow each other where one window has both of them."""
        some = near(one, reach)
        at = some.index(one)

        def joined(one: Unit, other: Unit) -> bool:
            pair = {int(one.id[1:]), int(other.id[1:])}
            return any(pair <= {*window} for window in windows.values())

        before = [*itertools.takewhile(lambda p: joined(*p), itertools.pairwise(some[at::-1]))]
        behind = [*itertools.takewhile(lambda p: joined(*p), itertools.pairwise(some[at:]))]
        return [*(b for _, b in before), one, *(b for _, b in behind)]

    rows = [(seed, n, n not in left_out) for seed, window in windows.items() for n in window]
    random.shuffle(rows)
    found = Candidates.of(_around(units, rows)).best(
        query, _postings_of(read, query), _cosines_of(cosines), limit
    )
    expected = plain_scores(read, query, cosines, near_read)
    close = {int(other.id[1:]) for n in asked for other in near(units[n], views.REACH)}
    meant = [f"r{n:02}" for n in close - left_out]
    best = sorted((expected[id] for id in meant), reverse=True)[:limit]
    assert [score for _, score in found] == pytest.approx(best)
    assert dict(found) == pytest.approx({id: expected[id] for id, _ in found})
    assert {id for id, _ in found} <= {*meant}


def _around(units: list[Unit], rows: list[tuple[int, int, bool]]) -> Around:
    some = [units[n] for _, n, _ in rows]
    return Around(
        np.array([seed for seed, _, _ in rows], np.int64),
        np.array([n for _, n, _ in rows], np.int64),
        [unit.id for unit in some],
        [unit.speaker for unit in some],
        [unit.group for unit in some],
        [unit.order for unit in some],
        np.array([len(analysis.unit_terms(unit)) for unit in some], np.int64),
        np.array([meant for _, _, meant in rows], np.bool_),
    )


def _postings_of(units: list[Unit], query: Query) -> Postings:
    texts = {int(unit.id[1:]): Counter(analysis.unit_terms(unit)) for unit in units}
    lists = {}
    for term in query.terms:
        having = sorted(no for no, text in texts.items() if term in text)
        packed = np.array([(no, texts[no][term], 0) for no in having], POSTING)
        lists[term] = Listed(np.array(having, np.int64), packed)
    terms = sum(text.total() for text in texts.values())
    many = {term: len(listed.numbers) for term, listed in lists.items()}
    return Postings(Statistics(units=len(units), terms=terms, having=many), lists)


def _cosines_of(cosines: dict[str, float]) -> Cosines:
    return Cosines.of([Cosines.listed([int(id[1:]) for id in cosines], list(cosines.values()))])


@st.composite
def lists_of_postings(draw: st.DrawFn) -> Postings:
    """Of terms that few units have, and of some that nearly all have."""
    units = draw(st.integers(1, 300))
    random = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    lists: dict[str, Any] = {}
    for term in range(draw(st.integers(1, 8))):
        share = draw(st.sampled_from([0.02, 0.2, 0.3, 0.4, 0.5, 0.9]))
        numbers = np.flatnonzero(random.random(units) < share)
        packed = np.empty(len(numbers), POSTING)
        packed["no"] = numbers
        packed["frequency"] = random.integers(1, 30, len(numbers))
        packed["length"] = random.integers(4, 8, units)[numbers]
        lists[f"t{term}"] = Listed(numbers, packed)
    having = {term: len(listed.numbers) for term, listed in lists.items()}
    return Postings(Statistics(units=units, terms=6 * units, having=having), lists)


@given(lists_of_postings(), st.integers(1, 40), st.none() | st.sets(st.integers(0, 299)))
def test_the_best_by_words_are_found_without_reading_common_terms_whole(
    read: Postings, limit: int, among: set[int] | None
) -> None:
    numbers, scores = read.scored()
    by_number = dict(zip(numbers.tolist(), scores.tolist(), strict=True))
    kept = by_number.keys() if among is None else by_number.keys() & among
    plain = sorted(kept, key=lambda no: (-by_number[no], no))[:limit]
    assert read.best(limit, None if among is None else sorted(among)) == plain
