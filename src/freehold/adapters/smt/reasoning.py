"""Proofs in a process of their own: the solver can neither block nor take down the platform."""

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from freehold.adapters.smt.wire import (
    LENGTH_BYTES,
    MESSAGE_BYTES_MAX,
    READY,
    Question,
    Reply,
    framed,
)
from freehold.kernel.errors import Unavailable
from freehold.ports.policies import PolicyRefused, Rule
from freehold.ports.reasoning import Analysis, Comparison, Finding, Property

_log = logging.getLogger("freehold.proofs")

MEMORY_BYTES_MAX = 2 << 30
START_SECONDS_MAX = 30.0
LATE_SECONDS_MAX = 5.0
WAIT_SECONDS_MAX = 120.0
CLOSE_SECONDS_MAX = 2.0


class SmtReasoning:
    """Implements `ports.reasoning.Reasoning`.

    One process answers one question at a time; it starts with the first and stays. Where it is late
    or dies, nothing was told: every policy is UNDECIDED, every action untold. Raises PolicyRefused
    for a rule that is not one static policy and for a schema that is none; Unavailable where the
    process does not start, or others' questions take too long.
    """

    def __init__(
        self,
        *,
        memory_bytes_max: int = MEMORY_BYTES_MAX,
        late_seconds_max: float = LATE_SECONDS_MAX,
        command: Sequence[str] | None = None,
        quiet: bool = False,
        own_ids: Sequence[str] = (),
        same: Mapping[str, str] | None = None,
    ) -> None:
        """`late_seconds_max`: how long after its own limit the process may still answer. `quiet`:
        its log goes nowhere, for who has none. `own_ids`: types of entities whose attribute `id`
        is always the entity's own id. `same`: paths whose value is always that of another."""
        self._own_ids, self._same = list(own_ids), dict(same or {})
        self._late_seconds_max = late_seconds_max
        self._errors = asyncio.subprocess.DEVNULL if quiet else None
        self._command = command or (
            sys.executable,
            "-P",
            "-m",
            "freehold.adapters.smt.child",
            str(memory_bytes_max),
        )
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def analyse(
        self, rules: Sequence[Rule], schema: Mapping[str, Any], *, seconds_max: float = 30.0
    ) -> Analysis:
        started = time.monotonic()
        question = Question(
            kind="analyse",
            rules=list(rules),
            schema=schema,
            seconds_max=seconds_max,
            own_ids=self._own_ids,
            same=self._same,
        )
        reply = await self._asked(question)
        if reply.analysis is not None:
            return reply.analysis
        why = reply.failed or "the prover gave no answer"
        return Analysis(
            findings=[
                Finding(property=Property.UNDECIDED, policy=rule.id, description=why)
                for rule in rules
            ],
            policies=len(rules),
            actions=0,
            seconds=time.monotonic() - started,
        )

    async def compare(
        self,
        old: Sequence[Rule],
        new: Sequence[Rule],
        schema: Mapping[str, Any],
        *,
        seconds_max: float = 30.0,
    ) -> Comparison:
        started = time.monotonic()
        question = Question(
            kind="compare",
            old=list(old),
            rules=list(new),
            schema=schema,
            seconds_max=seconds_max,
            own_ids=self._own_ids,
            same=self._same,
        )
        reply = await self._asked(question)
        if reply.comparison is not None:
            return reply.comparison
        why = reply.failed or "the prover gave no answer"
        return Comparison(
            equivalent=None,
            differences=(),
            untold=[(action, why) for action in _actions(schema)],
            seconds=time.monotonic() - started,
        )

    async def close(self) -> None:
        """A question under way is given up."""
        if self._process is not None and self._turn.locked():
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        async with self._turn:
            process, self._process = self._process, None
            if process is None:
                return
            assert process.stdin is not None
            process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), CLOSE_SECONDS_MAX)
            except TimeoutError:
                await _ended(process)

    async def _asked(self, question: Question) -> Reply:
        message = framed(msgspec.json.encode(question))
        if len(message) > MESSAGE_BYTES_MAX:
            return Reply(failed="the policies and the schema are too large")
        try:
            async with asyncio.timeout(WAIT_SECONDS_MAX):
                await self._turn.acquire()
        except TimeoutError as error:
            raise Unavailable("Other proofs are still under way") from error
        try:
            reply = await self._answered(message, question.seconds_max)
        finally:
            self._turn.release()
        for complaint in reply.complaints:
            _log.error("%s", complaint)
        if reply.refused is not None:
            raise PolicyRefused(reply.refused)
        return reply

    async def _answered(self, message: bytes, seconds_max: float) -> Reply:
        process = await self._started()
        answered = False
        try:
            async with asyncio.timeout(seconds_max + self._late_seconds_max):
                assert process.stdin is not None
                process.stdin.write(message)
                await process.stdin.drain()
                reply = msgspec.json.decode(await _next(process), type=Reply)
            answered = True
            return reply
        except TimeoutError:
            return Reply(failed="time was up")
        except (asyncio.IncompleteReadError, OSError):
            return Reply(failed="the solver died")
        except (ValueError, msgspec.DecodeError):
            return Reply(failed="the solver's answer could not be read")
        finally:
            # Also where the caller gave up: what the process says next would be the wrong answer.
            if not answered:
                self._process = None
                await _ended(process)

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        self._process = None
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=self._errors,
                cwd="/",
                env={"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                start_new_session=True,
            )
        except OSError as error:
            raise Unavailable("The prover's process cannot be started") from error
        ready = False
        try:
            async with asyncio.timeout(START_SECONDS_MAX):
                ready = await _next(process) == READY
        except (TimeoutError, asyncio.IncompleteReadError, OSError, ValueError) as error:
            raise Unavailable("The prover's process did not start") from error
        finally:
            if not ready:
                await _ended(process)
        if not ready:
            raise Unavailable("The prover's process did not start")
        self._process = process
        return process


async def _next(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    length = int.from_bytes(await process.stdout.readexactly(LENGTH_BYTES), "big")
    if length > MESSAGE_BYTES_MAX:
        raise ValueError("a message that is too long")
    return await process.stdout.readexactly(length)


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Killed and reaped; also where the task was cancelled meanwhile."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await asyncio.shield(process.wait())


def _actions(schema: Mapping[str, Any]) -> list[str]:
    """Those that apply to something, as far as the schema can be read."""
    found: list[str] = []
    for definition in schema.values():
        actions = definition.get("actions") if isinstance(definition, Mapping) else None
        for id, action in (actions or {}).items():
            if isinstance(action, Mapping) and action.get("appliesTo"):
                found.append(id)
    return found or [""]
