"""ListMemoryRetrievals: which retrieval used which record, in our own API."""

import re
import uuid
from datetime import UTC, datetime, timedelta

from freehold.kernel.clock import now
from freehold.kernel.errors import ValidationFailed
from freehold.kernel.operation import Operation, Parameter, Params
from freehold.kernel.pages import decode_token, encode_token
from freehold.kernel.request import Request
from freehold.ports.database import Database
from freehold.ports.secrets import Sealer
from freehold.services.memory import retrievals_store as store
from freehold.services.memory.model import Memory
from freehold.services.memory.native_views import RetrievalPage, RetrievalView
from freehold.services.memory.ports import Memories
from freehold.services.memory.retrievals import first_id
from freehold.services.memory.retrievals_store import Wanted

_SPAN = re.compile(r"(\d{1,5})([mhd])")
_LIST = "memory-retrievals"


class Lines:
    """Of one memory, newest first."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database, self._sealer = database, sealer

    async def page(
        self, memory: Memory, wanted: Wanted, *, limit: int, token: str | None
    ) -> tuple[list[RetrievalView], str | None]:
        before = _position(token, memory)
        async with self._database.connection() as connection:
            found = await store.newest(
                connection, memory, wanted, before=before, limit=limit + 1, sealer=self._sealer
            )
        if len(found) <= limit:
            return found, None
        return found[:limit], encode_token(_LIST, memory.id, found[limit - 1].retrieval_id)


def operations(memories: Memories, lines: Lines) -> list[Operation]:
    own = _Own(memories, lines)
    return [
        Operation(
            name="ListMemoryRetrievals", method="GET", path="/memories/{memoryId}/retrievals",
            act=own.page, answer=RetrievalPage,
            summary="Who was given which records of a memory, newest first",
            parameters=(
                Parameter(name="memoryId", meaning="The memory", where="path"),
                Parameter(name="record", meaning="Only those that gave away this record or turn"),
                Parameter(name="actor", meaning="Only those about this actor"),
                Parameter(
                    name="since", meaning="From then on: ISO 8601, or a span such as 24h or 7d"
                ),
                Parameter(name="until", meaning="Before then, likewise"),
                Parameter(
                    name="maxResults", meaning="Retrievals a page", kind="integer", default=50,
                    minimum=1, maximum=200,
                ),
                Parameter(name="nextToken", meaning="Where the previous page ended"),
            ),
        ),
    ]  # fmt: skip


class _Own:
    def __init__(self, memories: Memories, lines: Lines) -> None:
        self._memories, self._lines = memories, lines

    async def page(self, request: Request, params: Params, _: object) -> RetrievalPage:
        memory = await self._memories.get(request.tenant, params["memoryId"])
        wanted = Wanted(
            record=params["record"] or "", actor=params["actor"] or "",
            since=_bound("since", params["since"]), until=_bound("until", params["until"]),
        )  # fmt: skip
        found, more = await self._lines.page(
            memory, wanted, limit=params["maxResults"], token=params["nextToken"]
        )
        return RetrievalPage(retrievals=found, next_token=more)


def _bound(name: str, text: str | None) -> uuid.UUID | None:
    if text is None:
        return None
    if span := _SPAN.fullmatch(text):
        unit = {"m": "minutes", "h": "hours", "d": "days"}[span[2]]
        return first_id(now() - timedelta(**{unit: int(span[1])}))
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValidationFailed(
            f"{name}={text}: expected ISO 8601, or a span such as 90m, 24h or 7d"
        ) from None
    return first_id(at if at.tzinfo else at.replace(tzinfo=UTC))


def _position(token: str | None, memory: Memory) -> uuid.UUID | None:
    match decode_token(token):
        case None:
            return None
        case [kind, of, str(id)] if (kind, of) == (_LIST, memory.id):
            try:
                return uuid.UUID(id)
            except ValueError:
                pass
    raise ValidationFailed("nextToken is not a token that this list returned")
