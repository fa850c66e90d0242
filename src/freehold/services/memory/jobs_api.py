"""ListMemoryExtractionJobs and StartMemoryExtractionJob: extractions that were given up."""

from collections.abc import Mapping
from typing import Any

from freehold.kernel.errors import NotFound, ValidationFailed
from freehold.kernel.pages import Page, decode_token, encode_token
from freehold.kernel.request import Handler, Request
from freehold.ports.database import Database
from freehold.services.memory import extraction_failures as failures
from freehold.services.memory.extraction_failures import FailedJob
from freehold.services.memory.extraction_places import Place
from freehold.services.memory.extraction_store import Queued
from freehold.services.memory.learning import Extraction
from freehold.services.memory.model import Memory
from freehold.services.memory.ports import Memories

Params = dict[str, Any]

PAGE_ITEMS_DEFAULT = 20
_TOKENS_A_MESSAGE = 100
_LIST = "memory-extraction-jobs"


class FailedJobs:
    def __init__(self, database: Database, memories: Memories, extraction: Extraction) -> None:
        self._database, self._memories, self._extraction = database, memories, extraction

    async def page(
        self,
        tenant: str,
        memory_id: str,
        wanted: Mapping[str, str],
        *,
        limit: int,
        token: str | None,
    ) -> Page[FailedJob]:
        """`wanted`: strategyId, actorId and sessionId that they must have."""
        memory = await self._memories.get(tenant, memory_id)
        after = _position(token, memory)
        async with self._database.connection() as connection:
            found = await failures.page(
                connection, memory.tenant, memory.id, wanted, after=after, limit=limit + 1
            )
        more = encode_token(_LIST, memory.id, found[limit - 1].id) if len(found) > limit else None
        return Page(found[:limit], more)

    async def start(self, tenant: str, memory_id: str, job_id: str) -> None:
        """Its messages are in the queue again, at once. Does nothing for one that was started
        already. NotFound; ValidationFailed where its strategy is gone."""
        memory = await self._memories.get(tenant, memory_id)
        async with self._database.transaction() as connection:
            found = await failures.locked(connection, memory.tenant, memory.id, job_id)
            if found is None:
                raise NotFound(f"there is no failed extraction job {job_id!r}")
            job, again = found
            if again:
                return
            strategy = next((s for s in memory.strategies if s.id == job.strategy_id), None)
            if strategy is None or strategy.status != "ACTIVE":
                raise ValidationFailed(f"the strategy of extraction job {job_id} is not there")
            place = Place(memory.tenant, memory.id, job.strategy_id, job.actor_id, job.session_id)
            queued = [
                Queued(event_id, indexes, _TOKENS_A_MESSAGE * len(indexes))
                for event_id, indexes in job.messages
            ]
            await failures.restarted(connection, memory.tenant, memory.id, job_id)
            await self._extraction.queue(connection, strategy, place, queued, now=True)


def handlers(jobs: FailedJobs) -> dict[str, Handler]:
    own = _Handlers(jobs)
    return {
        "bedrock-agentcore:ListMemoryExtractionJobs": own.page,
        "bedrock-agentcore:StartMemoryExtractionJob": own.start,
    }


class _Handlers:
    def __init__(self, jobs: FailedJobs) -> None:
        self._jobs = jobs

    async def page(self, request: Request, params: Params) -> Params:
        page = await self._jobs.page(
            request.tenant, params["memoryId"], params.get("filter") or {},
            limit=params.get("maxResults") or PAGE_ITEMS_DEFAULT, token=params.get("nextToken"),
        )  # fmt: skip
        answer: Params = {"jobs": [_shown(job) for job in page.items]}
        return {**answer, "nextToken": page.next_token} if page.next_token else answer

    async def start(self, request: Request, params: Params) -> Params:
        job_id = params["extractionJob"]["jobId"]
        await self._jobs.start(request.tenant, params["memoryId"], job_id)
        return {"jobId": job_id}


def _shown(job: FailedJob) -> Params:
    messages = [
        {"eventId": event_id, "messageIndex": index}
        for event_id, indexes in job.messages
        for index in indexes
    ]
    return {
        "jobID": job.id, "messages": {"messagesList": messages}, "status": "FAILED",
        "failureReason": job.reason, "strategyId": job.strategy_id, "sessionId": job.session_id,
        "actorId": job.actor_id,
    }  # fmt: skip


def _position(token: str | None, memory: Memory) -> str:
    match decode_token(token):
        case None:
            return ""
        case [kind, of, str(after)] if (kind, of) == (_LIST, memory.id):
            return after
    raise ValidationFailed("nextToken is not a token that this list returned")
