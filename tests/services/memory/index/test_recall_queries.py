"""What a question is understood to ask: whom it is about, in whose words, of which days."""

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.services.memory.index import queries
from freehold.services.memory.index.queries import understand
from freehold.services.memory.model import QUERY_CHARACTERS_MAX

NOW = datetime(2024, 4, 21, 12, tzinfo=UTC)
FRIENDS = ("Caroline", "Melanie")
AGENT = ("user-42", "assistant", "tool")


@pytest.mark.parametrize(
    ("question", "reworded", "about"),
    [
        ("When did Caroline go to the museum?", "When did I go to the museum?", ["Caroline"]),
        ("What is Melanie's dog called?", "What is my dog called?", ["Melanie"]),
        ("What is Melanie\u2019s dog called?", "What is my dog called?", ["Melanie"]),
        (
            "What did Melanie paint for Caroline's birthday?",
            "What did I paint for your birthday?",
            ["Melanie", "Caroline"],
        ),
        ("where does caroline live", "where does I live", ["Caroline"]),
        ("What did Carolines friend say?", "What did Carolines friend say?", []),
        ("Who likes jazz?", "Who likes jazz?", []),
    ],
)
def test_a_name_is_reworded_as_its_bearer_speaks(
    question: str, reworded: str, about: list[str]
) -> None:
    query = understand(question, speakers=FRIENDS)
    assert query.vector_texts == (reworded,)
    assert list(query.speakers) == about


@pytest.mark.parametrize(
    ("question", "reworded", "about"),
    [
        ("Where does my sister live?", "Where does my sister live?", "user-42"),
        ("What is the user's favourite tea?", "What is my favourite tea?", "user-42"),
        ("what does the user eat", "what does I eat", "user-42"),
        ("What did you recommend to me?", "What did I recommend to you?", "assistant"),
        ("Was your advice any good?", "Was my advice any good?", "assistant"),
        ("Can you say where I parked?", "Can you say where I parked?", "user-42"),
        ("Which tea is best?", "Which tea is best?", None),
    ],
)
def test_i_and_you_are_the_actor_and_the_assistant(
    question: str, reworded: str, about: str | None
) -> None:
    query = understand(question, speakers=AGENT)
    assert query.vector_texts == (reworded,)
    assert query.speakers == ((about,) if about else ())


def test_of_several_actors_nobody_is_i_unless_told() -> None:
    speakers = ("ana", "ben", "assistant")
    assert understand("Where do I live?", speakers=speakers).speakers == ()
    assert understand("Where do I live?", speakers=speakers, asker="ben").speakers == ("ben",)


def test_among_records_a_question_stays_as_it_is() -> None:
    query = understand("What does Caroline like?")
    assert query.vector_texts == ("What does Caroline like?",)
    assert query.terms == ("carolin", "lik")


def test_a_first_name_is_enough_and_a_word_is_no_name() -> None:
    assert understand("Did Ana sing?", speakers=["Ana Lima"]).speakers == ("Ana Lima",)
    assert understand("When will he come?", speakers=["Will"]).speakers == ()
    assert understand("will he come", speakers=["Will"]).speakers == ()
    assert understand("When did Will come?", speakers=["Will"]).speakers == ("Will",)
    assert understand("田中さんは何を食べた", speakers=["田中"]).speakers == ("田中",)


def test_a_relative_day_is_looked_up_as_the_day_it_is_now_and_not_as_words() -> None:
    query = understand("What did we eat last Tuesday?", now=NOW)
    assert query.terms == ("eat", "@2024-04-16", "@2024w16")
    assert query.dates == ("@2024-04-16", "@2024w16")
    assert understand("What did we eat last Tuesday?").terms == ("eat", "last", "tuesday")


@pytest.mark.parametrize(
    ("question", "embedded"),
    [
        ("What did we eat last Tuesday?", "What did we eat?"),
        ("What did we eat on 11 June 2024?", "What did we eat?"),
        ("What did we eat in Rome in May 2023?", "What did we eat in Rome?"),
        ("What do we eat on Monday?", "What do we eat on Monday?"),
        ("What do we eat in May?", "What do we eat in May?"),
        ("yesterday", "yesterday"),
    ],
)
def test_days_are_left_out_of_what_is_embedded(question: str, embedded: str) -> None:
    assert understand(question, now=NOW).vector_texts == (embedded,)


def test_a_bare_weekday_may_be_a_habit_and_stays_a_word() -> None:
    query = understand("What do we eat on Monday?", now=NOW)
    assert {"monday", "@2024-04-15", "@2024-04-22"} <= set(query.terms)


def test_a_question_of_nothing_but_a_day_keeps_its_words() -> None:
    assert understand("yesterday", now=NOW).terms[0] == "yesterday"


def test_a_week_is_looked_up_by_its_days() -> None:
    query = understand("news of last week", now=NOW)
    assert query.dates[0] == "@2024w15"
    assert query.dates[1:] == tuple(f"@2024-04-{day:02}" for day in range(8, 15))


def test_an_absolute_day_needs_no_now_and_keeps_its_words() -> None:
    query = understand("What happened on 11 June 2024?")
    assert set(query.dates) == {"@2024-06-11", "@2024w24"}
    assert "2024" in query.terms


@pytest.mark.parametrize(
    "question", ["When did she leave?", "In which month was it?", "how long ago was that"]
)
def test_a_question_for_a_time_looks_for_texts_that_speak_of_one(question: str) -> None:
    assert "@when" in understand(question).terms
    assert "@when" not in understand("I left when she came").terms


def test_a_long_question_is_bounded() -> None:
    many = " ".join(f"word{n}" for n in range(1000))
    assert len(understand(many + " yesterday", now=NOW).terms) <= queries.TERMS_MAX


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "unit", [" ", "in ", "a ", "the last ", "1", "yesterday ", "on", "user's "]
)
def test_the_longest_question_is_understood_at_once(unit: str) -> None:
    question = "on Monday " + unit * (QUERY_CHARACTERS_MAX // len(unit)) + " yesterday"
    started = time.process_time()
    understand(question, speakers=AGENT, now=NOW)
    assert time.process_time() - started < 0.5


names = st.text(min_size=1, max_size=12)


@given(st.text(max_size=200), st.lists(names, max_size=4), names)
def test_no_question_and_no_name_is_too_odd(question: str, speakers: list[str], asker: str) -> None:
    query = understand(question, speakers=speakers, asker=asker, now=NOW)
    assert set(query.speakers) <= set(speakers)
    assert len(set(query.terms)) == len(query.terms)
    assert set(query.dates) <= set(query.terms)
    assert len(query.vector_texts) == 1
