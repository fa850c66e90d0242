"""Views of a unit, and their fusion: properties that hold whatever the texts are."""

import math
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.services.memory.index import fusion, views
from freehold.services.memory.index.analysis import terms
from freehold.services.memory.index.queries import Query, understand
from freehold.services.memory.index.views import K1, B, Found, Statistics

QUERY = Query(text="red boat", terms=("red", "boat"), vector_texts=("red boat",))


def found(id: str, text: str = "", **of: object) -> Found:
    counts = Counter(terms(text))
    return Found(id=id, length=counts.total(), counts=counts, **of)  # type: ignore[arg-type]


def statistics(units: Sequence[Found], query: Query = QUERY) -> Statistics:
    return Statistics(
        units=len(units),
        terms=sum(unit.length for unit in units),
        having={term: sum(term in unit.counts for unit in units) for term in query.terms},
    )


def ranked(units: Sequence[Found], query: Query = QUERY) -> dict[str, float]:
    return dict(fusion.ranked(query, units, statistics(units, query)))


@st.composite
def conversations(draw: st.DrawFn) -> list[Found]:
    """Turns of some sessions with gaps, and records; some have vectors."""
    places = draw(
        st.lists(st.tuples(st.sampled_from("abc "), st.integers(0, 12)), max_size=20, unique=True)
    )
    word = st.sampled_from(["red", "boat", "house", "sky", "run"])
    return [
        found(
            f"{group}{place}",
            " ".join(draw(st.lists(word, max_size=6))),
            cosine=draw(st.none() | st.floats(-1, 1, width=32)),
            speaker=draw(st.sampled_from(["Ana", "Ben"])) if group != " " else "",
            group=group.strip(),
            place=place,
        )
        for group, place in places
    ]


@given(conversations())
def test_scores_are_shares_and_the_best_comes_first(units: list[Found]) -> None:
    scores = [score for _, score in fusion.ranked(QUERY, units, statistics(units))]
    assert len(scores) == len(units)
    assert all(0 <= score <= 1 + 1e-9 for score in scores)
    assert scores == sorted(scores, reverse=True)


@given(conversations(), st.randoms(use_true_random=False))
def test_the_order_in_which_units_are_given_changes_nothing(
    units: list[Found], random: "st.random_module"
) -> None:
    shuffled = units.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    numbers = statistics(units)
    assert fusion.ranked(QUERY, shuffled, numbers) == fusion.ranked(QUERY, units, numbers)


@given(conversations())
def test_a_text_that_matches_nothing_changes_no_score(units: list[Found]) -> None:
    numbers = statistics(units)
    cosine = 0.0 if any(unit.cosine is not None for unit in units) else None
    more = [*units, found("zz", "nothing", cosine=cosine, group="z")]
    before, after = (dict(fusion.ranked(QUERY, some, numbers)) for some in (units, more))
    assert after.pop("zz") == 0
    assert after == pytest.approx(before)


@given(conversations(), st.integers(0, 19), st.floats(0.01, 1))
def test_a_nearer_meaning_never_ranks_a_unit_lower(
    units: list[Found], which: int, more: float
) -> None:
    if not units:
        return
    numbers = statistics(units)
    unit = units[which % len(units)]
    if unit.cosine is None:
        return
    cosine = min(1.0, unit.cosine + more)
    nearer = [Found(**{**as_dict(u), "cosine": cosine}) if u is unit else u for u in units]
    alone = [u for u in units if u.group != unit.group or not u.group]
    if any(u.cosine is not None for u in alone):
        before = fusion.ranked(QUERY, units, numbers)
        after = fusion.ranked(QUERY, nearer, numbers)
        # Neighbours gain by it too; those of no such session are the ones to compare with.
        others = {u.id for u in alone} - {unit.id}
        assert rank(after, unit.id, others) <= rank(before, unit.id, others)


def as_dict(unit: Found) -> dict[str, object]:
    return {name: getattr(unit, name) for name in unit.__struct_fields__}


def rank(order: Sequence[tuple[str, float]], id: str, others: set[str]) -> int:
    own = dict(order)[id]
    return sum(score > own + 1e-9 for other, score in order if other in others)


def test_words_are_true_bm25() -> None:
    units = [found("1", "red boat boat"), found("2", "red sky house run"), found("3", "sky")]
    numbers = statistics(units)
    mean = 8 / 3
    expected = 0.0
    for frequency, having in ((1, 2), (2, 1)):  # red, boat
        rarity = math.log(1 + (3 - having + 0.5) / (having + 0.5))
        expected += rarity * frequency / (frequency + K1 * (1 - B + B * 3 / mean))
    whole = sum(math.log(1 + (3 - having + 0.5) / (having + 0.5)) for having in (2, 1)) / (1 + K1)
    assert views.scores(QUERY, units, numbers)["words"]["1"] == pytest.approx(expected / whole)


def test_a_text_of_usual_length_with_every_word_once_is_a_whole_match() -> None:
    units = [found("1", "red boat"), found("2", "sky house")]
    assert views.scores(QUERY, units, statistics(units))["words"]["1"] == pytest.approx(1)


def test_an_answer_is_found_by_the_words_of_its_question() -> None:
    turns = [
        found("far", "sky", group="s", place=0),
        found("asked", "which boat red", group="s", place=10),
        found("answer", "Perpetua", group="s", place=11),
        found("later", "sky", group="s", place=13),
    ]
    seen = views.scores(QUERY, turns, statistics(turns))
    assert seen["words"]["answer"] == 0 < seen["words±1"]["answer"]
    assert seen["words±1"]["later"] == 0
    assert seen["words±2"]["far"] == 0
    scores = ranked(turns)
    assert scores["asked"] > scores["answer"] > scores["far"]


def test_neighbours_are_those_of_the_same_session_only() -> None:
    turns = [found("1", "red boat", group="s", place=3), found("2", "sky", group="t", place=4)]
    assert ranked(turns)["2"] == 0


def test_a_record_has_no_neighbours() -> None:
    records = [found("1", "red boat"), found("2", "sky"), found("3", "house")]
    seen = views.scores(QUERY, records, statistics(records))
    assert seen["words"] == seen["words±1"] == seen["words±2"]


def test_meaning_decides_where_the_words_say_little() -> None:
    query = understand("Which vessel does she restore by herself?")
    units = [
        found("words", "I do it all by herself sky", cosine=0.1),
        found("meaning", "my old sailing boat gets new planks", cosine=0.6),
        found("neither", "sky", cosine=0.1),
    ]
    assert ranked(units, query)["meaning"] > ranked(units, query)["words"]


def test_without_vectors_words_decide() -> None:
    units = [found("1", "red boat"), found("2", "red"), found("3", "sky")]
    assert list(ranked(units)) == ["1", "2", "3"]


def test_a_unit_whose_vector_is_still_to_come_is_found_by_its_words() -> None:
    units = [found("new", "red boat"), found("old", "sky", cosine=0.3)]
    assert ranked(units)["new"] > 0


@given(
    st.lists(st.sampled_from(["sky", "house", "run"]), min_size=1, max_size=6),
    st.floats(0, 1, width=32),
)
def test_having_a_vector_already_lifts_no_unit_over_a_whole_match(
    words: list[str], cosine: float
) -> None:
    units = [found("new", "red boat"), found("old", " ".join(words), cosine=cosine)]
    assert ranked(units)["new"] > ranked(units)["old"]


def test_of_two_equal_turns_that_of_the_named_speaker_comes_first() -> None:
    query = understand("Who painted Ben's boat red?", speakers=["Ana", "Ben"])
    units = [
        found("a", "red boat", speaker="Ana", group="s", place=0),
        found("b", "red boat", speaker="Ben", group="s", place=9),
    ]
    assert list(ranked(units, query)) == ["b", "a"]


def test_what_another_said_wins_where_it_fits_much_better() -> None:
    query = understand("Who painted Ben's boat red?", speakers=["Ana", "Ben"])
    units = [
        found("a", "painted your boat red", speaker="Ana", cosine=0.7, group="s", place=0),
        found("b", "good morning", speaker="Ben", cosine=0.2, group="s", place=9),
    ]
    assert list(ranked(units, query)) == ["a", "b"]


def test_a_record_that_names_whom_the_question_names_counts_as_theirs() -> None:
    query = understand("What colour has Ben's boat?", speakers=["Ana", "Ben"])
    units = [found("b", "Ben has a red boat"), found("a", "Eva has a red boat")]
    gap = ranked(units, query)
    assert gap["b"] > gap["a"]


def test_of_several_days_that_would_do_one_is_enough() -> None:
    query = Query(text="", terms=("sail", "@1", "@2"), vector_texts=("",), dates=("@1", "@2"))
    units = [
        Found(id="1", length=2, counts={"sail": 1, "@1": 1}),
        Found(id="2", length=2, counts={"sky": 1, "@3": 1}),
    ]
    assert views.scores(query, units, statistics(units, query))["words"]["1"] == pytest.approx(1)


def test_nothing_is_found_among_nothing() -> None:
    assert fusion.ranked(QUERY, [], Statistics(units=0, terms=0, having={})) == []
    assert fusion.fused({}) == {}


def test_a_question_without_a_term_ranks_by_meaning() -> None:
    query = understand("")
    units = [found("1", "red", cosine=0.2), found("2", "sky", cosine=0.4)]
    assert list(ranked(units, query)) == ["2", "1"]
