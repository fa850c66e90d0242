"""The bank of examples/policy as the policy service sees it: a gateway, an engine, policies."""

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec

from freehold.adapters.cedar.engine import CedarEngine
from freehold.adapters.cedar.statements import CedarStatements
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.request import Request
from freehold.ports.enforcement import GovernedGateway, GovernedTool, Mode
from freehold.services.policy.model import EngineRow, PolicyRow

EXAMPLE = Path(__file__).parents[3] / "examples" / "policy"
TENANT, REGION = "100000000001", "us-east-1"
GATEWAY_ID, ENGINE_ID = "bank-0123456789", "bank-abcdefghij"
_ARN = f"arn:aws:bedrock-agentcore:{REGION}:{TENANT}"
GATEWAY_ARN, ENGINE_ARN = f"{_ARN}:gateway/{GATEWAY_ID}", f"{_ARN}:policy-engine/{ENGINE_ID}"
BALANCE, TRANSFER = "accounts___get_balance", "accounts___transfer"
REQUEST = Request(
    caller=Caller(tenant=TENANT, principal="key", kind=CallerKind.ACCESS_KEY), request_id="r"
)
STRANGER = Request(
    caller=Caller(tenant="200000000002", principal="key", kind=CallerKind.ACCESS_KEY),
    request_id="r",
)


def cedar() -> str:
    """The example's policies, of the gateway here."""
    text = (EXAMPLE / "bank.cedar").read_text()
    return text.replace('Gateway::"bank"', f'Gateway::"{GATEWAY_ARN}"')


def rows(text: str, **modes: str) -> list[PolicyRow]:
    """`modes`: of the policies that are not ACTIVE, by their names."""
    found = []
    for rule in CedarEngine().split(text):
        named = CedarStatements().read(rule.statement).resource
        found.append(
            PolicyRow(
                id=f"{rule.id}-0000000000", name=rule.id, version=1,
                mode=modes.get(rule.id, "ACTIVE"),  # type: ignore[arg-type]
                statement=rule.statement, gateway=named.id if named else "",
            )
        )  # fmt: skip
    return found


def gateway(*, mode: Mode = "ENFORCE", engine_arn: str = ENGINE_ARN) -> GovernedGateway:
    document = json.loads((EXAMPLE / "tools.json").read_text())
    return GovernedGateway(
        tenant=TENANT, id=GATEWAY_ID, arn=GATEWAY_ARN, name="bank", mode=mode,
        authorizer=document["authorizerType"], engine_arn=engine_arn,
        tools=[
            GovernedTool(name=t["name"], target="accounts", input_schema=t["inputSchema"])
            for t in document["tools"]
        ],
    )  # fmt: skip


class Bank:
    """Implements `GovernedGateways` and the policy service's `Engines`."""

    def __init__(self, policies: Sequence[PolicyRow], *gateways: GovernedGateway) -> None:
        self.gateways = list(gateways) or [gateway()]
        self.row = EngineRow(
            tenant=TENANT, id=ENGINE_ID, arn=ENGINE_ARN, name="bank", version="v1",
            policies=list(policies),
        )  # fmt: skip

    async def get(self, tenant: str, gateway_arn: str) -> GovernedGateway | None:
        return next((g for g in self.gateways if (g.tenant, g.arn) == (tenant, gateway_arn)), None)

    async def using(self, tenant: str, engine_arn: str) -> Sequence[GovernedGateway]:
        return [g for g in self.gateways if (g.tenant, g.engine_arn) == (tenant, engine_arn)]

    async def load(self, tenant: str, engine_arn: str) -> EngineRow | None:
        found = (tenant, engine_arn) == (self.row.tenant, self.row.arn)
        return self.row if found else None


def other(name: str) -> GovernedGateway:
    """A gateway with the same tools."""
    arn = f"{_ARN}:gateway/{name}-0123456789"
    return msgspec.structs.replace(gateway(), id=f"{name}-0123456789", arn=arn, name=name)
