"""Days that a text speaks of. Said on Sunday, 21 April 2024."""

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.services.memory.index import dates
from freehold.services.memory.index.dates import spoken_of

SUNDAY = date(2024, 4, 21)


def spoken(text: str, on: date | None = SUNDAY) -> list[str]:
    return [
        f"{period.kind} {period.first}" for one in spoken_of(text, on) for period in one.periods
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("yesterday we sang", ["day 2024-04-20"]),
        ("the day before yesterday", ["day 2024-04-19"]),
        ("see you tomorrow", ["day 2024-04-22"]),
        ("the day after tomorrow", ["day 2024-04-23"]),
        ("last night", ["day 2024-04-20"]),
        ("this morning", ["day 2024-04-21"]),
        ("last Tuesday", ["day 2024-04-16"]),
        ("last Sunday", ["day 2024-04-14"]),
        ("next Sunday", ["day 2024-04-28"]),
        ("this coming Saturday", ["day 2024-04-27"]),
        ("since Monday", ["day 2024-04-15"]),
        ("on Friday", ["day 2024-04-19", "day 2024-04-26"]),
        ("last week", ["week 2024-04-08"]),
        ("this week", ["week 2024-04-15"]),
        ("two weeks ago", ["week 2024-04-01", "day 2024-04-07"]),
        ("a week ago", ["week 2024-04-08", "day 2024-04-14"]),
        ("10 days ago", ["day 2024-04-11"]),
        ("a couple of days ago", ["day 2024-04-19"]),
        ("in three days", ["day 2024-04-24"]),
        ("last weekend", ["day 2024-04-13", "day 2024-04-14"]),
        ("next weekend", ["day 2024-04-27", "day 2024-04-28"]),
        ("last month", ["month 2024-03-01"]),
        ("four months ago", ["month 2023-12-01"]),
        ("in nine months", ["month 2025-01-01"]),
        ("last year", ["year 2023-01-01"]),
        ("five years ago", ["year 2019-01-01"]),
        ("on 7 May 2023", ["day 2023-05-07"]),
        ("May 7th, 2023", ["day 2023-05-07"]),
        ("the 6th of October", ["day 2024-10-06"]),
        ("on 30 December", ["day 2023-12-30"]),
        ("in May 2023", ["month 2023-05-01"]),
        ("in March", ["month 2024-03-01"]),
        ("in 2019", ["year 2019-01-01"]),
        ("2023-02-03", ["day 2023-02-03"]),
    ],
)
def test_days_are_reckoned_from_the_day_they_were_spoken_of(text: str, expected: list[str]) -> None:
    assert spoken(text) == expected


@pytest.mark.parametrize(
    "text", ["I may go", "the sun sat", "31 June", "2023-02-30", "march on", "a second", ""]
)
def test_what_is_no_day_is_none(text: str) -> None:
    assert spoken(text) == []


def test_on_a_friday_last_weekend_is_the_one_before() -> None:
    assert spoken("last weekend", date(2024, 4, 19)) == ["day 2024-04-13", "day 2024-04-14"]


def test_without_a_day_to_reckon_from_only_whole_dates_are_understood() -> None:
    assert spoken("yesterday, last week, in May, on Friday", None) == []
    assert spoken("on 7 May 2023 and in 2019", None) == ["day 2023-05-07", "year 2019-01-01"]


def test_days_before_the_calendar_began_are_none() -> None:
    assert spoken("900 years ago", date(800, 1, 1)) == []
    assert spoken("in 999 weeks", date(9999, 12, 31)) == []


def test_what_was_said_is_found_by_the_day_it_speaks_of() -> None:
    said = dates.unit_terms("I saw her two weeks ago", datetime(2024, 4, 21, tzinfo=UTC))
    (asked,) = spoken_of("on 3 April 2024", None)
    assert set(asked.periods[0].asked()) & set(said) == {"@2024w14"}
    (exactly,) = spoken_of("on 7 April 2024", None)
    assert "@2024-04-07" in set(exactly.periods[0].asked()) & set(said)


def test_a_calendar_in_a_message_is_bounded() -> None:
    text = " ".join(f"2024-01-{day:02}" for day in range(1, 32))
    assert len(spoken(text)) == 20


@given(st.text(max_size=200), st.dates())
def test_no_text_is_too_odd(text: str, on: date) -> None:
    for one in spoken_of(text, on):
        assert one.periods
        assert 0 <= one.start < one.end <= len(text)


@given(
    st.lists(
        st.sampled_from(
            [
                "last",
                "next",
                "two",
                "weeks",
                "ago",
                "in",
                "May",
                "31",
                "of",
                "2023",
                "Friday",
                "the",
            ]
        ),
        max_size=12,
    ),
    st.dates(),
)
def test_no_order_of_date_words_is_too_odd(words: list[str], on: date) -> None:
    for one in spoken_of(" ".join(words), on):
        assert all(period.terms() for period in one.periods)
