"""Groups, streams and their events by boto3, and who may read them."""

import asyncio
from typing import Any

import pytest
from botocore.awsrequest import AWSRequest
from botocore.httpsession import URLLib3Session
from logs_ground import GROUP, NOW_NS, RUNTIME, SECOND, LogsGround, a_span

from edge_ground import Client, refused
from freehold.ports.telemetry import LogRecord
from freehold.services.observability.cloudwatch.ports import Endpoint

STREAM = "otel-rt-logs"


@pytest.fixture
async def logs(ground: LogsGround, tenant: str) -> Client:
    """Of a runtime that said ten things, two of them at the same moment."""
    ground.runtimes[tenant] = [Endpoint(RUNTIME, "DEFAULT", 5), Endpoint(RUNTIME, "live", 6)]
    await ground.logs.write([
        LogRecord(
            tenant=tenant, at_ns=NOW_NS - (100 - max(number, 1)) * SECOND, origin="agent",
            body=f"said {number}" + (" ERROR" if number % 4 == 0 else ""),
            agent_id=RUNTIME, endpoint="live" if number == 9 else "",
        )
        for number in range(10)
    ])  # fmt: skip
    return ground.client(tenant, "logs")


def bodies(answer: dict[str, Any]) -> str:
    return "".join(e["message"].partition('"body":"said ')[2][0] for e in answer["events"])


async def test_groups_and_their_streams_are_listed(logs: Client, tenant: str) -> None:
    groups = (await logs.describe_log_groups())["logGroups"]
    first = await logs.describe_log_groups(limit=1)
    rest = await logs.describe_log_groups(nextToken=first["nextToken"])
    some = await logs.describe_log_groups(logGroupNamePrefix="/aws/bedrock-agentcore/")
    streams = (await logs.describe_log_streams(logGroupName=GROUP))["logStreams"]

    names = [group["logGroupName"] for group in groups]
    assert names == [GROUP, GROUP.replace("DEFAULT", "live"), "aws/spans"]
    assert groups[0]["logGroupArn"] == f"arn:aws:logs:us-east-1:{tenant}:log-group:{GROUP}"
    assert [g["logGroupName"] for g in first["logGroups"] + rest["logGroups"]] == names
    assert len(some["logGroups"]) == 2
    assert [stream["logStreamName"] for stream in streams] == [STREAM]


async def test_a_stream_is_read_forward_to_its_end_and_stays_there(logs: Client) -> None:
    given: dict[str, Any] = {"logGroupName": GROUP, "logStreamName": STREAM, "limit": 4}
    page = await logs.get_log_events(startFromHead=True, **given)
    seen = [bodies(page)]
    while True:
        token = page["nextForwardToken"]
        page = await logs.get_log_events(nextToken=token, **given)
        if page["nextForwardToken"] == token:
            break
        seen.append(bodies(page))

    assert sorted("".join(seen)) == list("012345678")
    assert "".join(seen)[2:] == "2345678"
    assert [len(part) for part in seen] == [4, 4, 1]
    assert page["events"] == []


async def test_a_stream_is_read_backward_from_its_end(logs: Client) -> None:
    given: dict[str, Any] = {"logGroupName": GROUP, "logStreamName": STREAM, "limit": 4}
    last = await logs.get_log_events(**given)
    before = await logs.get_log_events(nextToken=last["nextBackwardToken"], **given)
    again = await logs.get_log_events(nextToken=before["nextForwardToken"], **given)

    assert (bodies(last), bodies(before), bodies(again)) == ("5678", "1234", "5678")


async def test_what_comes_later_is_read_on_from_where_one_was(
    ground: LogsGround, logs: Client, tenant: str
) -> None:
    given: dict[str, Any] = {"logGroupName": GROUP, "logStreamName": STREAM}
    page = await logs.get_log_events(startFromHead=True, **given)
    await ground.logs.write([
        LogRecord(tenant=tenant, at_ns=NOW_NS, origin="agent", body="said X", agent_id=RUNTIME)
    ])  # fmt: skip

    later = await logs.get_log_events(nextToken=page["nextForwardToken"], **given)

    assert bodies(later) == "X"


async def test_events_of_a_stretch_of_time(logs: Client) -> None:
    begin = (NOW_NS - 97 * SECOND) // 1_000_000
    answer = await logs.get_log_events(
        logGroupName=GROUP, logStreamName=STREAM, startTime=begin, endTime=begin + 2500
    )

    assert bodies(answer) == "345"[-len(bodies(answer)) :]
    assert set(bodies(answer)) <= set("345")
    assert "4" in bodies(answer)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("ERROR", "048"),
        ('"said 4"', "4"),
        ("said -ERROR", "123567"),
        ('?"said 3" ?"said 5"', "35"),
        ("", None),
    ],
)
async def test_events_are_filtered_by_words(logs: Client, pattern: str, found: str | None) -> None:
    answer = await logs.filter_log_events(
        logGroupName=GROUP, filterPattern=pattern, startTime=0, logStreamNames=[STREAM]
    )

    everything = sorted(bodies(answer))
    if found is None:
        assert everything == list("012345678")
    else:
        assert set(found) <= set(everything)
        assert len(everything) < 9
    assert all(event["logStreamName"] == STREAM for event in answer["events"])


async def test_filtered_events_come_in_pages(logs: Client) -> None:
    seen = ""
    more: dict[str, str] = {}
    while True:
        page = await logs.filter_log_events(logGroupName=GROUP, limit=2, **more)
        seen += bodies(page)
        if "nextToken" not in page:
            break
        more = {"nextToken": page["nextToken"]}

    assert sorted(seen) == list("012345678")


async def test_spans_are_events_of_a_stream_too(ground: LogsGround, tenant: str) -> None:
    await ground.spans.write([a_span(tenant, number) for number in (3, 1, 2)])

    answer = await ground.client(tenant, "logs").get_log_events(
        logGroupName="aws/spans", logStreamName="default", startFromHead=True
    )

    names = [event["message"].partition('"name":"step ')[2][0] for event in answer["events"]]
    assert names == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"logGroupName": "/no/such"}, "ResourceNotFoundException"),
        ({"logGroupName": f"{GROUP}x"}, "ResourceNotFoundException"),
        ({"logGroupName": GROUP, "logStreamName": "other"}, "ResourceNotFoundException"),
        ({"logGroupName": GROUP, "nextToken": "f/made-up"}, "InvalidParameterException"),
        ({}, "InvalidParameterException"),
        ({"logGroupName": GROUP, "logGroupIdentifier": GROUP}, "InvalidParameterException"),
        (
            {"logGroupIdentifier": f"arn:aws:logs:us-east-1:999900009999:log-group:{GROUP}"},
            "ResourceNotFoundException",
        ),
    ],
)
async def test_what_is_not_there_is_said_to_be_so(
    logs: Client, given: dict[str, str], code: str
) -> None:
    await refused(logs.get_log_events(**{"logStreamName": STREAM, **given}), code)


async def test_a_filter_by_fields_is_refused(logs: Client) -> None:
    message = await refused(
        logs.filter_log_events(logGroupName=GROUP, filterPattern="{ $.a = 1 }"),
        "InvalidParameterException",
    )
    assert "StartQuery" in message


async def test_the_logs_of_a_runtime_that_went_are_there_still(
    ground: LogsGround, logs: Client, tenant: str
) -> None:
    ground.runtimes[tenant] = []

    answer = await logs.get_log_events(logGroupName=GROUP, logStreamName=STREAM)

    assert len(answer["events"]) == 9


async def test_no_other_tenant_sees_any_of_it(
    ground: LogsGround, logs: Client, tenant: str
) -> None:
    await ground.spans.write([a_span(tenant, 1)])
    now = NOW_NS // SECOND
    query = {"queryString": "limit 5", "startTime": 0, "endTime": now + 60}
    mine = await logs.start_query(logGroupName="aws/spans", **query)
    stranger = ground.client(str(int(tenant) ^ 1).zfill(12), "logs")

    assert [g["logGroupName"] for g in (await stranger.describe_log_groups())["logGroups"]] == [
        "aws/spans"
    ]
    theirs = await stranger.start_query(logGroupName="aws/spans", **query)
    assert (await stranger.get_query_results(queryId=theirs["queryId"]))["results"] == []
    for asked in (
        stranger.get_query_results(queryId=mine["queryId"]),
        stranger.stop_query(queryId=mine["queryId"]),
        stranger.start_query(logGroupName=GROUP, **query),
        stranger.get_log_events(logGroupName=GROUP, logStreamName=STREAM),
        stranger.filter_log_events(logGroupName=GROUP),
        stranger.describe_log_streams(logGroupName=GROUP),
    ):
        await refused(asked, "ResourceNotFoundException")


# -- the protocol


async def raw(
    ground: LogsGround, target: str, body: bytes, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    request = AWSRequest(
        "POST", f"{ground.endpoint}/", data=body, headers={"x-amz-target": target, **headers}
    )

    def ask() -> tuple[int, dict[str, str], bytes]:
        session = URLLib3Session()
        try:
            answer = session.send(request.prepare())
            return answer.status_code, dict(answer.headers), answer.content
        finally:
            session.close()

    return await asyncio.to_thread(ask)


async def test_what_is_not_signed_is_refused(ground: LogsGround) -> None:
    status, _, body = await raw(ground, "Logs_20140328.DescribeLogGroups", b"{}")

    assert status == 403
    assert b'"__type":"MissingAuthenticationTokenException"' in body


async def test_other_targets_are_somebody_else_s(ground: LogsGround) -> None:
    assert (await raw(ground, "DynamoDB_20120810.ListTables", b"{}"))[0] == 418


async def test_an_operation_that_is_not_served_is_refused_by_its_name(
    ground: LogsGround, tenant: str
) -> None:
    message = await refused(
        ground.client(tenant, "logs").create_log_group(logGroupName="mine"),
        "UnknownOperationException",
    )
    assert message == "CreateLogGroup is not served here."


async def test_a_body_that_is_too_large_is_refused(ground: LogsGround, tenant: str) -> None:
    logs = ground.aws(tenant, "logs")
    logs.meta.events.register(
        "before-sign.*",
        lambda request, **_: setattr(request, "data", b'{"a": "' + b"x" * (2 << 20) + b'"}'),
    )
    with pytest.raises(Exception, match="larger than 1048576 bytes"):
        await asyncio.to_thread(logs.describe_log_groups)
    await asyncio.to_thread(logs.close)
