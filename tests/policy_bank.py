"""The seeds' own rule at a gateway: balances may be read, larger transfers need a manager."""

import uuid
from typing import Any

from gateway_ground import AUDIENCE, Answered, Gateway, at_every_worker, bearer
from running import RunningPlatform, until
from token_issuer import TokenIssuer

Json = dict[str, Any]

REASON = "transfers over 1000 need a manager's approval"

CUSTOMERS = """
permit (
    principal is AgentCore::OAuthUser,
    action in [
        AgentCore::Action::"bank___balance",
        AgentCore::Action::"bank___transfer"
    ],
    resource == AgentCore::Gateway::"<gateway>"
) when {
    principal.hasTag("role") && principal.getTag("role") == "customer"
};
"""

LARGE = (
    f'@reason("{REASON}")'
    """
forbid (
    principal,
    action == AgentCore::Action::"bank___transfer",
    resource == AgentCore::Gateway::"<gateway>"
) when {
    context.input.amount > 1000
} unless {
    principal.hasTag("manager_approval") && principal.getTag("manager_approval") == "true"
};
"""
)


class Engine:
    def __init__(self, platform: RunningPlatform, id: str, arn: str) -> None:
        self.platform, self.id, self.arn = platform, id, arn
        self.control = platform.client("bedrock-agentcore-control")

    def begin(self, statement: str, **more: Any) -> str:
        made = self.control.create_policy(
            policyEngineId=self.id, name=f"p{uuid.uuid4().hex[:8]}",
            definition={"cedar": {"statement": statement}}, **more,
        )  # fmt: skip
        return str(made["policyId"])

    def policy(self, id: str) -> Json:
        found: Json = self.control.get_policy(policyEngineId=self.id, policyId=id)
        return found

    def settled(self, id: str) -> Json:
        until(lambda: not self.policy(id)["status"].endswith("ING"))
        return self.policy(id)

    def add(self, statement: str, **more: Any) -> str:
        id = self.begin(statement, **more)
        shown = self.settled(id)
        assert shown["status"] == "ACTIVE", shown["statusReasons"]
        return id

    def change(self, id: str, **more: Any) -> Json:
        self.control.update_policy(policyEngineId=self.id, policyId=id, **more)
        return self.settled(id)

    def remove(self, id: str) -> None:
        self.control.delete_policy(policyEngineId=self.id, policyId=id)

    def ids(self) -> list[str]:
        listed = self.control.list_policies(policyEngineId=self.id)["policies"]
        return [policy["policyId"] for policy in listed]

    def delete(self) -> None:
        for id in self.ids():
            self.remove(id)
        until(lambda: not self.ids())
        self.control.delete_policy_engine(policyEngineId=self.id)


def engine_of(platform: RunningPlatform, **tags: str) -> Engine:
    made = platform.client("bedrock-agentcore-control").create_policy_engine(
        name=f"e{uuid.uuid4().hex[:8]}", tags={k.replace("_", ":"): v for k, v in tags.items()}
    )
    return Engine(platform, made["policyEngineId"], made["policyEngineArn"])


class Bank:
    def __init__(self, gateway: Gateway, issuer: TokenIssuer, engine: Engine) -> None:
        self.gateway, self.issuer, self.engine = gateway, issuer, engine

    def statement(self, text: str) -> str:
        return text.replace("<gateway>", self.gateway.arn).strip()

    def govern(self, mode: str = "ENFORCE", engine: Engine | None = None) -> None:
        """With the engine, or without one for mode ""."""
        shown = self.gateway.control.get_gateway(gatewayIdentifier=self.gateway.id)
        kept = ("name", "roleArn", "authorizerType", "authorizerConfiguration", "protocolType")
        attached = {"arn": (engine or self.engine).arn, "mode": mode}
        self.gateway.control.update_gateway(
            gatewayIdentifier=self.gateway.id,
            **{name: shown[name] for name in kept},
            **({"policyEngineConfiguration": attached} if mode else {}),
        )

    def rule(self) -> tuple[str, str]:
        """The seeds' own, in force at every worker: ids of its permit and its forbid."""
        ids = (
            self.engine.add(self.statement(CUSTOMERS)),
            self.engine.add(self.statement(LARGE)),
        )
        self.govern()
        at_every_worker(
            lambda: self.tools(role="customer") == ["bank___balance", "bank___transfer"]
        )
        return ids

    def token(self, **claims: Any) -> str:
        return self.issuer.token(aud=AUDIENCE, **claims)

    def tools(self, **claims: Any) -> list[str]:
        return self.gateway.tools(bearer(self.token(**claims)))

    def call(self, tool: str, arguments: Json | None = None, **claims: Any) -> Answered:
        return self.gateway.call(f"bank___{tool}", arguments, bearer(self.token(**claims)))

    def transfer(self, amount: Any, **claims: Any) -> Answered:
        return self.call("transfer", {"to": "Ann", "amount": amount}, **claims)

    def decisions(self, **query: Any) -> list[Json]:
        found = self.gateway.platform.own("/policy-decisions", gatewayId=self.gateway.id, **query)
        decisions: list[Json] = found["decisions"]
        return decisions

    def delete(self) -> None:
        self.govern("")
        self.gateway.delete()
        self.engine.delete()
