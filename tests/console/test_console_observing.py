"""The rooms where agents are watched: overview, agents, traces, sessions."""

import json
import re
from typing import Any

import pytest
from console_answers import AGENT, SESSION, SPANS, TRACE, fill, long_trace, span_id, trace_line
from served_console import Client, ServedConsole

from freehold.kernel.errors import AccessDenied, NotFound, RuntimeClientFailed, Unavailable

HOSTILE = "<script>alert(1)</script>"
ONE = f"/console/traces/{TRACE}"


@pytest.fixture
async def visitor(console: ServedConsole, client: Client) -> Client:
    fill(console.platform)
    return await client.signed_in()


def asked(console: ServedConsole, path: str) -> dict[str, str]:
    """The query of the last request for it."""
    found = [query for _, way, _, query in console.platform.asked if way == path]
    assert found, f"{path} was not asked for"
    return found[-1]


def page_of(answer: Any) -> Any:
    return json.loads(answer.text)["page"]


# -- overview


async def test_the_overview_says_how_much_how_well_and_at_what_cost(visitor: Client) -> None:
    text = (await visitor.get("/console")).text
    for said in ("Traces and errors", "95th percentile", "3.12 s", "claude-sonnet-4-5", "$7.26",
                 "Live sessions", "planner", "As a table"):  # fmt: skip
        assert said in text
    assert text.count("<svg") > 3, "charts are drawn by the server"


@pytest.mark.parametrize(
    ("since", "step"), [("1h", "1m"), ("24h", "30m"), ("7d", "3h"), ("30d", "12h")]
)
async def test_a_time_has_the_step_that_fits_it(
    console: ServedConsole, visitor: Client, since: str, step: str
) -> None:
    page = page_of(await visitor.get(f"/console/overview.json?since={since}"))
    assert page["since"] == since
    path = "/freehold/v1/trace-series"
    queries = [query for _, way, _, query in console.platform.asked if way == path]
    assert {"since": since, "step": step} in queries
    assert (await visitor.get("/console?since=5y")).status == 400


async def test_what_a_role_may_not_see_is_said_beside_what_it_may(
    console: ServedConsole, visitor: Client
) -> None:
    console.platform.answers["GET /freehold/v1/model-costs"] = AccessDenied("not for your roles")
    answer = await visitor.get("/console")
    assert answer.status == 200
    assert "not for your roles" in answer.text and "Traces and errors" in answer.text


async def test_who_has_no_agent_yet_is_told_how_to_get_one(
    console: ServedConsole, visitor: Client
) -> None:
    console.platform.answers["POST /runtimes/"] = {"agentRuntimes": []}
    console.platform.answers["GET /freehold/v1/trace-series"] = Unavailable("not yet")
    text = (await visitor.get("/console")).text
    assert "No agent has run here yet" in text and "freehold deploy" in text
    assert "freehold create" in (await visitor.get("/console/agents")).text


# -- agents


async def test_agents_are_listed_with_how_they_do(visitor: Client) -> None:
    text = (await visitor.get("/console/agents")).text
    assert f'href="/console/agents/{AGENT}"' in text
    assert "create failed" in text and "Plans journeys" in text


@pytest.mark.parametrize(
    ("tab", "said"),
    [("", "What it is"), ("sessions", "trip-to-oslo"), ("versions", "prod"),
     ("logs", "looking for fares"), ("try", "Call the agent")],
)  # fmt: skip
async def test_an_agent_has_a_page_for_each_side_of_it(
    visitor: Client, tab: str, said: str
) -> None:
    answer = await visitor.get(f"/console/agents/{AGENT}?tab={tab}")
    assert answer.status == 200
    assert said in answer.text


async def test_an_agent_that_is_not_there_is_not_found(
    console: ServedConsole, visitor: Client
) -> None:
    console.platform.answers[f"GET /runtimes/{AGENT}/"] = NotFound("no such agent runtime")
    assert (await visitor.get(f"/console/agents/{AGENT}")).status == 404
    assert (await visitor.get(f"/console/agents/{AGENT}?tab=what")).status in (400, 404)


async def test_a_session_is_stopped_by_a_form(console: ServedConsole, visitor: Client) -> None:
    arn = console.platform.answers[f"GET /runtimes/{AGENT}/"]["agentRuntimeArn"]
    path = f"/runtimes/{arn.replace(':', '%3A').replace('/', '%2F')}/stopruntimesession"
    console.platform.answers[f"POST {path}"] = b"{}"
    answer = await visitor.post(
        f"/console/agents/{AGENT}/stop", {"session": SESSION, "endpoint": "DEFAULT"}
    )
    assert (answer.status, answer.headers["location"]) == (
        303, f"/console/agents/{AGENT}?tab=sessions",
    )  # fmt: skip
    assert asked(console, path) == {"qualifier": "DEFAULT"}


def _invocations(console: ServedConsole) -> str:
    arn = console.platform.answers[f"GET /runtimes/{AGENT}/"]["agentRuntimeArn"]
    return f"POST /runtimes/{arn.replace(':', '%3A').replace('/', '%2F')}/invocations"


async def test_an_agent_is_tried_and_what_it_says_is_streamed(
    console: ServedConsole, visitor: Client
) -> None:
    console.platform.answers[_invocations(console)] = [
        "gr\u00fc\u00df ".encode()[:3],
        b"\xbc\xc3",
        b"\x9f Gott",
    ]
    form = {"payload": '{"prompt": "hi"}', "endpoint": "prod", "session": ""}
    answer = await visitor.post(f"/console/agents/{AGENT}/try/live", form)
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert "".join(line.get("text", "") for line in lines) == "gr\u00fc\u00df Gott"
    assert "html" in lines[-1]
    whole = await visitor.post(f"/console/agents/{AGENT}/try", form)
    assert whole.status == 200 and "gr\u00fc\u00df Gott" in whole.text
    method_and_path = _invocations(console).split(" ")
    assert asked(console, method_and_path[1]) == {"qualifier": "prod"}


async def test_a_try_that_fails_says_why(console: ServedConsole, visitor: Client) -> None:
    console.platform.answers[_invocations(console)] = RuntimeClientFailed("the agent said 500")
    form = {"payload": "{}", "endpoint": "DEFAULT", "session": ""}
    answer = await visitor.post(f"/console/agents/{AGENT}/try", form)
    assert answer.status == 502 and "the agent said 500" in answer.text
    answer = await visitor.post(f"/console/agents/{AGENT}/try/live", form)
    assert "the agent said 500" in json.loads(answer.text)["html"]
    answer = await visitor.post(f"/console/agents/{AGENT}/try", {**form, "payload": "{no"})
    assert answer.status == 400


# -- traces


async def test_the_filters_of_a_list_are_its_address(
    console: ServedConsole, visitor: Client
) -> None:
    query = f"since=7d&status=error&agentId={AGENT}&durationMin=100&tag=a%3Db&text=fares"
    page = await visitor.get(f"/console/traces?{query}")
    assert asked(console, "/freehold/v1/traces") == {
        "since": "7d", "status": "error", "agentId": AGENT, "durationMin": "100", "tag": "a=b",
        "text": "fares", "limit": "50",
    }  # fmt: skip
    assert 'value="fares"' in page.text and "selected>Last 7 days" in page.text
    assert "nextToken=t-2" in page.text
    await visitor.get("/console/traces?nextToken=t-2")
    assert asked(console, "/freehold/v1/traces")["nextToken"] == "t-2"


@pytest.mark.parametrize("query", ["since=1y", "status=maybe", "durationMin=long", "a=1&a=2"])
async def test_a_filter_that_is_none_is_refused(visitor: Client, query: str) -> None:
    assert (await visitor.get(f"/console/traces?{query}")).status == 400


async def test_the_live_tail_is_lines_of_rows(console: ServedConsole, visitor: Client) -> None:
    line = trace_line(name=HOSTILE)
    console.platform.answers["GET /freehold/v1/traces/live"] = [{}, {"trace": line}]
    answer = await visitor.get("/console/traces/live?status=error&since=7d")
    assert asked(console, "/freehold/v1/traces/live") == {"status": "error"}
    beat, row = (json.loads(text) for text in answer.text.splitlines())
    assert beat == {}
    assert row["id"] == f"trace-{TRACE}"
    assert "&lt;script&gt;" in row["html"] and "<script" not in row["html"]
    assert re.match(r"\s*<tr id=", row["html"])


async def test_a_trace_is_a_tree_beside_the_span_that_is_chosen(visitor: Client) -> None:
    text = (await visitor.get(f"{ONE}?span={span_id(5)}")).text
    assert text.count('role="treeitem"') == len(SPANS)
    for said in (
        "You plan journeys.", "Fares first", "fares___search", "1\u202f840 in", "Reasoning",
        "1\u202f024 from a cache",
    ):  # fmt: skip
        assert said in text
    twin = page_of(await visitor.get(f"{ONE}.json"))
    assert [row["depth"] for row in twin["rows"]] == [one["depth"] for one in SPANS]
    assert twin["span"]["spanId"] == span_id(1), "the root, unless another is chosen"


async def test_a_span_that_has_no_content_says_how_to_keep_it(visitor: Client) -> None:
    text = (await visitor.get(f"{ONE}/spans/{span_id(12)}")).text
    assert "freehold:content-capture" in text
    assert "denied by policy no_booking_unasked" in text


async def test_a_long_trace_comes_in_pages_and_whole_for_the_script(
    console: ServedConsole, visitor: Client
) -> None:
    fill(console.platform, long_trace(1000))
    text = (await visitor.get(ONE)).text
    assert text.count('role="treeitem"') == 200
    assert "1 to 200 of 1000" in text and "from=200" in text
    assert len(text) < 400_000
    assert f"step {450}" in (await visitor.get(f"{ONE}?span={span_id(450)}")).text
    rows = page_of(await visitor.get(f"{ONE}/rows.json"))["rows"]
    assert len(rows) == 1000
    assert rows[1][:4] == [span_id(2), 3, "step 2", "other"]


async def test_why_a_tool_was_called_is_a_chain_with_how_sure_it_is(visitor: Client) -> None:
    text = (await visitor.get(f"{ONE}/spans/{span_id(6)}/why")).text
    order = [text.index(said) for said in ("What was asked", "Memory was read",
             "The model decided", "A credential was used", "This call")]  # fmt: skip
    assert order == sorted(order)
    assert "certain" in text and "by time alone" in text
    assert f"freehold trace explain {TRACE} {span_id(6)}" in text


async def test_names_in_traces_are_text(console: ServedConsole, visitor: Client) -> None:
    spans = [{**one, "name": HOSTILE, "message": HOSTILE, "sessionId": HOSTILE} for one in SPANS]
    fill(console.platform, spans)
    for path in (f"{ONE}?span={span_id(5)}", f"{ONE}/spans/{span_id(6)}",
                 f"/console/sessions/{SESSION}"):  # fmt: skip
        text = (await visitor.get(path)).text
        assert "&lt;script&gt;" in text
        assert "<script>" not in text


async def test_another_tenant_s_trace_is_not_found(visitor: Client) -> None:
    assert (await visitor.get(f"/console/traces/{'0' * 32}")).status == 404
    assert (await visitor.get("/console/traces/..%2Fkeys")).status == 404


async def test_the_trace_of_a_call_just_made_is_waited_for_but_not_forever(
    visitor: Client,
) -> None:
    missing = f"/console/traces/{'a' * 32}"
    coming = await visitor.get(f"{missing}?new=1")
    assert coming.status == 200
    assert f'content="1; url={missing}?new=2"' in coming.text
    assert (await visitor.get(f"{missing}?new=15")).status == 404
    assert (await visitor.get(f"{ONE}?new=3")).status == 200


# -- sessions


async def test_sessions_say_which_of_them_run(console: ServedConsole, visitor: Client) -> None:
    text = (await visitor.get("/console/sessions?live=yes")).text
    assert SESSION in text and ">live<" in text
    assert "live" not in asked(console, "/freehold/v1/traced-sessions")


async def test_a_session_is_stepped_through_turn_by_turn(visitor: Client) -> None:
    path = f"/console/sessions/{SESSION}"
    first = page_of(await visitor.get(f"{path}.json"))
    assert [turn["open"] for turn in first["turns"]] == [True, False, False]
    assert (first["place"], first["earlier"]) == (1, None)
    seen, page = [first["span"]["spanId"]], first
    while page["later"] and page["later"]["trace"] == TRACE:
        query = f"trace={page['later']['trace']}&step={page['later']['step']}"
        page = page_of(await visitor.get(f"{path}.json?{query}"))
        seen.append(page["span"]["spanId"])
    told = [one["spanId"] for one in SPANS if one["is"]["operation"]]
    assert seen == told, "whatever was said, called, read or decided, in its order"
    assert page["later"] == {"trace": f"{1:032x}", "step": ""}, "on to the next turn"


async def test_a_tool_call_in_a_replay_says_what_led_to_it(visitor: Client) -> None:
    path = f"/console/sessions/{SESSION}?trace={TRACE}&step={span_id(6)}"
    text = (await visitor.get(path)).text
    assert "What led to this call" in text and "it asked for tool call call_7" in text
    other = (await visitor.get(path.replace(span_id(6), span_id(5)))).text
    assert "What led to this call" not in other


# -- who may


@pytest.mark.parametrize(
    ("path", "operation"),
    [("/console", "GetOverview"), ("/console/agents", "ListAgents"),
     (f"/console/agents/{AGENT}", "GetAgent"), ("/console/traces", "ListTraces"),
     ("/console/traces/live", "FollowTraces"), (ONE, "GetTrace"), (f"{ONE}/rows", "GetTrace"),
     (f"{ONE}/spans/{span_id(6)}", "GetSpan"), (f"{ONE}/spans/{span_id(6)}/why", "ExplainSpan"),
     ("/console/sessions", "ListSessions"), (f"/console/sessions/{SESSION}", "GetSession")],
)  # fmt: skip
async def test_every_page_is_asked_for_by_its_name_and_needs_a_sign_in(
    console: ServedConsole, visitor: Client, path: str, operation: str
) -> None:
    console.authorizer.denied.add(f"console:{operation}")
    console.platform.asked.clear()
    assert (await visitor.get(path)).status == 403
    assert console.platform.asked == [], "nothing is read before"
    console.sign_in.sessions.clear()
    assert (await visitor.get(path)).status == 303


async def test_a_session_whose_id_holds_slashes_has_its_page(
    console: ServedConsole, visitor: Client
) -> None:
    id = "trips/lisbon?#/1"
    answers = console.platform.answers
    line = {**answers["GET /freehold/v1/traced-sessions"]["sessions"][0], "sessionId": id}
    answers["GET /freehold/v1/traced-sessions"] = {"sessions": [line]}
    answers["GET /freehold/v1/traces"] = {"traces": [trace_line(), trace_line(1), trace_line(2)]}
    listed = await visitor.get("/console/sessions")
    assert 'href="/console/sessions/trips%2Flisbon%3F%23%2F1"' in listed.text
    page = await visitor.get(f"/console/sessions/trips%2Flisbon%3F%23%2F1?trace={TRACE}")
    assert page.status == 200 and id in page.text
    assert 'href="/console/sessions/trips%2Flisbon%3F%23%2F1?trace=' in page.text
    assert asked(console, "/freehold/v1/traced-sessions")["sessionId"] == id
    twin = f"/console/sessions/trips%2Flisbon%3F%23%2F1.json?trace={TRACE}"
    times = [turn["trace"]["startedAt"] for turn in page_of(await visitor.get(twin))["turns"]]
    assert times == sorted(times), "from the first to the last"
    answers["GET /freehold/v1/traced-sessions"] = {"sessions": []}
    assert (await visitor.get("/console/sessions/trips%2Flisbon")).status == 404
    assert (await visitor.get("/console/sessions/trips/lisbon")).status == 404
