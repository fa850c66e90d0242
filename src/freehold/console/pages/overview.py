"""The first page: how much the agents do, how well, and at what cost."""

import msgspec

from freehold.console.answer import Answer, Page
from freehold.console.filters import read, since
from freehold.console.observed import STEPS, series_part
from freehold.console.parts import Part, parts
from freehold.console.ports import Platform
from freehold.console.routes import Route
from freehold.console.visit import HOME, Visit

_WINDOW = since()
_AGENTS_MAX = 8


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """`traces`: invocations and other roots; `model`: calls of models; `agents`: groups of series,
    the busiest first. `names` are of agents, by id. `empty`: nothing was ever done here."""

    since: str
    traces: Part
    model: Part
    agents: Part
    costs: Part
    failures: Part
    live: Part
    names: dict[str, str]
    empty: bool


class OverviewPages:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def routes(self) -> list[Route]:
        return [
            Route(method="GET", path=HOME, act=self.show, operation="GetOverview"),
            # Its twin is /console/overview.json: cookies are kept for what lies below /console.
            Route(method="GET", path=f"{HOME}/overview", act=self.show, operation="GetOverview"),
        ]

    async def show(self, visit: Visit) -> Answer:
        window = read(visit, (_WINDOW,))[0].value
        get, post, step = self._platform.get, self._platform.post, STEPS[window]
        path = "/freehold/v1/trace-series"
        traces, model, agents, costs, failures, live, runtimes = await parts(
            get(visit, path, since=window, step=step),
            get(visit, path, since=window, step=step, measured="model_calls"),
            get(visit, path, since=window, step="12h", by="agent"),
            get(visit, "/freehold/v1/model-costs", since=window, by="model"),
            get(visit, "/freehold/v1/traces", since=window, status="error", limit=6),
            get(visit, "/freehold/v1/sessions", status="live", limit=1000),
            post(visit, "/runtimes/", maxResults=100),
        )
        known = [] if runtimes.problem else runtimes.value["agentRuntimes"]
        groups = [] if agents.problem else agents.value["groups"]
        traces = series_part(traces)
        overview = Overview(
            since=window,
            traces=traces,
            model=series_part(model),
            agents=agents if agents.problem else Part(value=groups[:_AGENTS_MAX]),
            costs=costs,
            failures=failures,
            live=live,
            names={one["agentRuntimeId"]: one["agentRuntimeName"] for one in known},
            empty=not runtimes.problem and not known
            and not (traces.value and traces.value.total["count"]),
        )  # fmt: skip
        return Page(template="overview.html", title="Overview", data=overview)
