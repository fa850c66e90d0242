"""Sessions: the list, and the replay of one, turn by turn and step by step."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from freehold.console import spans
from freehold.console.answer import Answer, Page
from freehold.console.filters import Field, Filter, read, since, values
from freehold.console.pages.agent_names import agent_names
from freehold.console.parts import Part, part
from freehold.console.ports import Platform
from freehold.console.routes import Route
from freehold.console.visit import Visit
from freehold.kernel.errors import NotFound

_PATH = "/console/sessions"
_OWN = "/freehold/v1"
_SESSIONS_A_PAGE = 50
_STEPS_MAX = 500
_LIVE_MAX = 1000
_TRACES_MAX = 500
_SINCE = "30d"
"""As far back as the list goes."""


class Sessions(msgspec.Struct, frozen=True, kw_only=True):
    """`live` has the ids of those that run now; None where that is not known."""

    fields: list[Field]
    sessions: list[dict[str, Any]]
    next_token: str | None
    live: list[str] | None
    only_live: bool
    names: dict[str, str]


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One trace of the session. `steps` of the open one alone."""

    trace: dict[str, Any]
    open: bool
    steps: list[spans.Row] = []
    left_out: int = 0


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """`step` is the chosen one, `place` its number from 1, of `count` in its turn. `earlier` and
    `later` are the addresses' queries of its neighbours. `explanation`: of a tool call."""

    session: dict[str, Any]
    turns: list[Turn]
    truncated: bool
    names: dict[str, str]
    sandboxes: Part
    span: dict[str, Any] | None
    kind: str
    place: int
    count: int
    earlier: dict[str, str] | None
    later: dict[str, str] | None
    explanation: Part


class SessionPages:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def routes(self) -> list[Route]:
        one = f"{_PATH}/{{sessionId}}"
        return [
            Route(method="GET", path=_PATH, act=self.index, operation="ListSessions"),
            Route(method="GET", path=one, act=self.show, operation="GetSession"),
        ]

    async def index(self, visit: Visit) -> Answer:
        names = await agent_names(self._platform, visit)
        fields = read(visit, _filters(visit, names))
        asked = values(fields)
        only_live = asked.pop("live", "") == "yes"
        found, running = await asyncio.gather(
            self._platform.get(
                visit, f"{_OWN}/traced-sessions", **asked, limit=_SESSIONS_A_PAGE,
                nextToken=visit.query.get("nextToken"),
            ),
            part(
                self._platform.get(
                    visit, f"{_OWN}/sessions", status="live", limit=_LIVE_MAX,
                    runtimeId=asked.get("agentId"),
                )
            ),
        )  # fmt: skip
        live = None if running.problem else [one["sessionId"] for one in running.value["sessions"]]
        shown = found["sessions"]
        if only_live:
            shown = [one for one in shown if live is None or one["sessionId"] in live]
        sessions = Sessions(
            fields=fields, sessions=shown, next_token=found.get("nextToken"), live=live,
            only_live=only_live, names=names,
        )  # fmt: skip
        return Page(template="sessions.html", title="Sessions", data=sessions)

    async def show(self, visit: Visit) -> Answer:
        session_id = visit.params["sessionId"]
        found, sandboxes, names = await asyncio.gather(
            self._traced(visit, session_id),
            part(
                self._platform.get(
                    visit, f"{_OWN}/sessions", sessionId=session_id, status="all", limit=10
                )
            ),
            agent_names(self._platform, visit),
        )
        traces = found["traces"]
        chosen = visit.query.get("trace") or (traces[0]["traceId"] if traces else "")
        steps = await self._steps(visit, chosen) if chosen else []
        shown = steps[:_STEPS_MAX]
        step_id = visit.query.get("step") or (shown[0].id if shown else "")
        place = next((i for i, step in enumerate(shown) if step.id == step_id), 0)
        turns = [
            Turn(
                trace=trace, open=trace["traceId"] == chosen,
                steps=shown if trace["traceId"] == chosen else [],
                left_out=len(steps) - len(shown) if trace["traceId"] == chosen else 0,
            )
            for trace in traces
        ]  # fmt: skip
        span, explanation = await self._step(visit, chosen, step_id)
        session = Session(
            session=found["session"], turns=turns, truncated=found["truncated"], names=names,
            sandboxes=sandboxes, span=span, kind="" if span is None else spans.kind_of(span),
            place=place + 1, count=len(shown), explanation=explanation,
            earlier=_beside(traces, chosen, shown, place, -1),
            later=_beside(traces, chosen, shown, place, 1),
        )  # fmt: skip
        return Page(template="session.html", title="Session", data=session)

    async def _traced(self, visit: Visit, session_id: str) -> dict[str, Any]:
        found: dict[str, Any]
        if "/" not in session_id:
            found = await self._platform.get(
                visit, f"{_OWN}/traced-sessions/{{sessionId}}", sessionId=session_id, since=_SINCE
            )
            return found
        # No path of our own API holds such a name; its lists are asked for it.
        asked = {"sessionId": session_id, "since": _SINCE}
        sessions, traces = await asyncio.gather(
            self._platform.get(visit, f"{_OWN}/traced-sessions", **asked, limit=1),
            self._platform.get(visit, f"{_OWN}/traces", **asked, limit=_TRACES_MAX),
        )
        if not sessions["sessions"]:
            raise NotFound(f"no traces of a session {session_id} in that time")
        return {
            "session": sessions["sessions"][0],
            "traces": sorted(traces["traces"], key=lambda trace: str(trace["startedAt"])),
            "truncated": bool(traces.get("nextToken")),
        }

    async def _steps(self, visit: Visit, trace_id: str) -> list[spans.Row]:
        """What a person follows: the root, and whatever was said, called, read or decided. Where
        an agent tells of nothing of the kind, all of it."""
        found = await self._platform.get(visit, f"{_OWN}/traces/{{traceId}}", traceId=trace_id)
        rows = spans.rows(found["spans"])
        told = [row for i, row in enumerate(rows) if not i or row.kind != "other" or row.failed]
        return told if len(told) > 1 else rows

    async def _step(
        self, visit: Visit, trace_id: str, span_id: str
    ) -> tuple[dict[str, Any] | None, Part]:
        if not span_id:
            return None, Part()
        path = f"{_OWN}/traces/{{traceId}}/spans/{{spanId}}"
        span = await self._platform.get(visit, path, traceId=trace_id, spanId=span_id, raw=True)
        if spans.kind_of(span) != "tool":
            return span, Part()
        explained = self._platform.get(
            visit, f"{path}/explanation", traceId=trace_id, spanId=span_id
        )
        return span, await part(explained)


def _filters(visit: Visit, names: Mapping[str, str]) -> tuple[Filter, ...]:
    agents = dict(names)
    if (chosen := visit.query.get("agentId")) and chosen not in agents:
        agents[chosen] = chosen
    return (
        since("7d"),
        Filter(
            name="agentId", label="Agent", kind="choice",
            choices=(("", "Any"), *sorted(agents.items(), key=lambda pair: pair[1].lower())),
        ),
        Filter(name="user", label="User"),
        Filter(
            name="status", label="Outcome", kind="choice",
            choices=(("", "Any"), ("error", "With errors"), ("ok", "Without")),
        ),
        Filter(
            name="live", label="Running", kind="choice", choices=(("", "Any"), ("yes", "Now")),
        ),
        Filter(name="text", label="Text", placeholder="in names and contents", more=True),
    )  # fmt: skip


def _beside(
    traces: Sequence[Mapping[str, Any]], trace_id: str, steps: Sequence[spans.Row], place: int,
    by: int,
) -> dict[str, str] | None:  # fmt: skip
    """The step before or after; at a turn's end, the turn that follows."""
    if 0 <= place + by < len(steps):
        return {"trace": trace_id, "step": steps[place + by].id}
    turns = [trace["traceId"] for trace in traces]
    at = turns.index(trace_id) + by if trace_id in turns else -1
    return {"trace": turns[at], "step": ""} if 0 <= at < len(turns) else None
