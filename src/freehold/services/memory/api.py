"""The control plane in AWS's operations: request -> domain -> response, by the model's names."""

from typing import Any

from freehold.kernel.request import Handler, Request
from freehold.ports.resources import Resource
from freehold.services.memory.memories import memory_of, strategies_in
from freehold.services.memory.model import Strategy
from freehold.services.memory.service import MemoryService

Params = dict[str, Any]


def handlers(memories: MemoryService) -> dict[str, Handler]:
    own, service = _Memories(memories), "bedrock-agentcore-control"
    return {
        f"{service}:CreateMemory": own.create,
        f"{service}:GetMemory": own.get,
        f"{service}:ListMemories": own.page,
        f"{service}:UpdateMemory": own.update,
        f"{service}:DeleteMemory": own.delete,
    }


class _Memories:
    def __init__(self, memories: MemoryService) -> None:
        self._memories = memories

    async def create(self, request: Request, params: Params) -> Params:
        return self._answer(request, await self._memories.create(request.tenant, params))

    async def get(self, request: Request, params: Params) -> Params:
        memory = await self._memories.get(request.tenant, params["memoryId"])
        return self._answer(request, memory)

    async def page(self, request: Request, params: Params) -> Params:
        page = await self._memories.page(
            request.tenant, params.get("maxResults"), params.get("nextToken")
        )
        answer: Params = {"memories": [_summary(memory) for memory in page.items]}
        if page.next_token:
            answer["nextToken"] = page.next_token
        return answer

    async def update(self, request: Request, params: Params) -> Params:
        return self._answer(request, await self._memories.update(request.tenant, params))

    async def delete(self, request: Request, params: Params) -> Params:
        memory = await self._memories.delete(request.tenant, params["memoryId"])
        return {"memoryId": memory.id, "status": memory.status}

    def _answer(self, request: Request, memory: Resource) -> Params:
        """The model has no member for what waits: it is said beside the answer."""
        request.notices.extend(self._memories.waiting(memory_of(memory)))
        return {"memory": shown(memory)}


def shown(memory: Resource) -> Params:
    document = memory.document
    answer = {
        **_summary(memory),
        "name": memory.name,
        "eventExpiryDuration": document["eventExpiryDuration"],
        "strategies": [_strategy(each) for each in strategies_in(document)],
    }
    for name in ("description", "memoryExecutionRoleArn", "indexedKeys", "namespaceKeys"):
        if document.get(name):
            answer[name] = document[name]
    return answer


def _summary(memory: Resource) -> Params:
    return {
        "arn": memory.arn,
        "id": memory.id,
        "status": memory.status,
        "createdAt": memory.created_at,
        "updatedAt": memory.updated_at,
    }


def _strategy(strategy: Strategy) -> Params:
    answer: Params = {
        "strategyId": strategy.id,
        "name": strategy.name,
        "type": strategy.type,
        "namespaces": list(strategy.namespaces),
        "namespaceTemplates": list(strategy.namespaces),
        "status": strategy.status,
        "createdAt": strategy.created_at,
        "updatedAt": strategy.updated_at,
    }
    if strategy.description:
        answer["description"] = strategy.description
    if strategy.configuration:
        answer["configuration"] = dict(strategy.configuration)
    if strategy.schema:
        answer["memoryRecordSchema"] = dict(strategy.schema)
    if strategy.expiry_days is not None:
        answer["recordExpiryDurationDays"] = strategy.expiry_days
    return answer
