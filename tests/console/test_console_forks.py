"""Forks of recorded sessions: the form at a step, one beside what was recorded, the list."""

import json
from typing import Any

import pytest
from console_answers import SESSION, SPANS, TRACE, fill, raw, span_id
from console_fork_answers import (
    FORK,
    FORKING,
    INNER,
    MODEL_STEP,
    REASON,
    TOOL_STEP,
    TURN_STEP,
    comparison,
    fill_forks,
    fork,
    refused,
)
from served_console import Client, ServedConsole

from freehold.console import recorded_steps
from freehold.console.differences import difference
from freehold.console.spans import may_fork
from freehold.kernel.errors import AccessDenied, Conflict

HOSTILE = "<script>alert(1)</script>"
ONE = f"/console/forks/{FORK}"


@pytest.fixture
async def visitor(console: ServedConsole, client: Client) -> Client:
    fill(console.platform)
    fill_forks(console.platform)
    return await client.signed_in()


def made(console: ServedConsole) -> Any:
    """What the last fork was made with."""
    sent = [body for method, path, body, _ in console.platform.asked
            if (method, path) == ("POST", "/freehold/v1/forks")]  # fmt: skip
    return sent[-1]


# -- the form


async def test_steps_of_a_record_have_a_button_that_leads_to_the_form(visitor: Client) -> None:
    for page in (f"/console/traces/{TRACE}?span={MODEL_STEP}",
                 f"/console/traces/{TRACE}/spans/{MODEL_STEP}",
                 f"/console/sessions/{SESSION}?trace={TRACE}&step={MODEL_STEP}"):  # fmt: skip
        assert f'href="{FORKING}"' in (await visitor.get(page)).text, page
    policy = await visitor.get(f"/console/traces/{TRACE}/spans/{span_id(8)}")
    assert "Fork from here" not in policy.text


def test_only_what_an_agent_did_in_a_session_may_be_forked() -> None:
    turn, own, chat = SPANS[0], SPANS[2], SPANS[4]
    assert may_fork(turn) and may_fork(chat)
    assert not may_fork(own), "what the agent tells of itself is no invocation"
    assert not may_fork({**chat, "sessionId": ""}) and not may_fork({**chat, "agentId": ""})


async def test_the_form_begins_with_what_was_recorded(visitor: Client) -> None:
    text = (await visitor.get(FORKING)).text
    for said in ('value="claude-sonnet-4-5"', ">\nYou plan journeys. Ask before you book.</t",
                 ">\nA weekend in Lisbon, not above 400 euros.</t", ">strict</option>",
                 "2 calls answered from the record", ">prod</option>"):  # fmt: skip
        assert said in text
    assert ">gone</option>" not in text, "an engine that goes decides on nothing"
    tool = (await visitor.get(FORKING.replace(MODEL_STEP, TOOL_STEP))).text
    assert 'name="toolAnswer"' in tool and 'name="prompt"' not in tool


async def test_what_was_left_as_it_was_is_no_change(
    console: ServedConsole, visitor: Client
) -> None:
    await visitor.get(FORKING)
    form = {
        "model": "qwen3 ", "system": "You plan journeys. Ask before you book.\r\n", "prompt": "",
        "policyEngineId": "", "endpoint": "", "until": "turn",
    }  # fmt: skip
    answer = await visitor.post(FORKING, form)
    assert (answer.status, answer.headers["location"]) == (303, ONE)
    assert made(console) == {
        "traceId": TRACE, "spanId": MODEL_STEP, "until": "turn", "change": {"model": "qwen3"},
    }  # fmt: skip
    await visitor.post(FORKING, {
        **form, "model": "claude-sonnet-4-5", "prompt": "A week.", "until": "session",
        "policyEngineId": "strict-0123456789", "endpoint": "prod",
    })  # fmt: skip
    assert made(console)["change"] == {"prompt": "A week.", "policyEngineId": "strict-0123456789"}
    assert (made(console)["until"], made(console)["endpoint"]) == ("session", "prod")


async def test_payloads_and_answers_of_tools_are_json_or_text(
    console: ServedConsole, visitor: Client
) -> None:
    turn, tool = (FORKING.replace(MODEL_STEP, step) for step in (TURN_STEP, TOOL_STEP))
    await visitor.get(turn)
    await visitor.post(turn, {"payload": '{"prompt": "Oslo"}'})
    assert made(console)["change"] == {"payload": {"prompt": "Oslo"}}
    broken = await visitor.post(turn, {"payload": '{"prompt": Oslo}'})
    assert broken.status == 400 and "The payload is no JSON" in broken.text
    assert "{&#34;prompt&#34;: Oslo}" in broken.text, "what was written is not lost"
    await visitor.post(tool, {"toolAnswer": "99 euros"})
    assert made(console)["change"] == {"toolAnswer": "99 euros"}
    result = {"content": [{"type": "text", "text": "none"}], "isError": True}
    await visitor.post(tool, {"toolAnswer": json.dumps(result)})
    assert made(console)["change"] == {"toolAnswer": result}


async def test_a_step_that_cannot_be_forked_says_why(
    console: ServedConsole, visitor: Client
) -> None:
    inner = await visitor.get(FORKING.replace(MODEL_STEP, INNER))
    assert "It ran inside the agent; take the model call" in inner.text
    assert "Run the fork" not in inner.text
    path = f"GET /freehold/v1/traces/{TRACE}/spans/{MODEL_STEP}/fork-point"
    console.platform.answers[path] = refused()
    assert REASON[1:] in (await visitor.get(FORKING)).text


async def test_a_refusal_is_said_above_the_form(console: ServedConsole, visitor: Client) -> None:
    await visitor.get(FORKING)
    console.platform.answers["POST /freehold/v1/forks"] = Conflict("there are too many forks")
    answer = await visitor.post(FORKING, {"model": "qwen3", "until": "session"})
    assert answer.status == 409
    assert "There are too many forks" in answer.text and 'value="qwen3"' in answer.text
    assert '<option value="session" selected>' in answer.text


async def test_who_may_not_fork_is_refused(console: ServedConsole, visitor: Client) -> None:
    await visitor.get(FORKING)
    console.authorizer.denied.add("console:CreateFork")
    assert (await visitor.post(FORKING, {"model": "qwen3"})).status == 403
    assert ("POST", "/freehold/v1/forks") not in [one[:2] for one in console.platform.asked]


def test_a_text_that_no_form_takes_is_left_as_it_was() -> None:
    one = {"is": {"content": {"system": [{"type": "text", "text": "a" * 20_000}]}}}
    assert not recorded_steps.fits(recorded_steps.texts(one)["system"])
    assert recorded_steps.fits("a" * 1000)


def test_a_plain_answer_of_a_tool_is_its_text() -> None:
    def text(result: Any) -> str:
        return recorded_steps.texts({"is": {"tool": {"result": result}}})["toolAnswer"]

    part = {"type": "text", "text": "9"}
    assert text({"content": [part]}) == "9"
    assert json.loads(text({"content": [part], "isError": True}))["isError"] is True
    assert json.loads(text({"content": [part, part]}))["content"] == [part, part]
    assert text(None) == ""


def test_a_payload_is_read_as_it_was_kept() -> None:
    def text(kept: str) -> str:
        attributes = {"freehold.exchange.request": kept}
        return recorded_steps.texts({"raw": {"attributes": attributes}})["payload"]

    assert text('{"a":1}') == '{\n  "a": 1\n}'
    assert text("data:text/plain;base64,aGk=") == "hi"
    assert text("data:image/png;base64,iVBORw==") == "", "no text"


# -- one fork


async def test_a_fork_stands_beside_what_was_recorded(visitor: Client) -> None:
    text = (await visitor.get(ONE)).text
    for said in ("model <code>qwen3</code>, instructions", "version 3 (recorded with 2)",
                 "asked something else than was recorded", "<del>162</del>", "<ins>99</ins>",
                 "<ins>There is one for 80 euros.</ins>", "only recorded", "only in the fork",
                 "changed", "given", "$0.0148"):  # fmt: skip
        assert said in text, said
    assert f"/console/traces/{1:032x}" in text and f"/console/sessions/{FORK}" in text
    assert "refresh" not in text
    assert text.count('class="fork-row"') == 5, "the turn itself has its own heading"


async def test_one_row_is_open_the_first_that_differs_or_the_chosen(
    console: ServedConsole, visitor: Client
) -> None:
    path = f"GET /freehold/v1/forks/{FORK}/comparison"
    console.platform.answers[path] = comparison(firstDifference={"turn": 1, "row": 0})
    assert 'id="row-1.3" class="open"' in (await visitor.get(ONE)).text, "a turn is no step"
    console.platform.answers[path] = comparison()
    first = (await visitor.get(ONE)).text
    assert first.count('aria-expanded="true"') == 1 and 'id="row-1.3" class="open"' in first
    assert f'href="{ONE}?row=1.4#row-1.4"' in first, "on to the next difference"
    tool = (await visitor.get(f"{ONE}?row=1.4")).text
    assert 'id="row-1.4" class="open"' in tool and 'rel="prev"' in tool
    closed = (await visitor.get(f"{ONE}?row=0")).text
    assert 'aria-expanded="true"' not in closed
    page = json.loads((await visitor.get(f"{ONE}.json")).text)["page"]
    assert page["row"] == "1.3" and page["turns"][0]["rows"][1]["changed"] is True


async def test_a_fork_under_way_looks_again_by_itself(
    console: ServedConsole, visitor: Client
) -> None:
    turns = [{"number": 1, "recordedTraceId": TRACE, "traceId": "", "status": "RUNNING"}]
    running = fork(status="RUNNING", turns=turns)
    begun = comparison(fork=running)["turns"][0]
    begun = {**begun, "rows": [{**each, "fork": None} for each in begun["rows"]]}
    console.platform.answers[f"GET /freehold/v1/forks/{FORK}"] = running
    console.platform.answers[f"GET /freehold/v1/forks/{FORK}/comparison"] = comparison(
        fork=running, turns=[begun], firstDifference=None
    )
    text = (await visitor.get(ONE)).text
    assert '<meta http-equiv="refresh" content="2">' in text and "0 of 1 turn done" in text
    compared = ("GET", f"/freehold/v1/forks/{FORK}/comparison")
    assert compared not in [one[:2] for one in console.platform.asked], "not every moment"
    so_far = (await visitor.get(f"{ONE}?row=0")).text
    assert "not yet" in so_far and "refresh" not in so_far
    assert "Answer" not in so_far, "what has not come yet is no difference"
    assert f'href="{ONE}?stop=1"' in text and "Yes, do it" not in text
    asking = (await visitor.get(f"{ONE}?stop=1")).text
    assert "Yes, do it" in asking and "refresh" not in asking, "a question stays"


async def test_how_a_fork_ended_is_said_and_a_comparison_that_fails_leaves_the_rest(
    console: ServedConsole, visitor: Client
) -> None:
    ended = fork(
        status="DIVERGED", reason="it called refund too early", notes=["Version 2 is gone"]
    )
    console.platform.answers[f"GET /freehold/v1/forks/{FORK}"] = ended
    path = f"GET /freehold/v1/forks/{FORK}/comparison"
    console.platform.answers[path] = AccessDenied("not for your roles")
    text = (await visitor.get(ONE)).text
    for said in ("diverged", "It called refund too early", "Version 2 is gone",
                 "not for your roles"):  # fmt: skip
        assert said in text


async def test_a_fork_is_deleted_after_a_question(console: ServedConsole, visitor: Client) -> None:
    assert "Yes, do it" in (await visitor.get(ONE)).text
    answer = await visitor.post(f"{ONE}/delete", {})
    assert (answer.status, answer.headers["location"]) == (303, "/console/forks?done=deleted")
    assert console.platform.asked[-1][:2] == ("DELETE", f"/freehold/v1/forks/{FORK}")
    assert "The fork is deleted" in (await visitor.get(answer.headers["location"])).text


async def test_a_step_of_a_fork_and_its_session_lead_back_to_it(
    console: ServedConsole, visitor: Client
) -> None:
    one = raw(SPANS[4])
    one["raw"]["attributes"] |= {
        "freehold.fork.id": FORK, "freehold.replay": "recorded", "freehold.replay.differs": True,
    }  # fmt: skip
    console.platform.answers[f"GET /freehold/v1/traces/{TRACE}/spans/{MODEL_STEP}"] = one
    text = (await visitor.get(f"/console/traces/{TRACE}/spans/{MODEL_STEP}")).text
    assert f'href="{ONE}"' in text and "it asked something else" in text
    session = console.platform.answers[f"GET /freehold/v1/traced-sessions/{SESSION}"]
    console.platform.answers[f"GET /freehold/v1/traced-sessions/{FORK}"] = {
        **session, "session": {**session["session"], "sessionId": FORK},
    }  # fmt: skip
    assert f'href="{ONE}"' in (await visitor.get(f"/console/sessions/{FORK}")).text
    assert "/console/forks/" not in (await visitor.get(f"/console/sessions/{SESSION}")).text


# -- the list


async def test_forks_are_listed_and_filtered_by_the_address(
    console: ServedConsole, visitor: Client
) -> None:
    text = (await visitor.get(f"/console/forks?status=DIVERGED&traceId={TRACE}")).text
    assert console.platform.asked[-1][3] == {
        "status": "DIVERGED", "traceId": TRACE, "limit": "50",
    }  # fmt: skip
    assert f'href="{ONE}"' in text and "fares___search" in text
    console.platform.answers["GET /freehold/v1/forks"] = {"forks": [], "nextToken": None}
    assert "freehold trace fork TRACE SPAN" in (await visitor.get("/console/forks")).text
    assert "No fork fits" in (await visitor.get("/console/forks?status=FAILED")).text


async def test_what_tenants_and_agents_say_is_text(console: ServedConsole, visitor: Client) -> None:
    step = {"kind": "model", "name": HOSTILE, "turn": 1, "position": 1}
    one = fork(step=step, change={"model": HOSTILE, "system": HOSTILE}, reason=HOSTILE)
    compared = comparison(fork=one)
    for row in compared["turns"][0]["rows"]:
        row["name"] = HOSTILE
        if row["fork"]:
            row["fork"]["answered"] = f"said {HOSTILE}"
    console.platform.answers |= {
        "GET /freehold/v1/forks": {"forks": [one], "nextToken": None},
        f"GET /freehold/v1/forks/{FORK}": one,
        f"GET /freehold/v1/forks/{FORK}/comparison": compared,
    }
    for page in ("/console/forks", ONE):
        text = (await visitor.get(page)).text
        assert "<script>alert" not in text and "alert(1)" in text, page


def test_long_texts_are_compared_by_their_beginnings_and_soon() -> None:
    found = difference("a b c\n" * 50_000, "a b d\n" * 50_000)
    assert found.cut and not found.same
    assert all(isinstance(line, int) or line.recorded for line in found.lines)
    assert difference('{"a":1}', '{ "a": 1 }').same, "JSON is the same however it is written"
