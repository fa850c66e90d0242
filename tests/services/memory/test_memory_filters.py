"""Metadata filters: what each operator asks, that SQL and Python agree, and what is refused."""

import string
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.kernel.errors import ValidationFailed
from freehold.services.memory import filters

DAY = datetime(2026, 5, 1, tzinfo=UTC)
RECORD: Mapping[str, Any] = {
    "topic": "billing",
    "tags": ["a", "b"],
    "cost": 2.5,
    "due": DAY,
    "empty": "",
}


def asked(key: str, operator: str, **value: Any) -> dict[str, Any]:
    expression: dict[str, Any] = {"left": {"metadataKey": key}, "operator": operator}
    if value:
        expression["right"] = {"metadataValue": value}
    return expression


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        (asked("topic", "EQUALS_TO", stringValue="billing"), True),
        (asked("topic", "EQUALS_TO", stringValue="bill"), False),
        (asked("topic", "CONTAINS", stringValue="bill"), True),
        (asked("topic", "CONTAINS", stringValue="Bill"), False),
        (asked("tags", "EQUALS_TO", stringListValue=["b", "a", "a"]), True),
        (asked("tags", "EQUALS_TO", stringListValue=["a"]), False),
        (asked("tags", "EQUALS_TO", stringValue="a"), False),
        (asked("tags", "CONTAINS", stringValue="a"), True),
        (asked("tags", "CONTAINS", stringListValue=["a", "b"]), True),
        (asked("tags", "CONTAINS", stringListValue=["a", "c"]), False),
        (asked("cost", "EQUALS_TO", numberValue=2.5), True),
        (asked("cost", "GREATER_THAN", numberValue=2), True),
        (asked("cost", "GREATER_THAN", numberValue=2.5), False),
        (asked("cost", "GREATER_THAN_OR_EQUALS", numberValue=2.5), True),
        (asked("cost", "LESS_THAN", numberValue=2.5), False),
        (asked("cost", "LESS_THAN", numberValue=10), True),
        (asked("cost", "LESS_THAN_OR_EQUALS", numberValue=2.5), True),
        (asked("due", "BEFORE", dateTimeValue=DAY + timedelta(microseconds=1)), True),
        (asked("due", "BEFORE", dateTimeValue=DAY), False),
        (asked("due", "AFTER", dateTimeValue=DAY - timedelta(microseconds=1)), True),
        (asked("due", "EQUALS_TO", dateTimeValue=DAY), True),
        (asked("cost", "AFTER", dateTimeValue=DAY), False),
        (asked("due", "GREATER_THAN", numberValue=0), False),
        (asked("topic", "EXISTS"), True),
        (asked("empty", "EXISTS"), True),
        (asked("nowhere", "EXISTS"), False),
        (asked("nowhere", "NOT_EXISTS"), True),
        (asked("topic", "NOT_EXISTS"), False),
        (asked("nowhere", "LESS_THAN", numberValue=1), False),
    ],
)
async def test_what_an_operator_asks(
    database: PostgresDatabase, expression: dict[str, Any], holds: bool
) -> None:
    wanted = filters.parsed([expression])
    assert filters.matches(wanted, RECORD) is holds
    assert await in_sql(database, wanted, [filters.dumped(RECORD)]) == [holds]


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        (asked("", "EXISTS"), "metadataKey"),
        (asked("topic", "LIKE", stringValue="a"), "the operator is one of"),
        (asked("topic", "EXISTS", stringValue="a"), "compares with nothing"),
        (asked("topic", "EQUALS_TO"), "needs a right.metadataValue"),
        (asked("topic", "BEFORE", stringValue="a"), "compares with dateTimeValue"),
        (asked("topic", "GREATER_THAN", dateTimeValue=DAY), "compares with numberValue"),
        (asked("topic", "CONTAINS", numberValue=1), "stringValue or stringListValue"),
        (asked("topic", "LESS_THAN", numberValue=float("nan")), "finite"),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(expression: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationFailed, match=why):
        filters.parsed([asked("topic", "EXISTS"), expression])


def test_there_are_five_filters_at_most() -> None:
    assert len(filters.parsed([asked("a", "EXISTS")] * 5)) == 5
    with pytest.raises(ValidationFailed, match="5 at most"):
        filters.parsed([asked("a", "EXISTS")] * 6)


def test_a_key_of_a_declared_type_takes_no_other() -> None:
    declared = {"cost": "NUMBER", "tags": "STRINGLIST", "topic": "STRING"}
    filters.check_types(RECORD.items(), declared, "metadata")
    filters.check_types([("tags", "a")], declared, "metadataFilters")
    for key, value in (("cost", "2"), ("topic", 2.0), ("tags", 1.0), ("topic", ["a"])):
        with pytest.raises(ValidationFailed, match=key):
            filters.check_types([(key, value)], declared, "metadataFilters")
    with pytest.raises(ValidationFailed, match="tags"):
        filters.check_types([("tags", "a")], declared, "metadata")


# -- SQL agrees with Python, whatever is stored and asked

KEYS = st.sampled_from(["a", "s", "%s", "'"])
TEXTS = st.text(string.ascii_lowercase[:2] + " %_'\"\\ é", max_size=3)
LISTS = st.lists(TEXTS, min_size=1, max_size=3)
NUMBERS = st.one_of(st.integers(-2, 2).map(float), st.floats(allow_nan=False, allow_infinity=False))
DATES = st.one_of(
    st.integers(-2, 2).map(lambda n: DAY + timedelta(microseconds=n)),
    st.datetimes(timezones=st.just(UTC)),
)
VALUES = st.one_of(TEXTS, LISTS, NUMBERS, DATES)
STORED = st.one_of(st.none(), st.dictionaries(KEYS, VALUES, max_size=3))


OPERATORS = {
    "stringValue": ("EQUALS_TO", "CONTAINS"),
    "stringListValue": ("EQUALS_TO", "CONTAINS"),
    "numberValue": (
        "EQUALS_TO", "GREATER_THAN", "GREATER_THAN_OR_EQUALS", "LESS_THAN", "LESS_THAN_OR_EQUALS",
    ),
    "dateTimeValue": ("EQUALS_TO", "BEFORE", "AFTER"),
}  # fmt: skip
OF_TYPE = {
    "stringValue": TEXTS, "stringListValue": LISTS, "numberValue": NUMBERS, "dateTimeValue": DATES,
}  # fmt: skip


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[dict[str, Any] | None], list[dict[str, Any]]]:
    """Records, and filters that often ask for what one of them has, or nearly."""
    stored = draw(st.lists(STORED, min_size=1, max_size=6))
    pairs = [pair for record in stored for pair in filters.to_api(record or {}).items()]
    expressions = []
    for _ in range(draw(st.integers(1, 2))):
        key, right = draw(KEYS), draw(st.sampled_from(list(OF_TYPE)).flatmap(right_of))
        if pairs and draw(st.integers(0, 4)):
            key, there = draw(st.sampled_from(pairs))
            right = draw(st.one_of(st.just(there), right_of(next(iter(there)))))
        operator = draw(st.sampled_from(OPERATORS[next(iter(right))]))
        if not draw(st.integers(0, 5)):
            operator, right = draw(st.sampled_from(["EXISTS", "NOT_EXISTS"])), {}
        expressions.append(asked(key, operator, **right))
    return stored, expressions


def right_of(member: str) -> st.SearchStrategy[dict[str, Any]]:
    return OF_TYPE[member].map(lambda value: {member: value})


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(case=cases())
async def test_sql_and_python_agree(
    database: PostgresDatabase,
    case: tuple[list[dict[str, Any] | None], list[dict[str, Any]]],
) -> None:
    stored, expressions = case
    wanted = filters.parsed(expressions)
    columns = [None if record is None else filters.dumped(record) for record in stored]
    expected = [filters.matches(wanted, record or {}) for record in stored]
    assert await in_sql(database, wanted, columns) == expected


@settings(max_examples=100, deadline=None)
@given(metadata=st.dictionaries(KEYS, VALUES, max_size=4))
async def test_metadata_comes_back_of_the_type_it_was(metadata: dict[str, Any]) -> None:
    column = msgspec.json.decode(filters.dumped({**metadata, filters.CREATED_AT: DAY}))
    assert filters.loaded(column) == metadata
    assert filters.from_api(filters.to_api(metadata)) == metadata


async def in_sql(
    database: PostgresDatabase, wanted: tuple[filters.Filter, ...], columns: list[str | None]
) -> list[bool]:
    condition, parameters = filters.condition(wanted, "r.metadata")
    async with database.connection() as connection:
        rows = await connection.execute(
            "SELECT n - 1 FROM unnest(%s::text[]::jsonb[]) WITH ORDINALITY AS r(metadata, n)"
            f" WHERE {condition}",
            (columns, *parameters),
        )
        found = {row[0] for row in await rows.fetchall()}
    return [n in found for n in range(len(columns))]
