"""Agents: the list, and one with its versions, endpoints, sessions, logs and costs."""

from typing import Any

import msgspec

from freehold.console.answer import Answer, GoTo, Page
from freehold.console.filters import read, since
from freehold.console.observed import STEPS, series_part
from freehold.console.parts import Part, part, parts
from freehold.console.ports import Platform
from freehold.console.routes import Route
from freehold.console.visit import Visit
from freehold.kernel.errors import ValidationFailed

_PATH = "/console/agents"
_API = "/runtimes/{agentRuntimeId}"
_OWN = "/freehold/v1"
TABS = ("overview", "sessions", "versions", "logs", "try")
_SESSION_HEADER = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"
_LOG_LINES_MAX = 500


class Agents(msgspec.Struct, frozen=True, kw_only=True):
    """`busy`: totals of the last day by agent; `live`: numbers of live sessions by agent."""

    agents: list[dict[str, Any]]
    next_token: str | None
    busy: dict[str, dict[str, Any]]
    live: dict[str, int]


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """What of it `tab` does not show is not asked for, and a Part with None."""

    agent: dict[str, Any]
    tab: str
    since: str
    series: Part = Part()
    costs: Part = Part()
    sessions: Part = Part()
    session_status: str = ""
    endpoints: Part = Part()
    versions: Part = Part()
    log: list[dict[str, str]] = []
    log_problem: str = ""
    build: bool = False
    session_id: str = ""


class AgentPages:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def routes(self) -> list[Route]:
        one = f"{_PATH}/{{agentId}}"
        return [
            Route(method="GET", path=_PATH, act=self.index, operation="ListAgents"),
            Route(method="GET", path=one, act=self.show, operation="GetAgent"),
            Route(
                method="POST", path=f"{one}/stop", act=self.stop, operation="StopAgentSession"
            ),
        ]  # fmt: skip

    async def index(self, visit: Visit) -> Answer:
        found = await self._platform.post(
            visit, "/runtimes/", maxResults=50, nextToken=visit.query.get("nextToken")
        )
        busy, live = await parts(
            self._platform.get(visit, f"{_OWN}/trace-series", since="24h", step="12h", by="agent"),
            self._platform.get(visit, f"{_OWN}/sessions", status="live", limit=1000),
        )
        counts: dict[str, int] = {}
        for session in live.value["sessions"] if live.value else ():
            counts[session["runtimeId"]] = counts.get(session["runtimeId"], 0) + 1
        agents = Agents(
            agents=found["agentRuntimes"],
            next_token=found.get("nextToken"),
            busy={g["group"]: g["total"] for g in busy.value["groups"]} if busy.value else {},
            live=counts,
        )
        return Page(template="agents.html", title="Agents", data=agents)

    async def show(self, visit: Visit) -> Answer:
        tab = visit.query.get("tab") or "overview"
        if tab not in TABS:
            raise ValidationFailed(f"tab is one of {', '.join(TABS)}")
        agent_id = visit.params["agentId"]
        agent = await self._platform.get(visit, f"{_API}/", agentRuntimeId=agent_id)
        shown = Agent(
            agent=agent, tab=tab, since=read(visit, (since(),))[0].value,
            session_id=visit.query.get("sessionId", ""), build=visit.query.get("build") == "1",
        )  # fmt: skip
        fill = {
            "overview": self._overview, "sessions": self._sessions, "versions": self._versions,
            "logs": self._logs, "try": self._endpoints,
        }[tab]  # fmt: skip
        more = await fill(visit, agent_id, shown)
        shown = msgspec.structs.replace(shown, **more)
        return Page(template=f"agent_{tab}.html", title=agent["agentRuntimeName"], data=shown)

    async def _overview(self, visit: Visit, agent_id: str, shown: Agent) -> dict[str, Any]:
        get, window = self._platform.get, shown.since
        found, costs, sessions, endpoints = await parts(
            get(
                visit, f"{_OWN}/trace-series", agentId=agent_id, since=window, step=STEPS[window]
            ),
            get(visit, f"{_OWN}/model-costs", agentId=agent_id, since=window, by="model"),
            get(visit, f"{_OWN}/sessions", runtimeId=agent_id, status="live", limit=5),
            self._platform.post(visit, f"{_API}/runtime-endpoints/", agentRuntimeId=agent_id),
        )  # fmt: skip
        return {
            "series": series_part(found), "costs": costs, "sessions": sessions,
            "endpoints": endpoints,
        }  # fmt: skip

    async def _sessions(self, visit: Visit, agent_id: str, shown: Agent) -> dict[str, Any]:
        status = visit.query.get("status") or "all"
        if status not in ("all", "live", "ended"):
            raise ValidationFailed("status is one of all, live, ended")
        sessions = await part(
            self._platform.get(
                visit, f"{_OWN}/sessions", runtimeId=agent_id, status=status, limit=50,
                nextToken=visit.query.get("nextToken"),
            )
        )  # fmt: skip
        return {"sessions": sessions, "session_status": status}

    async def _versions(self, visit: Visit, agent_id: str, shown: Agent) -> dict[str, Any]:
        post = self._platform.post
        versions, endpoints = await parts(
            post(visit, f"{_API}/versions/", agentRuntimeId=agent_id, maxResults=100),
            post(visit, f"{_API}/runtime-endpoints/", agentRuntimeId=agent_id, maxResults=100),
        )
        return {"versions": versions, "endpoints": endpoints}

    async def _endpoints(self, visit: Visit, agent_id: str, shown: Agent) -> dict[str, Any]:
        endpoints = await part(
            self._platform.post(visit, f"{_API}/runtime-endpoints/", agentRuntimeId=agent_id)
        )
        return {"endpoints": endpoints}

    async def _logs(self, visit: Visit, agent_id: str, shown: Agent) -> dict[str, Any]:
        asked = part(
            self._platform.lines(
                visit, f"{_OWN}/runtimes/{{runtimeId}}/logs", runtimeId=agent_id, tail=200,
                build=shown.build or None, sessionId=shown.session_id or None,
            )
        )  # fmt: skip
        lines = await asked
        if lines.problem:
            return {"log_problem": lines.problem}
        found: list[dict[str, str]] = [line async for line in lines.value]
        return {"log": found[-_LOG_LINES_MAX:]}

    async def stop(self, visit: Visit) -> Answer:
        agent_id, session_id = visit.params["agentId"], visit.form.get("session", "")
        agent = await self._platform.get(visit, f"{_API}/", agentRuntimeId=agent_id)
        visit.noted["session"] = session_id
        stream = await self._platform.open(
            visit, "POST", "/runtimes/{arn}/stopruntimesession",
            headers={_SESSION_HEADER: session_id}, arn=agent["agentRuntimeArn"],
            qualifier=visit.form.get("endpoint") or None,
        )  # fmt: skip
        stream.close()
        return GoTo(location=f"{_PATH}/{agent_id}?tab=sessions")
