"""What of telemetry is kept: content where it is captured, and never what the rules take out."""

import time
from typing import Any

import msgspec
import pytest

from freehold.kernel.errors import ValidationFailed
from freehold.ports.spans import Facts, Origin, SpanEvent, SpanRecord
from freehold.ports.telemetry import LogRecord, MetricPoint
from freehold.services.observability.configuration import (
    Compiled,
    Redaction,
    TelemetryConfiguration,
)
from freehold.services.observability.content import ContentPolicy
from freehold.services.observability.redaction import (
    BUILT_IN,
    PATTERN_CHARACTERS_MAX,
    RULES_MAX,
    Redactor,
    Rule,
)

SAID = "the secret recipe"
TENANT = "123456789012"
CONTENT: dict[str, Any] = {
    "gen_ai.input.messages": f'[{{"content": "{SAID}"}}]',
    "gen_ai.output.messages": SAID,
    "gen_ai.system_instructions": SAID,
    "gen_ai.prompt": SAID,
    "gen_ai.completion": SAID,
    "gen_ai.tool.call.arguments": SAID,
    "gen_ai.tool.call.result": SAID,
    "gen_ai.prompt.0.content": SAID,
    "gen_ai.completion.0.content": SAID,
    "gen_ai.completion.0.tool_calls.0.arguments": SAID,
    "llm.input_messages.0.message.content": SAID,
    "llm.input_messages.0.message.contents.1.message_content.text": SAID,
    "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments": SAID,
    "llm.prompts.0.prompt.text": SAID,
    "llm.prompt_template.variables": SAID,
    "llm.invocation_parameters": SAID,
    "input.value": SAID,
    "output.value": SAID,
    "retrieval.documents.0.document.content": SAID,
    "embedding.embeddings.0.embedding.text": SAID,
    "traceloop.entity.input": SAID,
    "traceloop.entity.output": SAID,
    "gcp.vertex.agent.llm_request": SAID,
    "ai.prompt.messages": SAID,
    "freehold.exchange.request": SAID,
    "freehold.exchange.response": SAID,
    "crewai.task.description": SAID,
}
STRUCTURE: dict[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.usage.input_tokens": 7,
    "gen_ai.prompt.0.role": "user",
    "gen_ai.completion.0.finish_reason": "stop",
    "gen_ai.completion.0.tool_calls.0.name": "lookup",
    "llm.output_messages.0.message.role": "assistant",
    "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "lookup",
    "retrieval.documents.0.document.id": "d1",
    "retrieval.documents.0.document.score": 0.5,
    "input.mime_type": "application/json",
    "http.request.method": "POST",
    "freehold.exchange.content_type": "text/event-stream",
    "freehold.exchange.truncated": True,
}
EVENTS = [
    SpanEvent("gen_ai.user.message", 1, {"content": SAID, "role": "user"}),
    SpanEvent("gen_ai.choice", 2, {"message": SAID, "finish_reason": "stop", "tool.result": SAID}),
    SpanEvent("gen_ai.content.prompt", 3, {"gen_ai.prompt": SAID}),
    SpanEvent("exception", 4, {"exception.type": "ValueError"}),
]


class Capturing:
    async def captures(self, tenant: str, runtime_id: str) -> bool:
        return runtime_id == "captured"


class Configured:
    def __init__(self, configuration: TelemetryConfiguration) -> None:
        self.configuration = configuration

    async def of(self, tenant: str) -> Compiled:
        redaction = self.configuration.redaction
        return Compiled(self.configuration, Redactor(redaction.built_in, redaction.rules))


def policy(*, clients: bool = False, rules: list[Rule] | None = None, **more: Any) -> ContentPolicy:
    redaction = Redaction(rules=rules or [], **more)
    configuration = TelemetryConfiguration(redaction=redaction, capture_clients=clients)
    return ContentPolicy(Capturing(), Configured(configuration))


def span(origin: Origin = "agent", agent_id: str = "captured", **more: Any) -> SpanRecord:
    now = time.time_ns()
    return SpanRecord(
        tenant=TENANT, trace_id="1" * 32, span_id="2" * 16, started_ns=now, ended_ns=now,
        origin=origin, agent_id=agent_id, facts=Facts(operation="chat"), **{"name": "chat", **more},
    )  # fmt: skip


async def kept(record: SpanRecord, by: ContentPolicy) -> SpanRecord:
    return (await by.handling(record.tenant, record.agent_id, record.origin)).span(record)


async def test_without_capture_no_family_of_attributes_or_events_says_what_was_said() -> None:
    record = span(agent_id="other", attributes={**CONTENT, **STRUCTURE}, events=EVENTS)
    found = await kept(record, policy())
    assert SAID not in msgspec.json.encode(found).decode()
    assert found.attributes == STRUCTURE
    assert [event.attributes for event in found.events] == [
        {"role": "user"}, {"finish_reason": "stop"}, {}, {"exception.type": "ValueError"},
    ]  # fmt: skip
    assert found.facts == record.facts


async def test_with_capture_all_of_it_is_kept() -> None:
    record = span(attributes={**CONTENT, **STRUCTURE}, events=EVENTS)
    assert await kept(record, policy()) == record


@pytest.mark.parametrize(("clients", "expected"), [(True, True), (False, False)])
async def test_for_a_client_its_tenants_choice_counts_and_no_runtimes(
    clients: bool, expected: bool
) -> None:
    record = span("client", agent_id="captured", attributes={"input.value": SAID})
    found = await kept(record, policy(clients=clients))
    assert bool(found.attributes) is expected


async def test_an_agent_that_is_not_known_has_nothing_captured() -> None:
    found = await kept(span(agent_id="", attributes={"input.value": SAID}), policy(clients=True))
    assert found.attributes == {}


@pytest.mark.parametrize(
    ("event", "body", "left"),
    [
        ("gen_ai.user.message", {"content": SAID, "role": "user"}, {"role": "user"}),
        ("gen_ai.choice", SAID, None),
        ("", {"input": {"messages": [SAID]}, "output": SAID, "level": "info"}, {"level": "info"}),
        ("their.event", "a line of a log", "a line of a log"),
        ("", {"gen_ai.input.messages": SAID}, {}),
    ],
)
async def test_a_logs_body_loses_what_was_said_and_a_line_stays(
    event: str, body: Any, left: Any
) -> None:
    record = LogRecord(
        tenant=TENANT, at_ns=1, origin="agent", body=body, event=event,
        attributes={"gen_ai.prompt": SAID, "kept": 1},
    )  # fmt: skip
    found = (await policy().handling(TENANT, "", "agent")).log(record)
    assert found.body == left
    assert SAID not in str(found.attributes)
    captured = (await policy().handling(TENANT, "captured", "agent")).log(record)
    assert captured == record


FOUND = {
    "emails": ("mail to bob.o'hara+x@example.co.uk now", "mail to [email] now"),
    "phoneNumbers": ("+49 (30) 1234-5678, (212) 555-0199", "[phone number], [phone number]"),
    "cardNumbers": (
        "4111 1111 1111 1111 378282246310005 3782-822463-10005",
        "[card number] [card number] [card number]",
    ),
    "ibans": ("DE89 3704 0044 0532 0130 00 GB82WEST12345698765432", "[IBAN] [IBAN]"),
    "usSocialSecurityNumbers": ("123-45-6789", "[SSN]"),
    "apiKeys": (
        "sk-proj-abcdefghijklmnop1234 ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "[API key] [API key]",
    ),
    "bearerTokens": ("Authorization: Bearer abcdefghijklmnop.q/r==", "Authorization: [token]"),
    "jwts": ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc-def!", "[JWT]!"),
    "awsKeys": ("AKIAIOSFODNN7EXAMPLE and FHIAIOSFODNN7EXAMPLE", "[access key] and [access key]"),
    "privateKeys": (
        "a -----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- b",
        "a [private key] b",
    ),
}


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_each_built_in_rule_finds_what_it_is_for(name: str) -> None:
    text, redacted = FOUND[name]
    assert Redactor([name], []).text(text) == redacted
    assert Redactor([], []).text(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112",  # its check digit is wrong
        "20261122043516123",
        "DE00 3704 0044 0532 0130 00",
        "000-12-3456 and 900-12-3456",
        "2026-11-22T04:35:16.123456Z took 1234567890 ns",
        "trace 5b8efff798038103d269b633813fc60c at 127.0.0.1:8400",
        "the bearer of this letter",
        "chat gpt-5-mini, 1,024 tokens",
    ],
)
def test_what_only_looks_like_one_stays(text: str) -> None:
    assert Redactor(list(BUILT_IN), []).text(text) == text


async def test_redaction_reaches_every_string_captured_or_not() -> None:
    key = "sk-proj-abcdefghijklmnop1234"
    record = span(
        name=f"call {key}",
        message=key,
        attributes={"a": {"b": [1, key]}, key: True, "n": 1.5},
        events=[SpanEvent("exception", 4, {"exception.message": f"bad {key}"})],
        resource={"command": key},
    )
    found = await kept(record, policy())
    assert key not in msgspec.json.encode(found).decode()
    assert found.attributes == {"a": {"b": [1, "[API key]"]}, "[API key]": True, "n": 1.5}
    assert (await kept(record, policy(built_in=[]))) == record
    point = MetricPoint(
        tenant=TENANT, at_ns=1, started_ns=1, origin="agent", name="n", kind="gauge",
        attributes={"key": key},
    )  # fmt: skip
    handling = await policy().handling(TENANT, "captured", "agent")
    assert handling.point(point).attributes == {"key": "[API key]"}


async def test_a_tenants_own_rule_with_anchors_is_for_each_string() -> None:
    rule = Rule(name="order", pattern=r"^order-\d+$", replacement="order-x")
    record = span(attributes={"one": "order-17", "two": "my order-17"})
    found = await kept(record, policy(rules=[rule], built_in=[]))
    assert found.attributes == {"one": "order-x", "two": "my order-17"}


def test_a_replacement_is_taken_as_it_is() -> None:
    rule = Rule(name="r", pattern=r"(\d)x", replacement=r"\1\g<1>")
    assert Redactor([], [rule]).text("1x2x") == r"\1\g<1>\1\g<1>"


def test_no_rule_makes_a_text_much_longer() -> None:
    rule = Rule(name="r", pattern=".", replacement="R" * 64)
    assert len(Redactor([], [rule]).text("a" * 10_000)) == 64


def test_a_pattern_that_would_backtrack_for_ever_ends_at_once() -> None:
    redactor = Redactor([], [Rule(name="r", pattern=r"(a+)+$")])
    assert redactor.text("a" * 200_000 + "b") == "a" * 200_000 + "b"


@pytest.mark.parametrize(
    ("built_in", "rules", "says"),
    [
        (["emailz"], [], "emailz"),
        ([], [Rule(name="r", pattern="(")], "r: "),
        ([], [Rule(name="r", pattern="(?=x)")], "r: "),
        ([], [Rule(name="r", pattern="x*")], "nothing"),
        ([], [Rule(name="r", pattern="x" * (PATTERN_CHARACTERS_MAX + 1))], "characters"),
        ([], [Rule(name="r", pattern="x{1000}{1000}{1000}")], "r: "),
        ([], [Rule(name="a b", pattern="x")], "letters"),
        ([], [Rule(name="r", pattern="x", replacement="y" * 65)], "replacement"),
        ([], [Rule(name="r", pattern="x"), Rule(name="r", pattern="y")], "same name"),
        ([], [Rule(name=f"r{n}", pattern="x") for n in range(RULES_MAX + 1)], "at most"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_with_the_reason(
    built_in: list[str], rules: list[Rule], says: str
) -> None:
    with pytest.raises(ValidationFailed, match=says):
        Redactor(built_in, rules)
