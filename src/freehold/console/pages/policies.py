"""Policy engines: their policies, where they are asked, and what a proof finds in them."""

from typing import Any

import msgspec

from freehold.console.answer import Answer, Page
from freehold.console.parts import Part, parts
from freehold.console.ports import Platform
from freehold.console.routes import Route
from freehold.console.visit import Visit

_LIST = "/console/policies"
_ONE = f"{_LIST}/{{id}}"
_PAGE = 50
_CHECK_SECONDS = 20


class GatewayMode(msgspec.Struct, frozen=True, kw_only=True):
    """`engine` "": the gateway asks none."""

    gateway_id: str
    name: str
    engine: str = ""
    mode: str = ""


class Policies(msgspec.Struct, frozen=True, kw_only=True):
    engines: list[dict[str, Any]]
    gateways: Part
    next_token: str | None


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """`check`: what CheckPolicies said, where it was asked."""

    engine: dict[str, Any]
    policies: list[dict[str, Any]]
    next_token: str | None
    gateways: Part
    check: Part | None


class PolicyPages:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def routes(self) -> list[Route]:
        return [
            Route(method="GET", path=_LIST, act=self.listing, operation="ReadPolicies"),
            Route(method="GET", path=_ONE, act=self.engine, operation="ReadPolicies"),
        ]

    async def listing(self, visit: Visit) -> Answer:
        found = await self._platform.get(
            visit, "/policy-engines", maxResults=_PAGE, nextToken=visit.query.get("nextToken")
        )
        (gateways,) = await parts(self._modes(visit))
        data = Policies(
            engines=found["policyEngines"], gateways=gateways, next_token=found.get("nextToken")
        )
        return Page(template="policies.html", title="Policies", data=data)

    async def engine(self, visit: Visit) -> Answer:
        id = visit.params["id"]
        engine = await self._platform.get(visit, "/policy-engines/{id}", id=id)
        found = await self._platform.get(
            visit, "/policy-engines/{id}/policies", id=id, maxResults=_PAGE,
            nextToken=visit.query.get("nextToken"),
        )  # fmt: skip
        check = None
        if visit.query.get("check"):
            asked = {"engineId": id, "logOnly": True, "secondsMax": _CHECK_SECONDS}
            (check,) = await parts(self._platform.post(visit, "/freehold/v1/policies/check", asked))
        (gateways,) = await parts(self._modes(visit))
        if not gateways.problem:
            using = [each for each in gateways.value if each.engine == id]
            gateways = Part(value=using)
        data = Engine(
            engine=engine, policies=found["policies"], next_token=found.get("nextToken"),
            gateways=gateways, check=check,
        )  # fmt: skip
        return Page(template="policy_engine.html", title=engine["name"], data=data)

    async def _modes(self, visit: Visit) -> list[GatewayMode]:
        """Of the first gateways; their list does not say it, so each is asked."""
        found = await self._platform.get(visit, "/gateways/", maxResults=_PAGE)
        ids = [each["gatewayId"] for each in found["items"]]
        shown = await parts(
            *(self._platform.get(visit, "/gateways/{id}/", id=gateway) for gateway in ids)
        )
        # One that was deleted meanwhile is left out.
        return [_mode(each.value) for each in shown if not each.problem]


def _mode(gateway: dict[str, Any]) -> GatewayMode:
    given = gateway.get("policyEngineConfiguration") or {}
    return GatewayMode(
        gateway_id=gateway["gatewayId"], name=gateway["name"],
        engine=given.get("arn", "").rpartition("/")[2], mode=given.get("mode", ""),
    )  # fmt: skip
