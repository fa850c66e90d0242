"""What of a memory works and what waits, in our own API: AWS's has no member that could say it."""

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from freehold.kernel.operation import Operation, Parameter, Params
from freehold.kernel.request import Request
from freehold.services.memory import strategies
from freehold.services.memory.memories import memory_of
from freehold.services.memory.model import Memory
from freehold.services.memory.service import MemoryService

Reasons = Callable[[Memory], Awaitable[Sequence[str]]]
"""What a part of the service waits for, in words for people."""

_ID = Parameter(name="memoryId", meaning="The memory", where="path")


class StrategyStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`learns`: SEMANTIC, SUMMARIZATION, USER_PREFERENCE, EPISODIC or SELF_MANAGED, also of what a
    custom strategy overrides."""

    strategy_id: str
    name: str
    status: str
    learns: str


class MemoryStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`turns`: what is said stays searchable as it was said (tag `freehold:turns`). `waiting` is
    empty where everything works."""

    memory_id: str
    memory_arn: str
    status: str
    turns: bool
    strategies: list[StrategyStatus]
    waiting: list[str]


def operations(memories: MemoryService, reasons: Sequence[Reasons] = ()) -> list[Operation]:
    own = _Own(memories, reasons)
    return [
        Operation(
            name="GetMemoryStatus", method="GET", path="/memories/{memoryId}/status", act=own.get,
            summary="What of a memory works, and what waits for something and for what",
            answer=MemoryStatus, parameters=(_ID,),
        ),
    ]  # fmt: skip


class _Own:
    def __init__(self, memories: MemoryService, reasons: Sequence[Reasons]) -> None:
        self._memories, self._reasons = memories, reasons

    async def get(self, request: Request, params: Params, _: object) -> MemoryStatus:
        memory = memory_of(await self._memories.get(request.tenant, params["memoryId"]))
        waiting = self._memories.waiting(memory)
        for reasons in self._reasons:
            waiting += await reasons(memory)
        return MemoryStatus(
            memory_id=memory.id, memory_arn=memory.arn, status=memory.status, turns=memory.turns,
            strategies=[
                StrategyStatus(
                    strategy_id=each.id, name=each.name, status=each.status,
                    learns=strategies.learns_as(each),
                )
                for each in memory.strategies
            ],
            waiting=waiting,
        )  # fmt: skip
