"""A person is erased, and it is proven, in our own API."""

from collections.abc import Mapping
from datetime import datetime

import msgspec

from freehold.kernel.operation import Operation, Parameter, Params
from freehold.kernel.request import Request
from freehold.services.memory.erasure import Erasures
from freehold.services.memory.erasure_store import KINDS, Erasure


class ErasureGiven(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`dryRun`: nothing is erased, and `erased` says how much would be."""

    actor_id: str
    dry_run: bool = False


class ErasureView(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True
):  # fmt: skip
    """`actorDigest` is the SHA-256 of tenant, memory id and actor id, with line feeds between them.
    `digest` is that of one line for each event, record, session and turn that went, sorted by their
    bytes and each with a line feed: its kind ("event"), a blank, its id. `digests` has the same of
    each kind alone. `left` is all 0 where it is DONE."""

    erasure_id: str
    state: str
    dry_run: bool
    actor_digest: str
    started_at: datetime
    by: str
    erased: Mapping[str, int]
    left: Mapping[str, int]
    digest: str
    digests: Mapping[str, str]
    ended_at: datetime | None = None
    error: str | None = None


class ErasurePage(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True
):  # fmt: skip
    """Newest first."""

    erasures: list[ErasureView]
    next_token: str | None = None


_MEMORY = Parameter(name="memoryId", meaning="The memory", where="path")


def operations(erasures: Erasures) -> list[Operation]:
    own = _Own(erasures)
    path = "/memories/{memoryId}/erasures"
    return [
        Operation(
            name="EraseMemoryActor", method="POST", path=path, act=own.erase, body=ErasureGiven,
            summary="Erase an actor from a memory: what they said, and all that comes from it",
            answer=ErasureView, parameters=(_MEMORY,),
        ),
        Operation(
            name="GetMemoryErasure", method="GET", path=f"{path}/{{erasureId}}", act=own.get,
            summary="How far an erasure is, and its proof", answer=ErasureView,
            parameters=(
                _MEMORY, Parameter(name="erasureId", meaning="The erasure", where="path"),
            ),
        ),
        Operation(
            name="ListMemoryErasures", method="GET", path=path, act=own.page,
            summary="Erasures of a memory, newest first; also of one that is deleted",
            answer=ErasurePage,
            parameters=(
                _MEMORY,
                Parameter(name="actor", meaning="Only of this actor"),
                Parameter(
                    name="maxResults", meaning="Erasures a page", kind="integer", default=50,
                    minimum=1, maximum=200,
                ),
                Parameter(name="nextToken", meaning="Where the previous page ended"),
            ),
        ),
    ]  # fmt: skip


class _Own:
    def __init__(self, erasures: Erasures) -> None:
        self._erasures = erasures

    async def erase(self, request: Request, params: Params, body: ErasureGiven) -> ErasureView:
        return _shown(
            await self._erasures.begin(
                request.tenant, params["memoryId"], body.actor_id, dry_run=body.dry_run,
                by=request.caller.principal, request_id=request.request_id,
            )
        )  # fmt: skip

    async def get(self, request: Request, params: Params, _: object) -> ErasureView:
        return _shown(
            await self._erasures.get(request.tenant, params["memoryId"], params["erasureId"])
        )

    async def page(self, request: Request, params: Params, _: object) -> ErasurePage:
        page = await self._erasures.page(
            request.tenant, params["memoryId"], actor_id=params["actor"],
            limit=params["maxResults"], token=params["nextToken"],
        )  # fmt: skip
        return ErasurePage(
            erasures=[_shown(each) for each in page.items], next_token=page.next_token
        )


def _shown(erasure: Erasure) -> ErasureView:
    nothing = dict.fromkeys(KINDS, 0)
    return ErasureView(
        erasure_id=erasure.id, state=erasure.state, dry_run=erasure.dry_run,
        actor_digest=erasure.actor_digest, started_at=erasure.started_at, by=erasure.by,
        erased={**nothing, **erasure.erased}, left={**nothing, **erasure.remaining},
        digest=erasure.digest, digests=erasure.digests, ended_at=erasure.ended_at,
        error=erasure.error or None,
    )  # fmt: skip
