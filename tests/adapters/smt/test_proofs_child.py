"""The prover's process: warm, bounded, and ended when it is late, dead or not to be understood."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from proofs_ground import SCHEMA, TRANSFER, permit

from freehold.adapters.smt import wire
from freehold.adapters.smt.reasoning import SmtReasoning
from freehold.kernel.errors import Unavailable
from freehold.ports.policies import PolicyRefused, Rule
from freehold.ports.reasoning import Property

SMALL = permit("small", "context.input.amount <= 1000")
HARD = permit(
    "hard",
    "context.input.amount * context.input.amount * context.input.amount + "
    "context.input.other * context.input.other * context.input.other == 33",
)


@pytest.fixture
async def reasoning() -> AsyncIterator[SmtReasoning]:
    reasoning = SmtReasoning()
    yield reasoning
    await reasoning.close()


def saying(program: str, **parameters: Any) -> SmtReasoning:
    """With a child that says it is ready, and then does as the program says."""
    ready = f"import os, sys, time; os.write(1, {wire.framed(wire.READY)!r})"
    command = (sys.executable, "-c", f"{ready}\n{program}")
    return SmtReasoning(command=command, **parameters)


def alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


async def test_it_answers_as_the_proofs_do_and_stays_warm(reasoning: SmtReasoning) -> None:
    assert reasoning.pid is None
    analysis = await reasoning.analyse([permit("all")], SCHEMA)
    assert {each.property for each in analysis.findings} == {Property.ALLOW_ALL}
    first = reasoning.pid
    comparison = await reasoning.compare([], [SMALL], SCHEMA)
    assert comparison.loosens
    assert comparison.differences[0].example.request.action.id == TRANSFER
    assert reasoning.pid == first


async def test_questions_asked_together_are_all_answered(reasoning: SmtReasoning) -> None:
    answers = await asyncio.gather(
        *(
            reasoning.compare([], [permit(f"p{n}", f"context.input.amount < {n}")], SCHEMA)
            for n in range(5)
        )
    )
    assert [each.differences[0].policies for each in answers] == [[f"p{n}"] for n in range(5)]


async def test_refusals_are_raised_here(reasoning: SmtReasoning) -> None:
    with pytest.raises(PolicyRefused, match="odd"):
        await reasoning.analyse([Rule(id="odd", statement="permit;")], SCHEMA)
    with pytest.raises(PolicyRefused):
        await reasoning.compare([], [SMALL], {"AgentCore": {"actions": 1}})
    assert (await reasoning.compare([], [SMALL], SCHEMA)).loosens


async def test_closing_ends_the_process_and_the_next_question_starts_another() -> None:
    reasoning = SmtReasoning()
    await reasoning.analyse([], SCHEMA)
    first = reasoning.pid
    assert first is not None
    await reasoning.close()
    assert not alive(first)
    await reasoning.analyse([], SCHEMA)
    assert reasoning.pid != first
    await reasoning.close()


async def test_a_process_that_dies_leaves_everything_undecided() -> None:
    reasoning = saying("os.read(0, 8); os.kill(os.getpid(), 9)")
    analysis = await reasoning.analyse([SMALL], SCHEMA)
    assert [(each.property, each.policy) for each in analysis.findings] == [
        (Property.UNDECIDED, "small")
    ]
    assert reasoning.pid is None


async def test_a_process_that_was_killed_is_replaced(reasoning: SmtReasoning) -> None:
    await reasoning.analyse([], SCHEMA)
    pid = reasoning.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(20):
        while alive(pid):
            await asyncio.sleep(0.01)
        # Who asks before its end is known is told nothing; whoever asks next has another.
        while not (await reasoning.compare([], [SMALL], SCHEMA)).loosens:
            pass
    assert reasoning.pid not in (None, pid)


async def test_a_late_process_is_ended() -> None:
    reasoning = saying("time.sleep(60)", late_seconds_max=0.1)
    comparison = await reasoning.compare([], [SMALL], SCHEMA, seconds_max=0.1)
    assert comparison.equivalent is None
    assert (TRANSFER, "time was up") in comparison.untold
    assert reasoning.pid is None


async def test_garbage_tells_nothing_and_ends_the_process() -> None:
    for garbage in (wire.framed(b"garbage"), (1 << 60).to_bytes(8, "big"), b"short"):
        reasoning = saying(f"os.write(1, {garbage!r})")
        analysis = await reasoning.analyse([SMALL], SCHEMA)
        assert {each.property for each in analysis.findings} == {Property.UNDECIDED}
        assert reasoning.pid is None


async def test_a_caller_who_gives_up_takes_the_process_along() -> None:
    reasoning = saying("time.sleep(60)")
    asking = asyncio.create_task(reasoning.analyse([SMALL], SCHEMA))
    async with asyncio.timeout(20):
        while reasoning.pid is None:
            await asyncio.sleep(0.01)
    pid = reasoning.pid
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert not alive(pid)


async def test_without_a_solver_it_is_unavailable() -> None:
    for command in ((sys.executable, "-c", "raise SystemExit(1)"), ("/does/not/exist",)):
        reasoning = SmtReasoning(command=command)
        with pytest.raises(Unavailable):
            await reasoning.analyse([SMALL], SCHEMA)
        await reasoning.close()


async def test_the_process_has_its_memory_bounded() -> None:
    reasoning = SmtReasoning(memory_bytes_max=1 << 30)
    await reasoning.analyse([SMALL], SCHEMA)
    limits = Path(f"/proc/{reasoning.pid}/limits").read_text()
    assert str(1 << 30) in next(
        line for line in limits.splitlines() if line.startswith("Max address space")
    )
    await reasoning.close()


async def test_a_hard_question_ends_in_its_time(reasoning: SmtReasoning) -> None:
    async with asyncio.timeout(20):
        analysis = await reasoning.analyse([HARD, SMALL], SCHEMA, seconds_max=1.0)
    undecided = [each for each in analysis.findings if each.property is Property.UNDECIDED]
    assert any(each.policy == "hard" for each in undecided)


async def test_closing_gives_up_the_question_under_way() -> None:
    reasoning = saying("time.sleep(60)")
    asking = asyncio.create_task(reasoning.analyse([SMALL], SCHEMA))
    async with asyncio.timeout(20):
        while reasoning.pid is None:
            await asyncio.sleep(0.01)
        await reasoning.close()
        assert {each.property for each in (await asking).findings} == {Property.UNDECIDED}
    assert reasoning.pid is None


async def test_own_ids_reach_the_process() -> None:
    reasoning = SmtReasoning(own_ids=["AgentCore::OAuthUser"])
    by_uid = permit("p", principal='principal == AgentCore::OAuthUser::"ann"')
    by_attribute = permit("p", 'principal.id == "ann"')
    assert (await reasoning.compare([by_uid], [by_attribute], SCHEMA)).equivalent
    await reasoning.close()
