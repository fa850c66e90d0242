"""A person is erased from a memory: first counted, then asked again, then done and proven."""

from typing import Any

from freehold.console.answer import Answer, GoTo, Page
from freehold.console.pages.memory import ONE, OWN, MemoryFrame, memory_of
from freehold.console.ports import Platform
from freehold.console.routes import Route
from freehold.console.visit import Visit
from freehold.kernel.errors import FreeholdError, ValidationFailed

_LIST = f"{ONE}/erasures"
_PAGE = 25
_ACTOR_CHARS_MAX = 255


class Erasures(MemoryFrame, frozen=True, kw_only=True):
    erasures: list[dict[str, Any]]
    actor: str
    next_token: str | None
    problem: str = ""


class Counted(MemoryFrame, frozen=True, kw_only=True):
    """A dry run: `erasure.erased` says how much would go."""

    actor: str
    erasure: dict[str, Any]

    @property
    def anything(self) -> bool:
        return any(self.erasure["erased"].values())


class Erasure(MemoryFrame, frozen=True, kw_only=True):
    erasure: dict[str, Any]


class ErasurePages:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def routes(self) -> list[Route]:
        one, read = f"{_LIST}/{{erasure}}", "ReadErasures"
        return [
            Route(method="GET", path=_LIST, act=self.listing, operation=read),
            Route(method="POST", path=_LIST, act=self.erase, operation="EraseMemoryActor"),
            Route(method="GET", path=one, act=self.one, operation=read),
        ]

    async def listing(self, visit: Visit, refused: FreeholdError | None = None) -> Answer:
        memory = await memory_of(self._platform, visit)
        actor = visit.form.get("actor", "") or visit.query.get("actor", "").strip()
        found = await self._platform.get(
            visit, f"{OWN}/erasures", memoryId=memory["id"], maxResults=_PAGE,
            actor=visit.query.get("actor", "").strip(), nextToken=visit.query.get("nextToken"),
        )  # fmt: skip
        data = Erasures(
            memory=memory, tab="erasures", erasures=found["erasures"], actor=actor,
            next_token=found.get("nextToken"), problem="" if refused is None else refused.message,
        )  # fmt: skip
        status = 200 if refused is None else refused.status
        return Page(
            template="memory_erasures.html", title=memory["name"], data=data, status=status
        )  # fmt: skip

    async def erase(self, visit: Visit) -> Answer:
        """Without `sure` it is counted, and asked whether to go on."""
        actor, sure = visit.form.get("actor", "").strip(), visit.form.get("sure") == "yes"
        try:
            if not 1 <= len(actor) <= _ACTOR_CHARS_MAX:
                raise ValidationFailed("say whom: the actor's id, as the agents name them")
            # Whom, the audit must not keep: it outlives the person.
            visit.noted.update(memory=visit.params["id"], dry_run=str(not sure).lower())
            erasure = await self._platform.post(
                visit, f"{OWN}/erasures", {"actorId": actor, "dryRun": not sure},
                memoryId=visit.params["id"],
            )  # fmt: skip
        except FreeholdError as error:
            return await self.listing(visit, error)
        if sure:
            path = visit.address.partition("?")[0]
            return GoTo(location=f"{path}/{erasure['erasureId']}")
        memory = await memory_of(self._platform, visit)
        data = Counted(memory=memory, tab="erasures", actor=actor, erasure=erasure)
        return Page(template="memory_erase.html", title=f"Erase {actor}?", data=data)

    async def one(self, visit: Visit) -> Answer:
        memory = await memory_of(self._platform, visit)
        found = await self._platform.get(
            visit, f"{OWN}/erasures/{{erasureId}}", memoryId=memory["id"],
            erasureId=visit.params["erasure"],
        )  # fmt: skip
        data = Erasure(memory=memory, tab="erasures", erasure=found)
        return Page(template="memory_erasure.html", title="An erasure", data=data)
