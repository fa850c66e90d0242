"""The audit at the AWS edge: durable before an answer goes, or a stream's last byte."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aws_edge_driver import (
    INVOKE,
    INVOKE_PATH,
    Seen,
    TenantAuthorizer,
    ask,
    call,
    invoke_output,
    make_edge,
    signed_scope,
)

from freehold.edges.pipeline import Pipeline
from freehold.kernel.errors import NotFound, Unavailable
from freehold.ports.audit import AuditEvent


class Journal:
    """What happened, in order: lines of the audit, and bytes that went out."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.away = ""

    async def write(self, event: AuditEvent) -> None:
        await asyncio.sleep(0)
        if event.phase == self.away:
            raise Unavailable("the audit is away")
        told = f" {event.outcome} {event.status}" if event.outcome else ""
        self.events.append(event.phase + told)

    def note(self, event: AuditEvent) -> None:
        self.events.append(f"noted {event.outcome} {event.status}")

    def edge(self, handler: Any, directory: Any) -> Any:
        pipeline = Pipeline(authorizer=TenantAuthorizer(), calls_in_flight_max=10, audit=self)
        return make_edge({INVOKE: handler}, directory, pipeline=pipeline)

    async def ask(self, edge: Any) -> None:
        """The messages of one exchange, in among the lines."""

        async def recorded(scope: Any, receive: Any, send: Any) -> None:
            async def sending(message: Any) -> None:
                kind = message["type"].rpartition(".")[2]
                if kind == "body":
                    kind = "piece" if message.get("more_body") else "end"
                self.events.append(kind)
                await send(message)

            await edge(scope, receive, sending)

        await ask(recorded, signed_scope("POST", INVOKE_PATH))


async def test_nothing_of_a_whole_answer_goes_before_its_outcome(tmp_path: Any) -> None:
    journal = Journal()
    await journal.ask(journal.edge(Seen(invoke_output(b"{}")), tmp_path))
    assert journal.events == ["intent", "outcome allowed 200", "start", "end"]


async def test_a_stream_flows_and_its_last_byte_waits_for_the_outcome(tmp_path: Any) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    journal = Journal()
    await journal.ask(journal.edge(Seen(invoke_output(pieces())), tmp_path))
    assert journal.events == [
        "intent", "start", "piece", "piece", "outcome allowed 200", "end",
    ]  # fmt: skip


async def test_an_error_is_written_before_it_is_told(tmp_path: Any) -> None:
    journal = Journal()
    await journal.ask(journal.edge(Seen(NotFound("no such runtime")), tmp_path))
    assert journal.events == ["intent", "outcome failed 404", "start", "end"]


@pytest.mark.parametrize("phase", ["intent", "outcome"])
async def test_without_the_audit_a_call_is_unavailable(phase: str, tmp_path: Any) -> None:
    journal, seen = Journal(), Seen(invoke_output(b"{}"))
    journal.away = phase
    answer = await call(journal.edge(seen, tmp_path), "POST", INVOKE_PATH)
    assert (answer.status, answer.code) == (503, "ServiceUnavailableException")
    assert len(seen.calls) == (0 if phase == "intent" else 1)


async def test_a_stream_whose_outcome_cannot_be_written_is_broken_off(tmp_path: Any) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"

    journal = Journal()
    journal.away = "outcome"
    with pytest.raises(AssertionError):  # of `ask`: the answer has no end
        await journal.ask(journal.edge(Seen(invoke_output(pieces())), tmp_path))
    assert journal.events == ["intent", "start", "piece"]
