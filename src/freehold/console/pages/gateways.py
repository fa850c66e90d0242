"""Gateways: their targets, tools, limits, and changes that wait for somebody's yes."""

from typing import Any

import msgspec

from freehold.console.answer import Answer, GoTo, Page
from freehold.console.parts import Part, parts
from freehold.console.ports import Platform
from freehold.console.routes import Route
from freehold.console.visit import Visit
from freehold.kernel.errors import FreeholdError, ValidationFailed

LIST = "/console/gateways"
ONE = f"{LIST}/{{id}}"
_OWN = "/freehold/v1/gateways/{gatewayId}"
_AWS = "/gateways/{gatewayId}"
_PAGE = 25
_DONE = {
    "approved": "Approved: it is in force now.",
    "rejected": "Rejected: it stays blocked until it is again what was approved.",
    "synchronizing": "The target is being asked again. Load this page again in a moment.",
}


class Gateways(msgspec.Struct, frozen=True, kw_only=True):
    gateways: list[dict[str, Any]]
    next_token: str | None


class GatewayFrame(msgspec.Struct, frozen=True, kw_only=True):
    """What every page of one gateway shows. `status` is of our own API; `waiting` counts changes
    to decide on."""

    gateway: dict[str, Any]
    status: dict[str, Any]
    tab: str
    problem: str = ""
    done: str = ""

    @property
    def waiting(self) -> int:
        return sum(target["waiting"] for target in self.status["targets"])


class Tools(GatewayFrame, frozen=True, kw_only=True):
    tools: list[dict[str, Any]]
    target: str


class Changes(GatewayFrame, frozen=True, kw_only=True):
    changes: list[dict[str, Any]]


class Limits(GatewayFrame, frozen=True, kw_only=True):
    limits: Part
    rules: Part
    groups: Part


class Target(GatewayFrame, frozen=True, kw_only=True):
    target: dict[str, Any]
    health: dict[str, Any] | None
    problems: Part


class GatewayPages:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def routes(self) -> list[Route]:
        changes, target = f"{ONE}/changes", f"{ONE}/targets/{{target}}"
        read = "ReadGateways"
        return [
            Route(method="GET", path=LIST, act=self.listing, operation=read),
            Route(method="GET", path=ONE, act=self.targets, operation=read),
            Route(method="GET", path=f"{ONE}/tools", act=self.tools, operation=read),
            Route(method="GET", path=f"{ONE}/limits", act=self.limits, operation=read),
            Route(method="GET", path=changes, act=self.changes, operation=read),
            Route(method="POST", path=changes, act=self.decide, operation="DecideGatewayChange"),
            Route(method="GET", path=target, act=self.target, operation=read),
            Route(
                method="POST", path=target, act=self.synchronize,
                operation="SynchronizeGatewayTarget",
            ),
        ]  # fmt: skip

    async def listing(self, visit: Visit) -> Answer:
        found = await self._platform.get(
            visit, "/gateways/", maxResults=_PAGE, nextToken=visit.query.get("nextToken")
        )
        data = Gateways(gateways=found["items"], next_token=found.get("nextToken"))
        return Page(template="gateways.html", title="Gateways", data=data)

    async def targets(self, visit: Visit) -> Answer:
        data = GatewayFrame(tab="targets", **await self._frame(visit))
        return _page("gateway.html", data)

    async def tools(self, visit: Visit) -> Answer:
        target = visit.query.get("targetId", "")
        found = await self._platform.get(
            visit, f"{_OWN}/tools", gatewayId=visit.params["id"], targetId=target
        )
        data = Tools(
            tab="tools", tools=found["tools"], target=target, **await self._frame(visit)
        )  # fmt: skip
        return _page("gateway_tools.html", data)

    async def limits(self, visit: Visit) -> Answer:
        at = {"gatewayId": visit.params["id"]}
        limits, rules, groups = await parts(
            self._platform.get(visit, f"{_AWS}/rate-limits", maxResults=100, **at),
            self._platform.get(visit, f"{_AWS}/rules", maxResults=100, **at),
            self._platform.get(visit, f"{_OWN}/action-groups", **at),
        )
        data = Limits(
            tab="limits", limits=limits, rules=rules, groups=groups, **await self._frame(visit)
        )
        return _page("gateway_limits.html", data)

    async def changes(self, visit: Visit, refused: FreeholdError | None = None) -> Answer:
        found = await self._platform.get(visit, f"{_OWN}/changes", gatewayId=visit.params["id"])
        data = Changes(
            tab="changes", changes=found["changes"],
            problem="" if refused is None else refused.message, **await self._frame(visit),
        )  # fmt: skip
        return _page("gateway_changes.html", data, refused)

    async def decide(self, visit: Visit) -> Answer:
        decision = visit.form.get("decision")
        if decision not in ("approve", "reject"):
            raise ValidationFailed("the decision is approve or reject")
        wanted = {
            name: visit.form[name] for name in ("targetId", "name", "kind", "hash")
            if visit.form.get(name)
        }  # fmt: skip
        visit.noted.update(decision=decision, gateway=visit.params["id"])
        try:
            await self._platform.post(
                visit, f"{_OWN}/changes/{decision}", wanted, gatewayId=visit.params["id"]
            )
        except FreeholdError as error:
            return await self.changes(visit, error)
        done = {"approve": "approved", "reject": "rejected"}[decision]
        return GoTo(location=f"{_at(visit)}/changes?done={done}")

    async def target(self, visit: Visit, refused: FreeholdError | None = None) -> Answer:
        at = {"gatewayId": visit.params["id"], "targetId": visit.params["target"]}
        found = await self._platform.get(visit, f"{_AWS}/targets/{{targetId}}/", **at)
        (problems,) = await parts(
            self._platform.get(visit, f"{_OWN}/targets/{{targetId}}/problems", **at)
        )
        frame = await self._frame(visit)
        targets = frame["status"]["targets"]
        health = next((each for each in targets if each["targetId"] == at["targetId"]), None)
        data = Target(
            tab="targets", target=found, health=health, problems=problems,
            problem="" if refused is None else refused.message, **frame,
        )  # fmt: skip
        return _page("gateway_target.html", data, refused)

    async def synchronize(self, visit: Visit) -> Answer:
        id, target = visit.params["id"], visit.params["target"]
        visit.noted.update(gateway=id, target=target)
        try:
            await self._platform.put(
                visit, f"{_AWS}/synchronizeTargets", {"targetIdList": [target]}, gatewayId=id
            )
        except FreeholdError as error:
            return await self.target(visit, error)
        return GoTo(location=f"{visit.address.partition('?')[0]}?done=synchronizing")

    async def _frame(self, visit: Visit) -> dict[str, Any]:
        id = visit.params["id"]
        return {
            "gateway": await self._platform.get(visit, f"{_AWS}/", gatewayId=id),
            "status": await self._platform.get(visit, f"{_OWN}/status", gatewayId=id),
            "done": _DONE.get(visit.query.get("done", ""), ""),
        }


def _at(visit: Visit) -> str:
    """The address of the gateway whose page posted."""
    return visit.address.partition("?")[0].rpartition("/")[0]


def _page(template: str, data: GatewayFrame, refused: FreeholdError | None = None) -> Page:
    status = 200 if refused is None else refused.status
    return Page(template=template, title=data.gateway["name"], data=data, status=status)
