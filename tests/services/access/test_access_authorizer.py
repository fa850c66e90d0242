"""The authorization step: one's own, another tenant's, sessions, tokens, and the odd."""

from typing import Any

import msgspec
import pytest

from freehold.adapters.cedar.engine import CedarEngine
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import AccessDenied, NotFound
from freehold.ports.authorizer import Authorizer
from freehold.ports.policies import CompiledPolicies, Decision, Effect, PolicyEngine
from freehold.services.access.authorizer import CedarAuthorizer
from freehold.services.access.policies import ResourcePolicyService

TENANT = "123456789012"
CALLER = Caller(
    tenant=TENANT, principal="key", kind=CallerKind.ACCESS_KEY, roles=frozenset({"admin"})
)
OPERATION = "bedrock-agentcore-control:GetAgentRuntime"
INVOKE = "bedrock-agentcore:InvokeAgentRuntime"


def arn(tenant: str = TENANT, resource: str = "runtime/x-1234567890") -> str:
    return f"arn:aws:bedrock-agentcore:us-west-2:{tenant}:{resource}"


@pytest.fixture
def authorizer(database: PostgresDatabase) -> Authorizer:
    engine = CedarEngine()
    return CedarAuthorizer(engine, ResourcePolicyService(database, engine))


@pytest.mark.parametrize("kind", [CallerKind.ACCESS_KEY, CallerKind.ADMIN, CallerKind.PERSON])
@pytest.mark.parametrize("operation", [OPERATION, INVOKE])
async def test_a_caller_reaches_what_is_its_own(
    authorizer: Authorizer, kind: CallerKind, operation: str
) -> None:
    caller = msgspec.structs.replace(CALLER, kind=kind)
    assert await authorizer.authorize(caller, operation, arn()) == TENANT
    assert await authorizer.authorize(caller, OPERATION, None) == TENANT


SESSION = Caller(tenant=TENANT, principal=f"{arn()}/session/s", kind=CallerKind.SESSION)


@pytest.mark.parametrize(
    "operation",
    [
        "bedrock-agentcore:GetAgentCard",
        "bedrock-agentcore:GetResourceApiKey",
        "bedrock-agentcore:GetResourceOauth2Token",
        "bedrock-agentcore:GetWorkloadAccessToken",
        "bedrock-agentcore:GetWorkloadAccessTokenForJWT",
        "bedrock-agentcore:GetWorkloadAccessTokenForUserId",
        "doorway:GetCredentials",
        "doorway:ExportTelemetry",
        "models:ChatCompletions",
    ],
)
async def test_a_session_reaches_agents_models_its_doorway_and_credentials(
    authorizer: Authorizer, operation: str
) -> None:
    assert await authorizer.authorize(SESSION, operation, arn()) == TENANT
    assert await authorizer.authorize(SESSION, INVOKE, arn()) == TENANT


@pytest.mark.parametrize(
    "operation",
    [
        OPERATION,
        "bedrock-agentcore:CompleteResourceTokenAuth",
        "bedrock-agentcore:InvokeAgentRuntimeCommand",
        "bedrock-agentcore:StopRuntimeSession",
        "bedrock-agentcore-control:InvokeAgentRuntime",
        "bedrock-agentcore-control:CreateWorkloadIdentity",
        "bedrock-agentcore-control:PutResourcePolicy",
        "doorway:Anything",
        "freehold:CreateAccessKey",
        "models:DeleteFiles",
        "s3:GetObject",
        "doorways:GetCredentials",
    ],
)
async def test_a_session_reaches_nothing_else(authorizer: Authorizer, operation: str) -> None:
    for resource in (None, arn()):
        with pytest.raises(AccessDenied, match=operation.partition(":")[2]):
            await authorizer.authorize(SESSION, operation, resource)


async def test_a_session_does_not_find_another_tenants_agent(
    authorizer: Authorizer, tenant: str
) -> None:
    with pytest.raises(NotFound):
        await authorizer.authorize(SESSION, INVOKE, arn(tenant))


# -- tokens that a resource's own authorizer accepted


def user(resource: str | None) -> Caller:
    return Caller(
        tenant=TENANT, principal="https://id|ann", kind=CallerKind.OAUTH_USER, resource=resource
    )


@pytest.mark.parametrize(
    "operation",
    [
        INVOKE,
        "bedrock-agentcore:InvokeAgentRuntimeWithWebSocketStream",
        "bedrock-agentcore:GetAgentCard",
        "bedrock-agentcore:StopRuntimeSession",
        "bedrock-agentcore:InvokeAgentRuntimeCommand",
        "bedrock-agentcore:InvokeAgentRuntimeCommandShell",
    ],
)
@pytest.mark.parametrize(
    "accepted_for",
    [arn(), "x-1234567890", arn(resource="runtime/x-1234567890/runtime-endpoint/DEFAULT")],
)
async def test_a_token_opens_the_agent_that_accepted_it(
    authorizer: Authorizer, operation: str, accepted_for: str
) -> None:
    assert await authorizer.authorize(user(accepted_for), operation, arn()) == TENANT


@pytest.mark.parametrize(
    "accepted_for",
    [None, "", "y-1234567890", arn(resource="runtime/y-1234567890"), "x-1234567890x", "gateway/x"],
)
async def test_a_token_opens_no_other_agent(
    authorizer: Authorizer, accepted_for: str | None
) -> None:
    with pytest.raises(AccessDenied):
        await authorizer.authorize(user(accepted_for), INVOKE, arn())
    with pytest.raises(AccessDenied):
        await authorizer.authorize(user(accepted_for), INVOKE, None)


async def test_a_token_opens_nothing_in_another_tenant(authorizer: Authorizer, tenant: str) -> None:
    with pytest.raises(AccessDenied):
        await authorizer.authorize(user(arn(tenant)), INVOKE, arn(tenant))


@pytest.mark.parametrize(
    "operation",
    [
        OPERATION,
        "bedrock-agentcore:InvokeAgentRuntimeForUser",
        "bedrock-agentcore:GetResourceApiKey",
        "freehold:ReadLogs",
        "s3:GetObject",
    ],
)
async def test_a_token_opens_nothing_but_its_agent(authorizer: Authorizer, operation: str) -> None:
    with pytest.raises(AccessDenied, match=operation.partition(":")[2]):
        await authorizer.authorize(user(arn()), operation, arn())


# -- other tenants, and the odd


@pytest.mark.parametrize("operation", [OPERATION, INVOKE, "s3:GetObject"])
@pytest.mark.parametrize("tenant", ["123456789013", "", "12345678901", "123456789012 ", "*"])
async def test_another_tenants_resource_is_not_found(
    authorizer: Authorizer, tenant: str, operation: str
) -> None:
    with pytest.raises(NotFound):
        await authorizer.authorize(CALLER, operation, arn(tenant))


async def test_a_denial_does_not_depend_on_what_another_tenant_has(
    authorizer: Authorizer, tenant: str
) -> None:
    auditor = msgspec.structs.replace(CALLER, roles=frozenset({"auditor"}))
    for resource in (arn(), arn(tenant)):
        with pytest.raises(AccessDenied):
            await authorizer.authorize(auditor, INVOKE, resource)


@pytest.mark.parametrize("resource", ["", "x-1234567890", "arn:", "arn:aws:s3", "ARN:a:b:c:d:e"])
async def test_a_resource_without_an_arn_is_denied(authorizer: Authorizer, resource: str) -> None:
    with pytest.raises(AccessDenied):
        await authorizer.authorize(CALLER, OPERATION, resource)


async def test_an_agent_that_is_not_named_in_full_is_denied(authorizer: Authorizer) -> None:
    """Its policy could not be asked."""
    with pytest.raises(AccessDenied, match="by an ARN"):
        await authorizer.authorize(CALLER, INVOKE, None)


@pytest.mark.parametrize("tenant", ["", "*", "12345678901", "12345678901a", "1234567890123"])
async def test_a_caller_without_a_proper_tenant_is_denied(
    authorizer: Authorizer, tenant: str
) -> None:
    caller = msgspec.structs.replace(CALLER, tenant=tenant)
    for resource in (None, arn(tenant)):
        with pytest.raises(AccessDenied):
            await authorizer.authorize(caller, OPERATION, resource)


@pytest.mark.parametrize("kind", ["access_key", "root", None])
async def test_a_caller_of_an_unknown_kind_is_denied(authorizer: Authorizer, kind: object) -> None:
    caller = msgspec.structs.replace(CALLER, kind=kind)
    with pytest.raises(AccessDenied):
        await authorizer.authorize(caller, OPERATION, None)


async def test_no_caller_is_denied(authorizer: Authorizer) -> None:
    with pytest.raises(AccessDenied):
        await authorizer.authorize(None, OPERATION, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("operation", ["", "GetAgentRuntime", ":", "a:", ":B", "a:b c", "a:b\n"])
async def test_an_unnamed_operation_is_denied(authorizer: Authorizer, operation: str) -> None:
    with pytest.raises(AccessDenied):
        await authorizer.authorize(CALLER, operation, None)


class Failing:
    """An engine that takes policies, and then cannot decide."""

    def __init__(self, effect: Effect) -> None:
        self.effect = effect
        self.errors: tuple[str, ...] = ("out of order",)

    def compile(self, policies: str, schema: str) -> CompiledPolicies:
        return self

    def decide(self, request: object, entities: object) -> Decision:
        return Decision(self.effect, (), self.errors)


@pytest.mark.parametrize("effect", list(Effect))
async def test_when_the_engine_fails_nobody_may_do_anything(
    database: PostgresDatabase, effect: Effect
) -> None:
    """The bar's row "policy engine error, time-out, forbid error"."""
    failing = Failing(effect)
    engine: PolicyEngine = failing
    authorizer = CedarAuthorizer(engine, ResourcePolicyService(database, engine))
    for operation in (OPERATION, INVOKE):
        with pytest.raises(AccessDenied):
            await authorizer.authorize(CALLER, operation, arn())
    failing.errors, failing.effect = (), Effect.ALLOW  # and it is well again
    assert await authorizer.authorize(CALLER, OPERATION, arn()) == TENANT


class Counting:
    """An engine that counts its decisions."""

    def __init__(self) -> None:
        self.decisions = 0
        self._engine = CedarEngine()

    def compile(self, policies: str, schema: str) -> CompiledPolicies:
        compiled = self._engine.compile(policies, schema)
        counting = self

        class Counted:
            def decide(self, request: Any, entities: Any) -> Decision:
                counting.decisions += 1
                return compiled.decide(request, entities)

        return Counted()


async def test_what_was_decided_once_is_not_asked_again(database: PostgresDatabase) -> None:
    engine = Counting()
    authorizer = CedarAuthorizer(engine, ResourcePolicyService(database, engine))
    for operation in (OPERATION, INVOKE):
        await authorizer.authorize(CALLER, operation, arn())
        before = engine.decisions
        for _ in range(100):
            await authorizer.authorize(CALLER, operation, arn())
        assert engine.decisions == before
    assert engine.decisions >= 2


# -- nobody at all


GATEWAY = f"arn:aws:bedrock-agentcore:us-west-2:{TENANT}:gateway/open-1234567890"


def anybody(accepted_for: str | None) -> Caller:
    return Caller(
        tenant=TENANT, principal="anonymous", kind=CallerKind.ANONYMOUS, resource=accepted_for
    )


async def test_a_gateway_for_anybody_lets_anybody_call_it_and_nothing_else(
    authorizer: Authorizer,
) -> None:
    invoke = "bedrock-agentcore:InvokeGateway"
    assert await authorizer.authorize(anybody(GATEWAY), invoke, GATEWAY) == TENANT
    for accepted_for, operation, resource in (
        (None, invoke, GATEWAY),
        (GATEWAY, invoke, GATEWAY.replace("open-", "closed-")),
        (GATEWAY, "bedrock-agentcore-control:GetGateway", GATEWAY),
        (GATEWAY, INVOKE, arn()),
        (GATEWAY, "freehold:WhoAmI", None),
    ):
        with pytest.raises(AccessDenied):
            await authorizer.authorize(anybody(accepted_for), operation, resource)
