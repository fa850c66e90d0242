"""Forks of recorded sessions: the list, and one beside what was recorded."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from freehold.console import filters
from freehold.console.answer import Answer, GoTo, Page
from freehold.console.filters import Field, Filter
from freehold.console.pages.agent_names import agent_names
from freehold.console.parts import Part, part
from freehold.console.ports import Platform
from freehold.console.routes import Route
from freehold.console.visit import Visit

_LIST = "/console/forks"
_OWN = "/freehold/v1/forks"
_PAGE = 50
_UNDER_WAY = ("PENDING", "RUNNING")
_STATUS = (
    ("", "Any"), ("RUNNING", "Running"), ("COMPLETED", "Completed"), ("DIVERGED", "Diverged"),
    ("FAILED", "Failed"), ("INTERRUPTED", "Interrupted"),
)  # fmt: skip
_DONE = {"deleted": "The fork is deleted. What it is a fork of stays as it is."}


class Forks(msgspec.Struct, frozen=True, kw_only=True):
    fields: list[Field]
    forks: list[dict[str, Any]]
    next_token: str | None
    names: dict[str, str]
    done: str


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A step of both. `id` is its turn and its place there, from 1; `changed`: the fork begins to
    differ with it."""

    id: str
    row: dict[str, Any]
    open: bool
    changed: bool


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """`run`: ForkTurn, with its traces. `whole`: the row of the turn itself, before its steps'."""

    number: int
    payload: dict[str, Any]
    answer: dict[str, Any]
    run: dict[str, Any]
    whole: Row | None
    rows: list[Row]


class Fork(msgspec.Struct, frozen=True, kw_only=True):
    """`comparison`: of one under way only when it is asked for. `row` is the one that is open;
    `earlier` and `later` are those that differ before and after it. `refreshes`: the page loads
    itself anew, for nobody reads or answers anything on it."""

    fork: dict[str, Any]
    under_way: bool
    refreshes: bool
    done: int
    names: dict[str, str]
    comparison: Part
    turns: list[Turn] = []
    row: str = ""
    earlier: str = ""
    later: str = ""


class ForkPages:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def routes(self) -> list[Route]:
        one = f"{_LIST}/{{forkId}}"
        return [
            Route(method="GET", path=_LIST, act=self.index, operation="ListForks"),
            Route(method="GET", path=one, act=self.show, operation="GetFork"),
            Route(method="POST", path=f"{one}/delete", act=self.delete, operation="DeleteFork"),
        ]

    async def index(self, visit: Visit) -> Answer:
        names = await agent_names(self._platform, visit)
        fields = filters.read(visit, _filters(visit, names))
        found = await self._platform.get(
            visit, _OWN, **filters.values(fields), limit=_PAGE,
            nextToken=visit.query.get("nextToken"),
        )  # fmt: skip
        data = Forks(
            fields=fields, forks=found["forks"], next_token=found.get("nextToken"), names=names,
            done=_DONE.get(visit.query.get("done", ""), ""),
        )  # fmt: skip
        return Page(template="forks.html", title="Forks", data=data)

    async def show(self, visit: Visit) -> Answer:
        at = {"forkId": visit.params["forkId"]}
        fork = await self._platform.get(visit, f"{_OWN}/{{forkId}}", **at)
        under_way = fork["status"] in _UNDER_WAY
        comparison = Part()
        if not under_way or "row" in visit.query:  # it reads two whole sessions: not every moment
            comparison = await part(
                self._platform.get(visit, f"{_OWN}/{{forkId}}/comparison", **at)
            )
        found = comparison.value or {"turns": [], "firstDifference": None}
        chosen = visit.query.get("row") or _first(found)
        turns = [_turn(fork, turn, chosen) for turn in found["turns"]]
        differing = [
            row.id for turn in turns for row in turn.rows
            if row.row["verdict"] != "same" or row.id == chosen
        ]  # fmt: skip
        place = differing.index(chosen) if chosen in differing else -1
        data = Fork(
            fork=fork, under_way=under_way, comparison=comparison, turns=turns, row=chosen,
            refreshes=under_way and not {"row", "stop"} & visit.query.keys(),
            names=await agent_names(self._platform, visit),
            done=sum(turn["status"] not in _UNDER_WAY for turn in fork["turns"]),
            earlier=differing[place - 1] if place > 0 else "",
            later=differing[place + 1] if place + 1 < len(differing) else "",
        )  # fmt: skip
        return Page(template="fork.html", title="Fork", data=data)

    async def delete(self, visit: Visit) -> Answer:
        id = visit.params["forkId"]
        visit.noted["fork"] = id[:100]
        await self._platform.delete(visit, f"{_OWN}/{{forkId}}", forkId=id)
        return GoTo(location=f"{_LIST}?done=deleted")


def _turn(fork: Mapping[str, Any], turn: Mapping[str, Any], chosen: str) -> Turn:
    number = turn["number"]
    rows = []
    for place, row in enumerate(turn["rows"], 1):
        id = f"{number}.{place}"
        recorded = row["recorded"] or {}
        rows.append(
            Row(
                id=id, row=row, open=id == chosen,
                changed=recorded.get("spanId") == fork["spanId"] and bool(fork["change"]),
            )
        )  # fmt: skip
    whole = next((row for row in rows if row.row["kind"] == "turn"), None)
    return Turn(
        number=number, payload=turn["payload"], answer=turn["answer"], whole=whole,
        run=next(one for one in fork["turns"] if one["number"] == number),
        rows=[row for row in rows if row is not whole],
    )  # fmt: skip


def _first(comparison: Mapping[str, Any]) -> str:
    """The step with which the two part; where a turn does, the first that differs in it."""
    place = comparison["firstDifference"]
    if place is None:
        return ""
    turn = next(one for one in comparison["turns"] if one["number"] == place["turn"])
    for number, row in enumerate(turn["rows"]):
        if number >= place["row"] and row["kind"] != "turn" and row["verdict"] != "same":
            return f"{place['turn']}.{number + 1}"
    return ""


def _filters(visit: Visit, names: Mapping[str, str]) -> Sequence[Filter]:
    agents = dict(names)
    if (chosen := visit.query.get("agentId")) and chosen not in agents:
        agents[chosen] = chosen
    by_name = sorted(agents.items(), key=lambda pair: pair[1].lower())
    return (
        Filter(name="agentId", label="Agent", kind="choice", choices=(("", "Any"), *by_name)),
        Filter(name="status", label="Status", kind="choice", choices=_STATUS),
        Filter(name="traceId", label="Trace", placeholder="32 digits", more=True),
        Filter(name="sessionId", label="Session", more=True),
    )
