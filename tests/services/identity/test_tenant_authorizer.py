"""The first authorizer: one's own is allowed, another's is not found, the odd is denied."""

import msgspec
import pytest

from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import AccessDenied, NotFound
from freehold.ports.authorizer import Authorizer
from freehold.services.identity.authorizer import TenantAuthorizer

CALLER = Caller(tenant="123456789012", principal="key", kind=CallerKind.ACCESS_KEY)
OPERATION = "bedrock-agentcore-control:GetAgentRuntime"


def arn(tenant: str) -> str:
    return f"arn:aws:bedrock-agentcore:us-west-2:{tenant}:runtime/x-1234567890"


@pytest.fixture
def authorizer() -> Authorizer:
    return TenantAuthorizer()


@pytest.mark.parametrize("kind", [CallerKind.ACCESS_KEY, CallerKind.ADMIN])
@pytest.mark.parametrize("resource", [None, arn("123456789012")])
async def test_a_caller_reaches_what_is_its_own(
    authorizer: Authorizer, kind: CallerKind, resource: str | None
) -> None:
    await authorizer.authorize(msgspec.structs.replace(CALLER, kind=kind), OPERATION, resource)


SESSION = msgspec.structs.replace(CALLER, kind=CallerKind.SESSION)


@pytest.mark.parametrize(
    "operation",
    ["bedrock-agentcore:InvokeAgentRuntime", "doorway:GetCredentials", "models:ChatCompletions"],
)
async def test_a_session_reaches_agents_models_and_its_doorway(
    authorizer: Authorizer, operation: str
) -> None:
    await authorizer.authorize(SESSION, operation, arn(SESSION.tenant))
    await authorizer.authorize(SESSION, operation, None)


@pytest.mark.parametrize(
    "operation",
    [
        OPERATION,
        "bedrock-agentcore:StopRuntimeSession",
        "bedrock-agentcore-control:InvokeAgentRuntime",
        "freehold:CreateAccessKey",
        "s3:GetObject",
        "doorways:GetCredentials",
    ],
)
async def test_a_session_reaches_nothing_else(authorizer: Authorizer, operation: str) -> None:
    for resource in (None, arn(SESSION.tenant)):
        with pytest.raises(AccessDenied, match=operation.partition(":")[2]):
            await authorizer.authorize(SESSION, operation, resource)


async def test_a_session_does_not_find_another_tenants_agent(authorizer: Authorizer) -> None:
    with pytest.raises(NotFound):
        await authorizer.authorize(
            SESSION, "bedrock-agentcore:InvokeAgentRuntime", arn("123456789013")
        )


@pytest.mark.parametrize("tenant", ["123456789013", "", "12345678901", "123456789012 ", "*"])
async def test_another_tenants_resource_is_not_found(authorizer: Authorizer, tenant: str) -> None:
    with pytest.raises(NotFound):
        await authorizer.authorize(CALLER, OPERATION, arn(tenant))


@pytest.mark.parametrize("resource", ["", "x-1234567890", "arn:", "arn:aws:s3", "ARN:a:b:c:d:e"])
async def test_a_resource_without_an_arn_is_denied(authorizer: Authorizer, resource: str) -> None:
    with pytest.raises(AccessDenied):
        await authorizer.authorize(CALLER, OPERATION, resource)


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
