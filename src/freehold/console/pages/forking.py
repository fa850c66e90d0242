"""A recorded session is forked from one of its steps: a form of what can be changed there."""

from collections.abc import Mapping
from typing import Any

import msgspec

from freehold.console import recorded_steps, spans
from freehold.console.answer import Answer, GoTo, Page
from freehold.console.pages.agent_names import agent_names
from freehold.console.parts import Part, parts
from freehold.console.ports import Platform
from freehold.console.routes import Route
from freehold.console.visit import Visit
from freehold.kernel.errors import FreeholdError

_PATH = "/console/traces/{traceId}/spans/{spanId}/fork"
_SPAN = "/freehold/v1/traces/{traceId}/spans/{spanId}"


class Forking(msgspec.Struct, frozen=True, kw_only=True):
    """`texts` are what the fields show, `unshown` the names of those that are too long for one.
    `engines` and `endpoints`: of AWS's lists, where the step can be forked."""

    span: dict[str, Any]
    kind: str
    point: dict[str, Any]
    texts: dict[str, str]
    unshown: list[str]
    engines: Part
    endpoints: Part
    names: dict[str, str]
    chosen: dict[str, str]
    problem: str = ""


class ForkingPages:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def routes(self) -> list[Route]:
        return [
            Route(method="GET", path=_PATH, act=self.form, operation="GetForkPoint"),
            Route(method="POST", path=_PATH, act=self.fork, operation="CreateFork"),
        ]

    async def form(self, visit: Visit, refused: FreeholdError | None = None) -> Answer:
        span = await self._span(visit)
        at = {"traceId": span["traceId"], "spanId": span["spanId"]}
        point = await self._platform.get(visit, f"{_SPAN}/fork-point", **at)
        engines, endpoints = Part(value=[]), Part(value=[])
        if point["possible"]:
            engines, endpoints = await parts(
                self._engines(visit), self._endpoints(visit, span.get("agentId") or "")
            )
        recorded = recorded_steps.texts(span)
        unshown = [name for name, text in recorded.items() if not recorded_steps.fits(text)]
        shown = {name: "" if name in unshown else text for name, text in recorded.items()}
        data = Forking(
            span=span, kind=spans.kind_of(span), point=point, unshown=unshown, engines=engines,
            endpoints=endpoints, names=await agent_names(self._platform, visit),
            texts={name: visit.form.get(name, text) for name, text in shown.items()},
            chosen={
                name: visit.form.get(name, "") for name in ("policyEngineId", "endpoint", "until")
            },
            problem="" if refused is None else refused.message,
        )  # fmt: skip
        status = 200 if refused is None else refused.status
        return Page(template="forking.html", title="Fork from here", data=data, status=status)

    async def fork(self, visit: Visit) -> Answer:
        visit.noted.update(trace=visit.params["traceId"][:100], span=visit.params["spanId"][:100])
        span = await self._span(visit)
        point = await self._platform.get(
            visit, f"{_SPAN}/fork-point", traceId=span["traceId"], spanId=span["spanId"]
        )
        try:
            body = _asked(span, visit.form, point["changes"])
            made = await self._platform.post(visit, "/freehold/v1/forks", body)
        except FreeholdError as error:
            return await self.form(visit, error)
        visit.noted["fork"] = made["forkId"]
        return GoTo(location=f"/console/forks/{made['forkId']}")

    async def _span(self, visit: Visit) -> dict[str, Any]:
        found: dict[str, Any] = await self._platform.get(
            visit, _SPAN, traceId=visit.params["traceId"], spanId=visit.params["spanId"], raw=True
        )
        return found

    async def _engines(self, visit: Visit) -> Any:
        found = await self._platform.get(visit, "/policy-engines", maxResults=100)
        return [each for each in found["policyEngines"] if each["status"] == "ACTIVE"]

    async def _endpoints(self, visit: Visit, agent: str) -> Any:
        path = "/runtimes/{agentRuntimeId}/runtime-endpoints/"
        found = await self._platform.post(visit, path, agentRuntimeId=agent, maxResults=100)
        return sorted(each["name"] for each in found["runtimeEndpoints"])


def _asked(span: Mapping[str, Any], form: Mapping[str, str], possible: list[str]) -> dict[str, Any]:
    body = {
        "traceId": span["traceId"], "spanId": span["spanId"],
        "change": recorded_steps.change(recorded_steps.texts(span), form, possible),
        "until": "session" if form.get("until") == "session" else "turn",
    }  # fmt: skip
    if form.get("endpoint"):
        body["endpoint"] = form["endpoint"]
    return body
