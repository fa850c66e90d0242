"""The prover's process: `python -m freehold.adapters.smt.child MEMORY_BYTES_MAX`.

It answers one question after the other until its input ends. The solver may take the process with
it: what it may use is bounded by the system, and the alarm ends it should nobody else.
"""

import logging
import os
import resource
import signal
import sys
from typing import Any, BinaryIO

import msgspec

from freehold.adapters.smt import proofs
from freehold.adapters.smt.terms import z3
from freehold.adapters.smt.wire import (
    LENGTH_BYTES,
    MESSAGE_BYTES_MAX,
    READY,
    Question,
    Reply,
    framed,
)
from freehold.ports.policies import PolicyRefused

_ALARM_SECONDS_MORE = 30


class _Complaints(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def main() -> None:
    memory_bytes_max = int(sys.argv[1])
    _bound(memory_bytes_max)
    # What a library prints must not come between our messages.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    complaints = _Complaints()
    logging.getLogger("freehold.proofs").addHandler(complaints)
    answers.write(framed(READY))
    answers.flush()
    while (message := _next(sys.stdin.buffer)) is not None:
        question = msgspec.json.decode(message, type=Question)
        signal.alarm(int(question.seconds_max) + _ALARM_SECONDS_MORE)
        reply = _answered(question)
        signal.alarm(0)
        said = msgspec.structs.replace(reply, complaints=complaints.messages)
        answers.write(framed(msgspec.json.encode(said)))
        answers.flush()
        complaints.messages = []


def _bound(memory_bytes_max: int) -> None:
    """The solver itself gives up a little earlier, with an answer."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = memory_bytes_max if hard == resource.RLIM_INFINITY else min(memory_bytes_max, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    z3.set_param("memory_max_size", max(1, limit * 3 // 4 >> 20))


def _next(source: BinaryIO) -> bytes | None:
    head = source.read(LENGTH_BYTES)
    if len(head) < LENGTH_BYTES:
        return None
    length = int.from_bytes(head, "big")
    assert length <= MESSAGE_BYTES_MAX, "a message that is too long"
    message = source.read(length)
    return message if len(message) == length else None


def _answered(question: Question) -> Reply:
    options: dict[str, Any] = {
        "seconds_max": question.seconds_max,
        "own_ids": question.own_ids,
        "same": question.same,
    }
    try:
        if question.kind == "analyse":
            return Reply(analysis=proofs.analyse(question.rules, question.schema, **options))
        return Reply(
            comparison=proofs.compare(question.old, question.rules, question.schema, **options)
        )
    except PolicyRefused as error:
        return Reply(refused=list(error.problems))
    except (z3.Z3Exception, MemoryError, RecursionError) as error:
        return Reply(failed=f"the solver failed: {type(error).__name__}")


if __name__ == "__main__":
    main()
