"""A gateway of a bank, callers of it, and policies: what enforcement is tried with."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from freehold.adapters.cedar.engine import CedarEngine
from freehold.adapters.cedar.statements import CedarStatements
from freehold.kernel.caller import Caller, CallerKind
from freehold.ports.enforcement import GovernedCall, GovernedGateway, GovernedTool
from freehold.services.policy.enforcement import PolicyEnforcement
from freehold.services.policy.model import Decided, EngineRow, PolicyRow

TENANT = "123456789012"
GATEWAY_ARN = f"arn:aws:bedrock-agentcore:us-east-1:{TENANT}:gateway/bank-0123456789"
ENGINE_ARN = f"arn:aws:bedrock-agentcore:us-east-1:{TENANT}:policy-engine/rules-0123456789"
AT = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
GATEWAY = f'AgentCore::Gateway::"{GATEWAY_ARN}"'


def object_of(required: Sequence[str] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


def tool(name: str, schema: Mapping[str, Any] | None = None) -> GovernedTool:
    return GovernedTool(
        name=name, target=name.partition("___")[0], input_schema=schema or object_of()
    )


STRING, INTEGER, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
BALANCE = tool("Bank___balance", object_of(["account"], account=STRING))
TRANSFER = tool(
    "Bank___transfer", object_of(["amount", "to"], amount=INTEGER, to=STRING, note=STRING)
)
CONVERT = tool("Money___convert", object_of(["amount"], amount=NUMBER, rate=NUMBER))
TOOLS = (BALANCE, TRANSFER, CONVERT)


def gateway(*tools: GovernedTool, **members: Any) -> GovernedGateway:
    given = {"authorizer": "CUSTOM_JWT", "engine_arn": ENGINE_ARN, "mode": "ENFORCE", **members}
    return GovernedGateway(
        tenant=TENANT, id="bank-0123456789", arn=GATEWAY_ARN, name="bank", tools=tools or TOOLS,
        **given,
    )  # fmt: skip


def user(subject: str = "ann", **claims: Any) -> Caller:
    return Caller(
        tenant=TENANT,
        principal=f"https://issuer.example|{subject}",
        kind=CallerKind.OAUTH_USER,
        user=f"https://issuer.example|{subject}",
        claims={"sub": subject, **claims},
    )


def call(
    at: GovernedGateway, tool: GovernedTool, arguments: Mapping[str, Any], **members: Any
) -> GovernedCall:
    given = {"caller": user(), "request_id": "request-1", **members}
    return GovernedCall(gateway=at, tool=tool, arguments=arguments, **given)


class Row:
    """An engine in memory, as its service has it: another object after each change."""

    def __init__(self, *statements: str, shadow: Sequence[str] = ()) -> None:
        self._changes = 0
        self.row: EngineRow | None = None
        self.loads = 0
        self.change(*statements, shadow=shadow)

    def change(self, *statements: str, shadow: Sequence[str] = ()) -> None:
        self._changes += 1
        kept = [
            PolicyRow(id=f"rule-{n}", name=f"rule{n}", version=1, mode=mode, statement=statement)
            for n, (mode, statement) in enumerate(
                [
                    *(("ACTIVE", each) for each in statements),
                    *(("LOG_ONLY", each) for each in shadow),
                ]
            )
        ]
        self.row = EngineRow(
            tenant=TENANT, id="rules-0123456789", arn=ENGINE_ARN, name="rules",
            version=f"v{self._changes}", policies=kept,
        )  # fmt: skip

    async def load(self, tenant: str, engine_arn: str) -> EngineRow | None:
        self.loads += 1
        return self.row if (tenant, engine_arn) == (TENANT, ENGINE_ARN) else None


class Kept:
    """Decisions as they were recorded."""

    def __init__(self) -> None:
        self.all: list[Decided] = []

    async def record(self, decided: Decided) -> None:
        self.all.append(decided)

    @property
    def last(self) -> Decided:
        return self.all[-1]


def enforcement(row: Row, kept: Kept | None = None) -> PolicyEnforcement:
    return PolicyEnforcement(row, CedarEngine(), CedarStatements(), kept or Kept(), now=lambda: AT)
