"""The log of decisions, and one decision with the policies that made it."""

from typing import Any

import msgspec

from freehold.console import filters
from freehold.console.answer import Answer, Page
from freehold.console.filters import Field, Filter
from freehold.console.parts import Part, parts
from freehold.console.ports import Platform
from freehold.console.routes import Route
from freehold.console.visit import Visit

_LIST = "/console/decisions"
_OWN = "/freehold/v1/policy-decisions"
_PAGE = 50
_FILTERS = (
    filters.since("7d"),
    Filter(
        name="outcome", label="Outcome", kind="choice",
        choices=(("", "Any"), ("allowed", "Allowed"), ("denied", "Denied")),
    ),
    Filter(name="tool", label="Tool", placeholder="orders___refund"),
    Filter(name="principal", label="Principal"),
    Filter(
        name="mode", label="Mode", kind="choice", more=True,
        choices=(("", "Any"), ("ENFORCE", "Enforced"), ("LOG_ONLY", "Only logged")),
    ),
    Filter(
        name="wouldDiffer", label="Trial policies", kind="choice", more=True,
        choices=(("", "Any"), ("true", "Would change it")),
    ),
    Filter(name="gatewayId", label="Gateway", more=True),
    Filter(name="engineId", label="Policy engine", more=True),
    Filter(name="policyId", label="Policy", more=True),
    Filter(name="user", label="User", more=True),
    Filter(name="requestId", label="Request id", more=True),
)  # fmt: skip


class Decisions(msgspec.Struct, frozen=True, kw_only=True):
    fields: list[Field]
    decisions: list[dict[str, Any]]
    next_token: str | None


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """`statements`: the Cedar text of each policy that decided or was asked, by its id, where it is
    still there."""

    decision: dict[str, Any]
    explanation: Part
    statements: dict[str, str]


class DecisionPages:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def routes(self) -> list[Route]:
        return [
            Route(method="GET", path=_LIST, act=self.listing, operation="ReadDecisions"),
            Route(method="GET", path=f"{_LIST}/{{id}}", act=self.one, operation="ReadDecisions"),
        ]

    async def listing(self, visit: Visit) -> Answer:
        fields = filters.read(visit, _FILTERS)
        found = await self._platform.get(
            visit, _OWN, limit=_PAGE, nextToken=visit.query.get("nextToken"),
            **filters.values(fields),
        )  # fmt: skip
        data = Decisions(
            fields=fields, decisions=found["decisions"], next_token=found.get("nextToken")
        )
        return Page(template="decisions.html", title="Decisions", data=data)

    async def one(self, visit: Visit) -> Answer:
        id = visit.params["id"]
        decision = await self._platform.get(visit, f"{_OWN}/{{id}}", id=id)
        (explanation,) = await parts(self._platform.get(visit, f"{_OWN}/{{id}}/explanation", id=id))
        named = {*decision["policies"], *decision["shadowPolicies"]}
        if not explanation.problem:
            named |= {each["id"] for each in explanation.value["policies"]}
        engine = decision["engineId"]
        asked = [
            self._platform.get(visit, "/policy-engines/{engine}/policies/{policy}",
                               engine=engine, policy=policy)
            for policy in sorted(named)
        ]  # fmt: skip
        statements = {
            each.value["policyId"]: each.value["definition"]["cedar"]["statement"]
            for each in await parts(*asked)
            if not each.problem and "cedar" in each.value["definition"]
        }
        data = Decision(decision=decision, explanation=explanation, statements=statements)
        return Page(template="decision.html", title=f"Decision on {decision['tool']}", data=data)
