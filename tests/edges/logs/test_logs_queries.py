"""Queries of CloudWatch Logs Insights by boto3: what of the language is understood."""

import asyncio
from typing import Any

import pytest
from botocore.exceptions import ClientError
from logs_ground import GROUP, NOW_NS, RUNTIME, LogsGround, a_span

from edge_ground import refused
from freehold.services.observability.cloudwatch.ports import Endpoint

NOW = NOW_NS // 10**9


async def asked(
    ground: LogsGround, tenant: str, query: str, *, group: str = "aws/spans", **more: Any
) -> dict[str, Any]:
    logs = ground.client(tenant, "logs")
    given = {"startTime": NOW - 3600, "endTime": NOW + 60, **more}
    started = await logs.start_query(logGroupName=group, queryString=query, **given)
    answer: dict[str, Any] = await logs.get_query_results(queryId=started["queryId"])
    assert answer["status"] == "Complete"
    return answer


async def rows(ground: LogsGround, tenant: str, query: str, **more: Any) -> list[dict[str, str]]:
    answer = await asked(ground, tenant, query, **more)
    found = [{pair["field"]: pair["value"] for pair in row} for row in answer["results"]]
    for row in found:
        row.pop("@ptr", None)
    return found


@pytest.fixture
async def kept(ground: LogsGround, tenant: str) -> str:
    """Eight spans; the even ones are of a tool, and every third failed."""
    await ground.spans.write([
        a_span(
            tenant, number, name=f"step {number}", status=2 if number % 3 == 0 else 0,
            attributes={"kind": "tool" if number % 2 == 0 else "model", "size": number * 10,
                        "took": f"took {number} ms by worker-{number % 2}"},
        )
        for number in range(1, 9)
    ])  # fmt: skip
    return tenant


@pytest.mark.parametrize(
    ("condition", "names"),
    [
        ('name = "step 2"', "2"),
        ('attributes.kind = "tool" and attributes.size > 20', "468"),
        ("attributes.size >= 30 and attributes.size < 50", "34"),
        ('attributes.size in [10, "80"]', "18"),
        ("attributes.size not in [10, 20, 30, 40, 50]", "678"),
        ('name like "step 7" or (attributes.kind != "tool" and status.code = "ERROR")', "37"),
        ("name like /[45]$/", "45"),
        ("name =~ /STEP [45]/", ""),
        ("name like /(?i)STEP [45]/", "45"),
        ("name not like /[1-7]/", "8"),
        ('not name like "step"', ""),
        ("ispresent(parentSpanId)", ""),
        ("not ispresent(parentSpanId) and attributes.size = 50", "5"),
        ('strcontains(name, "6")', "6"),
        ("attributes.size / 10 - 1 = 2 * 1", "3"),
        ('`attributes.kind` = "tool" # only those\n and attributes.size <= 20', "2"),
        ("strlen(name) = 6 and toupper(attributes.kind) = 'MODEL' and attributes.size > 60", "7"),
        ("missing > 5", ""),
        ("missing != 5", "12345678"),
        ('isempty(missing) and coalesce(missing, name) = "step 1"', "1"),
        ("-attributes.size < -70", "8"),
    ],
)
async def test_a_filter(ground: LogsGround, kept: str, condition: str, names: str) -> None:
    found = await rows(ground, kept, f"fields name | filter {condition} | sort attributes.size asc")

    assert "".join(row["name"].removeprefix("step ") for row in found) == names


async def test_filters_one_after_the_other_must_all_hold(ground: LogsGround, kept: str) -> None:
    found = await rows(
        ground, kept,
        'filter attributes.kind = "tool" | fields name, attributes.size * 2 as double'
        " | filter double > 80 | sort double desc | limit 2",
    )  # fmt: skip

    assert found == [{"name": "step 8", "double": "160"}, {"name": "step 6", "double": "120"}]


async def test_without_a_choice_there_are_time_and_message_the_newest_first(
    ground: LogsGround, kept: str
) -> None:
    answer = await asked(ground, kept, "limit 2")

    [first, second] = answer["results"]
    assert [pair["field"] for pair in first] == ["@timestamp", "@message", "@ptr"]
    assert '"name":"step 8"' in first[1]["value"]
    assert first[0]["value"] > second[0]["value"]
    assert answer["statistics"]["recordsMatched"] == 8
    assert answer["statistics"]["recordsScanned"] == 8


async def test_counts_by_group(ground: LogsGround, kept: str) -> None:
    found = await rows(
        ground, kept,
        "stats count(*) as n, avg(attributes.size) as mean, max(attributes.size),"
        " pct(attributes.size, 50) as middle, count_distinct(status.code) as codes"
        " by attributes.kind as kind | sort kind",
    )  # fmt: skip

    assert found == [
        {"kind": "model", "n": "4", "mean": "40", "max(attributes.size)": "70", "middle": "40",
         "codes": "2"},
        {"kind": "tool", "n": "4", "mean": "50", "max(attributes.size)": "80", "middle": "50",
         "codes": "2"},
    ]  # fmt: skip


async def test_counts_by_time(ground: LogsGround, kept: str) -> None:
    found = await rows(ground, kept, "stats count(*) by bin(1h)")

    assert sum(int(row["count(*)"]) for row in found) == 8
    assert all(row["bin(1h)"].endswith(":00:00.000") for row in found)


async def test_nothing_counted_is_none(ground: LogsGround, kept: str) -> None:
    query = 'filter name = "no such" | stats count(*) as n, sum(attributes.size) as total'

    assert await rows(ground, kept, query) == [{"n": "0", "total": "0"}]


async def test_texts_are_taken_apart(ground: LogsGround, kept: str) -> None:
    found = await rows(
        ground, kept,
        'parse attributes.took "took * ms by worker-*" as ms, worker'
        " | stats sum(ms) as total by worker | sort worker",
    )  # fmt: skip

    assert found == [{"worker": "0", "total": "20"}, {"worker": "1", "total": "16"}]


async def test_duplicates_go(ground: LogsGround, kept: str) -> None:
    found = await rows(
        ground, kept, "sort attributes.size asc | dedup attributes.kind | display name"
    )

    assert found == [{"name": "step 1"}, {"name": "step 2"}]


async def test_what_is_outside_the_time_is_not_there(ground: LogsGround, kept: str) -> None:
    at = (NOW_NS - 55 * 10**9) // 10**9  # when step 5 began
    found = await rows(ground, kept, "fields name | sort name", startTime=at, endTime=at + 1)

    assert {"name": "step 5"} in found
    assert {"name": "step 4"} not in found
    assert {"name": "step 7"} not in found


@pytest.mark.parametrize(
    ("query", "part"),
    [
        ("", "expected one of the commands"),
        ("select * from spans", "expected one of the commands"),
        ("fields name | unmask x", "expected one of the commands"),
        ("filter name = ", "expected a field, a value or a function"),
        ('filter (name = "x"', "expected )"),
        ('filter name = "x', "unexpected symbol"),
        ("filter made_up(name)", "there is no function made_up"),
        ("filter ispresent(a, b)", "other arguments"),
        ("filter name like /(/", "not a regular expression"),
        ("filter name like /(?=a)a/", "not a regular expression"),
        ("filter name like abc", "a text or a /regular expression/"),
        ("parse name /(?<a>x)/", "no regular expression"),
        ('parse name "a*b" as x, y', "a name for each *"),
        ("stats made_up(x)", "stats has no such function"),
        ("stats count(*) by bin(5y)", "a length of time"),
        ("limit many", "expected a number"),
        ("fields a b", "expected | and the next command"),
        ("filter " + "(" * 100 + "1" + ")" * 100, "too many parentheses"),
    ],
)
async def test_what_is_not_understood_is_refused_with_its_place(
    ground: LogsGround, tenant: str, query: str, part: str
) -> None:
    logs = ground.aws(tenant, "logs")
    with pytest.raises(ClientError) as error:
        await asyncio.to_thread(
            logs.start_query, logGroupName="aws/spans", queryString=query, startTime=0, endTime=NOW
        )

    assert error.value.response["Error"]["Code"] == "MalformedQueryException"
    assert isinstance(error.value, logs.exceptions.MalformedQueryException)
    assert part in error.value.response["Error"]["Message"]
    response: Any = error.value.response
    compiled = response["queryCompileError"]
    assert 0 <= compiled["location"]["startCharOffset"] <= len(query)
    await asyncio.to_thread(logs.close)


async def test_a_pattern_that_would_never_end_elsewhere_ends_here(
    ground: LogsGround, tenant: str
) -> None:
    await ground.spans.write([a_span(tenant, 1, attributes={"a": "a" * 50_000 + "b"})])

    assert await rows(ground, tenant, "filter attributes.a like /^(a+)+$/") == []


async def test_answers_come_in_pages_where_they_are_asked_for_so(
    ground: LogsGround, kept: str
) -> None:
    logs = ground.client(kept, "logs")
    query = "fields name | sort name"
    started = await logs.start_query(
        logGroupName="aws/spans", queryString=query, startTime=0, endTime=NOW + 60
    )
    seen: list[str] = []
    token: str | None = None
    while True:
        more: dict[str, Any] = {} if token is None else {"nextToken": token}
        page = await logs.get_query_results(queryId=started["queryId"], maxItems=3, **more)
        seen += [row[0]["value"] for row in page["results"]]
        token = page.get("nextToken")
        if token is None:
            break

    assert seen == [f"step {number}" for number in range(1, 9)]
    await refused(
        logs.get_query_results(queryId=started["queryId"], nextToken="made-up"),
        "InvalidParameterException",
    )
    await refused(logs.stop_query(queryId=started["queryId"]), "InvalidParameterException")


async def test_several_groups_are_asked_at_once(ground: LogsGround, kept: str) -> None:
    ground.runtimes[kept] = [Endpoint(RUNTIME, "DEFAULT", 0)]
    await ground.spans.write([a_span(kept, 9, attributes={"output.value": "four"})])
    logs = ground.client(kept, "logs")
    arn = f"arn:aws:logs:us-east-1:{kept}:log-group:{GROUP}:*"
    started = await logs.start_query(
        logGroupIdentifiers=[arn, "aws/spans"], startTime=0, endTime=NOW + 60,
        queryString=f'filter spanId = "{9:016x}" | stats count(*) as n by @log | sort @log',
    )  # fmt: skip
    answer = await logs.get_query_results(queryId=started["queryId"])

    assert [[pair["value"] for pair in row] for row in answer["results"]] == [
        [f"{kept}:{GROUP}", "1"], [f"{kept}:aws/spans", "1"],
    ]  # fmt: skip


async def test_a_query_that_would_read_too_much_is_refused(ground: LogsGround, tenant: str) -> None:
    await ground.spans.write([a_span(tenant, number, started_ns=NOW_NS) for number in range(1001)])

    message = await refused(asked(ground, tenant, "stats count(*)"), "LimitExceededException")

    assert "filter by attributes.session.id" in message
