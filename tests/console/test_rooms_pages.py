"""The rooms where agents are governed: gateways, policies, memory, identities, audit, keys."""

import json
import re
from typing import Any

import pytest
from console_doubles import FIRST
from room_answers import (
    DECISION,
    DISABLED,
    ENGINE,
    ERASURE,
    GATEWAY,
    GRANT,
    KEY,
    MEMORY,
    PERSON,
    RECORD,
    REFUND,
    ROOMS,
    TARGET,
    answer_of_tool,
    fill_rooms,
)
from served_console import Answer, Client, ServedConsole

from freehold.console import tool_forms
from freehold.console.cedar_text import coloured
from freehold.kernel.errors import AccessDenied, Conflict, NotFound, ValidationFailed

HOSTILE = '"><script>alert(1)</script>'
AT = f"/console/gateways/{GATEWAY}"
CALL = f"POST /gateway/{GATEWAY}/mcp"
_OWN_SCRIPT = re.compile(r'<script src="/console/static/[0-9a-f]{16}/\w+\.js" defer></script>')


@pytest.fixture
async def visitor(console: ServedConsole, client: Client) -> Client:
    fill_rooms(console.platform)
    return await client.signed_in()


def data_of(answer: Answer) -> Any:
    assert answer.status == 200, answer.text
    return json.loads(answer.text)["page"]


def sent(console: ServedConsole, method: str, path: str) -> Any:
    """The body of the last request of it."""
    found = [body for how, way, body, _ in console.platform.asked if (how, way) == (method, path)]
    assert found, f"{method} {path} was not asked"
    return found[-1]


def asked_with(console: ServedConsole, path: str) -> dict[str, str]:
    found = [query for _, way, _, query in console.platform.asked if way == path]
    assert found, f"{path} was not asked"
    return found[-1]


# -- all of them


async def test_every_room_is_a_page_with_a_json_twin(visitor: Client) -> None:
    for room in ROOMS:
        page = await visitor.get(room)
        assert page.status == 200, f"{room}: {page.text}"
        path, mark, query = room.partition("?")
        twin = await visitor.get(f"{path}.json{mark}{query}")
        assert isinstance(data_of(twin), dict), room


async def test_every_form_that_changes_something_has_its_token(visitor: Client) -> None:
    for room in ROOMS:
        for form in re.findall(r"<form[^>]*>.*?</form>", (await visitor.get(room)).text, re.DOTALL):
            if 'method="post"' in form:
                assert 'name="form_token"' in form, f"{room}: {form}"


async def test_what_tenants_name_is_text_in_every_room(
    console: ServedConsole, visitor: Client
) -> None:
    def hostile(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: v if k in KEPT else hostile(v) for k, v in value.items()}
        if isinstance(value, list):
            return [hostile(each) for each in value]
        return f"{value}{HOSTILE}" if isinstance(value, str) else value

    for path, answer in list(console.platform.answers.items()):
        if not callable(answer):
            console.platform.answers[path] = hostile(answer)
    for room in ROOMS:
        page = await visitor.get(room)
        assert page.status == 200, f"{room}: {page.text}"
        assert "<script" not in _OWN_SCRIPT.sub("", page.text), room


# What addresses and branches are made of stays as it is.
KEPT = ("gatewayId", "policyEngineId", "id", "policyId", "authorizerType")


@pytest.mark.parametrize(
    ("path", "answer", "command"),
    [
        ("/console/gateways", {"GET /gateways/": {"items": []}}, "freehold gateway create"),
        (
            "/console/policies",
            {"GET /policy-engines": {"policyEngines": []}},
            "policy engine create",
        ),
        ("/console/memory", {"POST /memories/": {"memories": []}}, "freehold memory create"),
        ("/console/audit", {"GET /freehold/v1/audit": {"lines": []}}, "freehold audit list"),
        (
            "/console/decisions",
            {"GET /freehold/v1/policy-decisions": {"decisions": []}},
            "freehold policy attach",
        ),
    ],
)
async def test_an_empty_room_says_the_command_that_fills_it(
    console: ServedConsole, visitor: Client, path: str, answer: dict[str, Any], command: str
) -> None:
    console.platform.answers |= answer
    assert command in (await visitor.get(path)).text


@pytest.mark.parametrize(
    ("room", "operation"),
    [
        ("/console/gateways", "console:ReadGateways"),
        ("/console/decisions", "console:ReadDecisions"),
        ("/console/keys", "console:ReadAccessKeys"),
        ("/console/audit", "console:ReadAudit"),
    ],
)
async def test_who_may_not_see_a_room_is_refused_before_anything_is_asked(
    console: ServedConsole, visitor: Client, room: str, operation: str
) -> None:
    console.authorizer.denied.add(operation)
    asked = len(console.platform.asked)
    assert (await visitor.get(room)).status == 403
    assert len(console.platform.asked) == asked


# -- gateways


async def test_a_gateway_shows_targets_that_are_unwell_and_what_waits(visitor: Client) -> None:
    text = (await visitor.get(AT)).text
    for said in ("It was not reached.", "Changes to approve (1)", ENGINE, "enforce"):
        assert said in text


@pytest.mark.parametrize(("decision", "done"), [("approve", "in force now"), ("reject", "blocked")])
async def test_a_change_is_decided_on_as_it_was_shown(
    console: ServedConsole, visitor: Client, decision: str, done: str
) -> None:
    path = f"/freehold/v1/gateways/{GATEWAY}/changes/{decision}"
    console.platform.answers[f"POST {path}"] = {"names": ["find"]}
    page = await visitor.get(f"{AT}/changes")
    assert "&#34;New&#34;" in page.text
    fields = {
        "decision": decision,
        "targetId": TARGET,
        "name": "find",
        "kind": "tool",
        "hash": "h2",
    }
    answer = await visitor.post(f"{AT}/changes", fields)
    assert answer.status == 303
    assert sent(console, "POST", path) == {
        "targetId": TARGET, "name": "find", "kind": "tool", "hash": "h2",
    }  # fmt: skip
    assert done in (await visitor.get(answer.headers["location"])).text


async def test_a_change_that_changed_again_is_refused_in_words(
    console: ServedConsole, visitor: Client
) -> None:
    path = f"POST /freehold/v1/gateways/{GATEWAY}/changes/approve"
    console.platform.answers[path] = Conflict("it has changed again; look at it anew")
    await visitor.get(f"{AT}/changes")
    answer = await visitor.post(f"{AT}/changes", {"decision": "approve", "targetId": TARGET})
    assert answer.status == 409
    assert "look at it anew" in answer.text
    assert "orders___find" in answer.text, "the changes are shown as they are now"
    assert (await visitor.post(f"{AT}/changes", {"decision": "maybe"})).status == 400


async def test_a_target_is_asked_again(console: ServedConsole, visitor: Client) -> None:
    path = f"/gateways/{GATEWAY}/synchronizeTargets"
    console.platform.answers[f"PUT {path}"] = {}
    await visitor.get(f"{AT}/targets/{TARGET}")
    answer = await visitor.post(f"{AT}/targets/{TARGET}", {})
    assert answer.status == 303
    assert sent(console, "PUT", path) == {"targetIdList": [TARGET]}
    assert "asked again" in (await visitor.get(answer.headers["location"])).text


# -- trying a tool


async def test_a_tool_is_called_with_what_its_form_was_filled_in_with(
    console: ServedConsole, visitor: Client
) -> None:
    console.platform.answers[CALL] = answer_of_tool("refunded 20")
    page = await visitor.get(f"{AT}/try?tool=orders___refund")
    assert page.text.index('name="arg.amount"') < page.text.index('name="arg.note"')
    filled = {
        "tool": "orders___refund", "arg.amount": "20", "arg.note": "", "arg.status": '"open"',
        "arg.urgent": "true", "arg.items": '["lamp"]',
    }  # fmt: skip
    answer = await visitor.post(f"{AT}/try", filled)
    assert "refunded 20" in answer.text
    request = json.loads(sent(console, "POST", f"/gateway/{GATEWAY}/mcp"))
    assert request["method"] == "tools/call"
    assert request["params"]["arguments"] == {
        "amount": 20, "status": "open", "urgent": True, "items": ["lamp"],
    }  # fmt: skip
    assert re.search(r'href="/console/traces/[0-9a-f]{32}"', answer.text)
    assert 'value="20"' in answer.text, "the form keeps what was filled in"


async def test_a_tool_is_called_with_json_where_that_is_easier(
    console: ServedConsole, visitor: Client
) -> None:
    console.platform.answers[CALL] = answer_of_tool("done")
    page = await visitor.get(f"{AT}/try?tool=orders___refund&as=json")
    assert "&#34;amount&#34;: 0" in page.text, "what must be there, to begin with"
    called = {"tool": "orders___refund", "arguments": '{"amount": 7}'}
    assert "done" in (await visitor.post(f"{AT}/try", called)).text
    wrong = {"tool": "orders___refund", "arguments": "{amount: 7}"}
    answer = await visitor.post(f"{AT}/try", wrong)
    assert answer.status == 400
    assert "no JSON" in answer.text and "{amount: 7}" in answer.text


async def test_a_refusal_says_who_refused(console: ServedConsole, visitor: Client) -> None:
    console.platform.answers[CALL] = answer_of_tool(
        "Refused by policy large-1: Too much.", isError=True,
        _meta={"freehold/refused": "policy"},
    )  # fmt: skip
    await visitor.get(f"{AT}/try?tool=orders___refund")
    answer = await visitor.post(f"{AT}/try", {"tool": "orders___refund", "arg.amount": "500"})
    assert "refused by policy" in answer.text
    assert "Too much." in answer.text
    assert f"/console/decisions?gatewayId={GATEWAY}&amp;tool=orders___refund" in answer.text


async def test_a_gateway_that_refuses_the_call_itself_is_quoted(
    console: ServedConsole, visitor: Client
) -> None:
    console.platform.answers[CALL] = AccessDenied("Missing bearer token.")
    await visitor.get(f"{AT}/try?tool=orders___refund")
    answer = await visitor.post(f"{AT}/try", {"tool": "orders___refund", "arg.amount": "5"})
    assert answer.status == 200 and "Missing bearer token." in answer.text


async def test_an_answer_in_events_is_read_to_its_last(
    console: ServedConsole, visitor: Client
) -> None:
    (whole,) = answer_of_tool("at last")
    progress = b'data: {"jsonrpc":"2.0","method":"notifications/progress","params":{}}\n\n'
    console.platform.answers[CALL] = [progress, b"data: " + whole + b"\n\n"]
    await visitor.get(f"{AT}/try?tool=orders___refund")
    answer = await visitor.post(f"{AT}/try", {"tool": "orders___refund", "arg.amount": "5"})
    assert "at last" in answer.text


async def test_a_token_is_asked_for_used_once_and_never_shown(
    console: ServedConsole, visitor: Client
) -> None:
    gateway = console.platform.answers[f"GET /gateways/{GATEWAY}/"]
    console.platform.answers[f"GET /gateways/{GATEWAY}/"] = {
        **gateway, "authorizerType": "CUSTOM_JWT",
    }  # fmt: skip
    console.platform.answers[CALL] = answer_of_tool("done")
    await visitor.get(f"{AT}/try?tool=orders___refund")
    called = {"tool": "orders___refund", "arg.amount": "5", "token": "canary.of.token"}
    answer = await visitor.post(f"{AT}/try", called)
    assert "Bearer token" in answer.text
    assert "canary" not in answer.text


def test_arguments_that_cannot_be_are_refused_by_name() -> None:
    fields = tool_forms.fields(REFUND["inputSchema"], {})  # type: ignore[arg-type]
    for name, text in (("amount", "much"), ("status", '"gone"'), ("items", "[")):
        with pytest.raises(ValidationFailed, match=name):
            tool_forms.arguments(fields, {f"arg.{name}": text})


@pytest.mark.parametrize(
    "schema",
    [{}, {"properties": 7}, {"properties": {"a": None, "b": {"type": ["string", "null"]}}}],
)
def test_a_schema_that_says_little_makes_a_form_all_the_same(schema: dict[str, Any]) -> None:
    assert all(field.kind == "json" for field in tool_forms.fields(schema, {}))


# -- policies and decisions


def test_cedar_is_coloured_and_stays_what_it_was() -> None:
    text = 'permit (principal) when { context.a < 5 && "<b>//x" != "" }; // <i>'
    shown = str(coloured(text))
    assert '<span class="k-effect">permit</span>' in shown
    assert '<span class="k-note">// &lt;i&gt;</span>' in shown
    bare = re.sub(r"</?span[^>]*>", "", shown)
    assert bare.replace("&lt;", "<").replace("&gt;", ">").replace("&#34;", '"').replace(
        "&amp;", "&"
    ) == text  # fmt: skip


async def test_an_engine_shows_its_policies_where_it_is_asked_and_what_a_proof_finds(
    console: ServedConsole, visitor: Client
) -> None:
    text = (await visitor.get(f"/console/policies/{ENGINE}")).text
    assert '<span class="k-effect">forbid</span>' in text
    assert f'href="/console/gateways/{GATEWAY}"' in text
    assert "What a proof finds" not in text, "a proof takes its time: only when it is asked for"
    text = (await visitor.get(f"/console/policies/{ENGINE}?check=1")).text
    assert "It permits every request" in text


async def test_decisions_are_filtered_by_the_address(
    console: ServedConsole, visitor: Client
) -> None:
    await visitor.get("/console/decisions?outcome=denied&tool=a___b&wouldDiffer=true&nextToken=t")
    assert asked_with(console, "/freehold/v1/policy-decisions") == {
        "since": "7d", "outcome": "denied", "tool": "a___b", "wouldDiffer": "true", "limit": "50",
        "nextToken": "t",
    }  # fmt: skip
    assert (await visitor.get("/console/decisions?outcome=perhaps")).status == 400


async def test_a_decision_says_why_and_shows_only_what_its_view_lets_be_seen(
    visitor: Client,
) -> None:
    text = (await visitor.get(f"/console/decisions/{DECISION}")).text
    for said in ("a policy forbids it", "large-1", "(number)", "Too much.", "went on all the same",
                 "decided differently"):  # fmt: skip
        assert said in text


# -- memory


async def test_a_record_is_traced_to_what_was_said_and_to_who_was_given_it(visitor: Client) -> None:
    text = (await visitor.get(f"/console/memory/{MEMORY}/records/{RECORD}")).text
    for said in ("I moved to Oslo", "The event is gone", "city is Rome", "Which city?", "0.93",
                 "/said?actor=anna&amp;session=s1", "/console/sessions/s-9"):  # fmt: skip
        assert said in text


async def test_a_search_is_made_as_an_agent_would_make_it(
    console: ServedConsole, visitor: Client
) -> None:
    await visitor.get(f"/console/memory/{MEMORY}/records?query=city&kept=current&path=/facts/")
    assert sent(console, "POST", f"/memories/{MEMORY}/retrieve") == {
        "namespacePath": "/facts/", "searchCriteria": {"searchQuery": "city", "topK": 25},
    }  # fmt: skip


async def test_a_person_is_counted_first_and_erased_when_that_is_confirmed(
    console: ServedConsole, visitor: Client
) -> None:
    path, page = f"/freehold/v1/memories/{MEMORY}/erasures", f"/console/memory/{MEMORY}/erasures"
    await visitor.get(page)
    counted = await visitor.post(page, {"actor": "anna"})
    assert sent(console, "POST", path) == {"actorId": "anna", "dryRun": True}
    assert "nothing has gone yet" in counted.text
    assert 'name="sure" value="yes"' in counted.text
    erased = await visitor.post(page, {"actor": "anna", "sure": "yes"})
    assert sent(console, "POST", path) == {"actorId": "anna", "dryRun": False}
    assert erased.headers["location"] == f"{page}/{ERASURE}"
    proof = (await visitor.get(erased.headers["location"])).text
    assert "Nothing is left of them" in proof and "ab" * 32 in proof


async def test_the_erasure_of_nobody_asks_whom(visitor: Client) -> None:
    page = f"/console/memory/{MEMORY}/erasures"
    await visitor.get(page)
    answer = await visitor.post(page, {"actor": " "})
    assert answer.status == 400
    assert "Say whom" in answer.text


# -- identities


async def test_a_grant_is_taken_back_after_a_question(
    console: ServedConsole, visitor: Client
) -> None:
    page = await visitor.get("/console/identities/grants?user=anna")
    assert asked_with(console, "/freehold/v1/oauth/grants") == {"user": "anna"}
    assert "Yes, revoke it" in page.text
    answer = await visitor.post("/console/identities/grants", {"grant": GRANT})
    assert answer.status == 303
    assert console.platform.asked[-1][:2] == ("DELETE", f"/freehold/v1/oauth/grants/{GRANT}")
    gone = await visitor.post("/console/identities/grants", {"grant": "g-2"})
    assert gone.status == 404


async def test_a_provider_of_no_kind_is_not_there(visitor: Client) -> None:
    assert (await visitor.get("/console/identities/providers/ftp/x")).status == 404


# -- keys and people


async def test_a_key_is_made_and_its_secret_is_on_one_page_alone(
    console: ServedConsole, visitor: Client
) -> None:
    await visitor.get("/console/keys")
    fields = {"description": "ci", "role.developer": "yes", "role.invoker": "yes"}
    made = await visitor.post("/console/keys", fields)
    assert sent(console, "POST", "/freehold/v1/keys") == {
        "description": "ci", "roles": ["developer", "invoker"],
    }  # fmt: skip
    assert "the-secret-of-a-key" in made.text
    assert made.headers["cache-control"] == "no-store"
    assert "the-secret-of-a-key" not in (await visitor.get("/console/keys")).text


async def test_a_key_may_have_a_role_that_no_person_has(visitor: Client) -> None:
    for page, offered in (("/console/keys", True), ("/console/keys/people", False)):
        text = (await visitor.get(page)).text
        assert ("role.ingester" in text, "role.auditor" in text) == (offered, True)


async def test_a_key_without_a_role_is_not_made(console: ServedConsole, visitor: Client) -> None:
    await visitor.get("/console/keys")
    answer = await visitor.post("/console/keys", {"description": "ci"})
    assert answer.status == 400
    assert "Choose at least one role" in answer.text
    asked = [(how, path) for how, path, *_ in console.platform.asked]
    assert ("POST", "/freehold/v1/keys") not in asked


async def test_a_key_is_disabled_and_one_that_is_can_be_deleted(
    console: ServedConsole, visitor: Client
) -> None:
    await visitor.get("/console/keys")
    answer = await visitor.post(f"/console/keys/{KEY}", {"what": "disable"})
    assert sent(console, "PATCH", f"/freehold/v1/keys/{KEY}") == {"status": "Inactive"}
    assert "nobody is let in" in (await visitor.get(answer.headers["location"])).text
    answer = await visitor.post(f"/console/keys/{DISABLED}", {"what": "delete"})
    assert answer.headers["location"] == "/console/keys?done=deleted"
    last = Conflict("this is the last active access key with the role admin")
    console.platform.answers[f"PATCH /freehold/v1/keys/{KEY}"] = last
    answer = await visitor.post(f"/console/keys/{KEY}", {"what": "disable"})
    assert answer.status == 409 and "This is the last active" in answer.text


async def test_people_are_added_and_given_roles(console: ServedConsole, visitor: Client) -> None:
    await visitor.get("/console/keys/people")
    fields = {"name": "kay", "email": "", "role.auditor": "yes"}
    made = await visitor.post("/console/keys/people", fields)
    assert sent(console, "POST", "/freehold/v1/people") == {"name": "kay", "roles": ["auditor"]}
    assert "a-password-made-up" in made.text
    page = f"/console/keys/people/{PERSON}"
    answer = await visitor.post(page, {"what": "roles", "role.operator": "yes"})
    assert sent(console, "PUT", f"/freehold/v1/people/{PERSON}/roles") == {"roles": ["operator"]}
    assert answer.headers["location"] == "/console/keys/people?done=roles"


# -- audit and costs


async def test_the_audit_is_filtered_by_the_address(
    console: ServedConsole, visitor: Client
) -> None:
    page = await visitor.get("/console/audit?user=ada&outcome=denied&since=1h")
    assert asked_with(console, "/freehold/v1/audit") == {
        "user": "ada", "outcome": "denied", "since": "1h", "limit": "100",
    }  # fmt: skip
    assert "nextToken=more" in page.text, "and on to the next page"


async def test_the_chain_is_verified_and_a_broken_one_is_said_to_be(
    console: ServedConsole, visitor: Client
) -> None:
    assert "It holds" in (await visitor.get("/console/audit/chain")).text
    verdict = {
        "holds": False, "checked": 4, "sequence": 4, "hash": "00", "faults": ["5 was changed"],
    }  # fmt: skip
    console.platform.answers["GET /freehold/v1/audit/verify"] = [{"checked": 4, "verdict": verdict}]
    text = (await visitor.get("/console/audit/chain")).text
    assert "It is broken" in text and "5 was changed" in text


async def test_a_chain_that_takes_too_long_says_how_far_it_came(
    console: ServedConsole, visitor: Client
) -> None:
    console.platform.answers["GET /freehold/v1/audit/verify"] = [{"checked": 200}]
    text = (await visitor.get("/console/audit/chain")).text
    assert "200 lines hold" in text and "freehold audit verify" in text


async def test_costs_add_up_sandboxes_and_models(console: ServedConsole, visitor: Client) -> None:
    text = (await visitor.get("/console/costs?by=user&since=30d")).text
    for said in ("$0.02", "$0.4", "$0.42", "travel", "a-model", "<svg"):
        assert said in text
    assert asked_with(console, "/freehold/v1/model-costs")["since"] == "30d"


async def test_costs_of_models_that_cannot_be_had_leave_the_rest(
    console: ServedConsole, visitor: Client
) -> None:
    console.platform.answers["GET /freehold/v1/model-costs"] = NotFound("not on this platform")
    text = (await visitor.get("/console/costs")).text
    assert "not on this platform" in text and "$0.02" in text


async def test_a_room_names_the_account_that_it_is_of(visitor: Client) -> None:
    assert FIRST in (await visitor.get("/console/gateways")).text
