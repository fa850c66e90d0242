"""Who may what: the roles, operation by operation."""

import re
from typing import Any

import msgspec
import pytest

from freehold.adapters.cedar.engine import CedarEngine
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.edges.aws import model
from freehold.edges.aws.sockets import SHELL, WEBSOCKET
from freehold.edges.doorway.wires import WIRES
from freehold.edges.logs.app import OPERATIONS as LOGS_OPERATIONS
from freehold.edges.s3.routes import ROUTES
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import AccessDenied
from freehold.kernel.roles import ROLES
from freehold.ports.mcp import INVOKE as INVOKE_GATEWAY
from freehold.processes.console import console_routes
from freehold.services.access.actions import GROUPS, GROUPS_OF, SHAREABLE
from freehold.services.access.authorizer import CedarAuthorizer
from freehold.services.access.policies import ResourcePolicyService
from freehold.services.identity.sessions import FOR_USER
from without_services import native_operations

TENANT = "123456789012"
CONTROL = "bedrock-agentcore-control"
DATA = "bedrock-agentcore"
CALLER = Caller(tenant=TENANT, principal="someone", kind=CallerKind.ACCESS_KEY)
ARN = f"arn:aws:bedrock-agentcore:us-west-2:{TENANT}:runtime/x-1234567890"

# Operation -> the initials of the roles that may call it.
MATRIX = {
    f"{CONTROL}:CreateAgentRuntime": "ad",
    f"{CONTROL}:UpdateAgentRuntime": "ad",
    f"{CONTROL}:DeleteAgentRuntime": "ad",
    f"{CONTROL}:GetAgentRuntime": "adou",
    f"{CONTROL}:ListAgentRuntimes": "adou",
    f"{CONTROL}:UpdateAgentRuntimeEndpoint": "ado",
    f"{CONTROL}:TagResource": "ad",
    f"{CONTROL}:CreateWorkloadIdentity": "ad",
    f"{CONTROL}:CreateOauth2CredentialProvider": "ad",
    f"{CONTROL}:GetOauth2CredentialProvider": "adou",
    f"{CONTROL}:SetTokenVaultCMK": "a",
    f"{CONTROL}:PutResourcePolicy": "a",
    f"{CONTROL}:GetResourcePolicy": "adou",
    f"{CONTROL}:DeleteResourcePolicy": "a",
    f"{CONTROL}:CreatePolicyEngine": "a",
    f"{CONTROL}:CreatePolicy": "a",
    f"{CONTROL}:UpdatePolicy": "a",
    f"{CONTROL}:DeletePolicy": "a",
    f"{CONTROL}:StartPolicyGeneration": "a",
    f"{CONTROL}:GetPolicy": "adou",
    "freehold:ChangePolicyMode": "a",
    f"{DATA}:InvokeAgentRuntime": "adoi",
    WEBSOCKET: "adoi",
    INVOKE_GATEWAY: "adoi",
    f"{DATA}:GetAgentCard": "adoi",
    f"{DATA}:StopRuntimeSession": "adoi",
    f"{DATA}:InvokeAgentRuntimeCommand": "ado",
    SHELL: "ado",
    f"{DATA}:GetResourceApiKey": "ad",
    f"{DATA}:GetResourceOauth2Token": "ad",
    f"{DATA}:GetWorkloadAccessTokenForUserId": "ad",
    f"{DATA}:CompleteResourceTokenAuth": "ad",
    f"{DATA}:GetEvent": "adou",
    f"{DATA}:CreateEvent": "ad",
    f"{DATA}:ProcessPayment": "a",
    "agent-registry:SearchDiscoverableRegistryRecords": "adou",
    "agent-registry-control:UpdateRegistryRecordStatus": "a",
    "s3:GetObject": "adou",
    "s3:PutObject": "ad",
    "s3:Unknown": "a",
    "freehold:ReadLogs": "adou",
    "freehold:ReportCosts": "adou",
    "freehold:CreateAccessKey": "a",
    "freehold:ListAccessKeys": "au",
    "freehold:ExportTelemetry": "adn",
    "freehold:GetTelemetryConfiguration": "adou",
    "freehold:PutTelemetryConfiguration": "a",
    "freehold:NobodyEverHeardOfIt": "a",
    "doorway:GetCredentials": "a",
    "models:ChatCompletions": "a",
}
INITIALS = {
    "a": "admin", "d": "developer", "o": "operator", "i": "invoker", "u": "auditor",
    "n": "ingester",
}  # fmt: skip


@pytest.fixture
def authorizer(database: PostgresDatabase) -> CedarAuthorizer:
    engine = CedarEngine()
    return CedarAuthorizer(engine, ResourcePolicyService(database, engine))


async def may(authorizer: CedarAuthorizer, caller: Caller, operation: str) -> bool:
    try:
        tenant = await authorizer.authorize(caller, operation, ARN)
    except AccessDenied as denied:
        assert operation.partition(":")[2] in denied.message
        return False
    assert tenant == TENANT
    return True


def test_the_roles_are_these() -> None:
    assert set(INITIALS.values()) == set(ROLES)


@pytest.mark.parametrize("kind", [CallerKind.ACCESS_KEY, CallerKind.PERSON])
@pytest.mark.parametrize("operation", MATRIX)
async def test_a_role_may_do_what_it_is_for_and_no_more(
    authorizer: CedarAuthorizer, operation: str, kind: CallerKind
) -> None:
    allowed = ""
    for initial, role in INITIALS.items():
        caller = msgspec.structs.replace(CALLER, kind=kind, roles=frozenset({role}))
        allowed += initial if await may(authorizer, caller, operation) else ""
    assert allowed == MATRIX[operation]


async def test_who_sends_telemetry_may_do_nothing_else(authorizer: CedarAuthorizer) -> None:
    ingester = msgspec.structs.replace(CALLER, roles=frozenset({"ingester"}))
    allowed = {id for id in GROUPS_OF if await may(authorizer, ingester, id)}
    assert allowed == {"freehold:ExportTelemetry"}


async def test_two_roles_may_do_what_either_may(authorizer: CedarAuthorizer) -> None:
    both = msgspec.structs.replace(CALLER, roles=frozenset({"auditor", "invoker"}))
    assert await may(authorizer, both, "freehold:ListAccessKeys")
    assert await may(authorizer, both, f"{DATA}:InvokeAgentRuntime")
    assert not await may(authorizer, both, f"{CONTROL}:CreateAgentRuntime")


@pytest.mark.parametrize("roles", [(), ("Admin",), ("root", 'admin" '), ("",)])
async def test_without_a_role_that_there_is_nothing_is_allowed(
    authorizer: CedarAuthorizer, roles: tuple[str, ...]
) -> None:
    for kind in (CallerKind.ACCESS_KEY, CallerKind.PERSON):
        caller = msgspec.structs.replace(CALLER, kind=kind, roles=frozenset(roles))
        for operation in MATRIX:
            assert not await may(authorizer, caller, operation)


async def test_a_gateway_calls_agents_and_gateways_of_its_own_and_nothing_else(
    authorizer: CedarAuthorizer,
) -> None:
    gateway = msgspec.structs.replace(CALLER, kind=CallerKind.GATEWAY, roles=frozenset(ROLES))
    allowed = {id for id in GROUPS_OF if await may(authorizer, gateway, id)}
    names = ("GetAgentCard", "InvokeAgentRuntime", "InvokeGateway")
    assert allowed == {f"{DATA}:{name}" for name in names}


@pytest.mark.parametrize("kind", [CallerKind.SESSION, CallerKind.OAUTH_USER])
async def test_roles_do_nothing_for_who_has_none(
    authorizer: CedarAuthorizer, kind: CallerKind
) -> None:
    caller = msgspec.structs.replace(CALLER, kind=kind, roles=frozenset(ROLES))
    for operation in (f"{CONTROL}:GetAgentRuntime", "freehold:CreateAccessKey", "s3:GetObject"):
        assert not await may(authorizer, caller, operation)


async def test_the_admin_of_the_machine_needs_no_role(authorizer: CedarAuthorizer) -> None:
    caller = msgspec.structs.replace(CALLER, kind=CallerKind.ADMIN)
    assert await may(authorizer, caller, "freehold:CreateAccessKey")


# -- the table behind it


def all_operations() -> set[str]:
    found = {*model.operations(), WEBSOCKET, SHELL, FOR_USER, INVOKE_GATEWAY}
    found |= {f"s3:{route.operation}" for route in ROUTES}
    found |= {f"models:{name}" for wire in WIRES for *_, name in wire.routes}
    found |= {f"logs:{name}" for name in LOGS_OPERATIONS}
    found |= {"doorway:GetCredentials", "doorway:ExportTelemetry"}
    nothing: Any = object()
    pages = console_routes(nothing, nothing, nothing, nothing, nothing, region="us-west-2")
    found |= {f"console:{page.operation}" for page in pages if page.operation is not None}
    return found | {f"freehold:{operation.name}" for operation in native_operations()}


def test_every_operation_has_a_group() -> None:
    """Say in services/access/actions.py what a new one is for; until then only admins have it."""
    assert sorted(all_operations() - GROUPS_OF.keys()) == []


def test_the_table_names_no_operation_that_is_not_there() -> None:
    # Our own operations come with their services, in no fixed order.
    gone = {id for id in GROUPS_OF.keys() - all_operations() if not id.startswith("freehold:")}
    assert sorted(gone) == []


def test_every_group_is_a_known_one_and_explained() -> None:
    assert {group for groups in GROUPS_OF.values() for group in groups} <= set(GROUPS)
    explained = re.findall(r"^- (\w+): ", actions_text(), re.MULTILINE)
    assert explained == list(GROUPS)


def actions_text() -> str:
    from freehold.services.access import actions

    assert actions.__doc__ is not None
    return actions.__doc__


def test_what_reads_by_its_name_changes_nothing_and_what_changes_does_not_read() -> None:
    for id, groups in GROUPS_OF.items():
        name = id.partition(":")[2]
        if re.match("Create|Update|Delete|Put|Batch(Create|Update|Delete)|Set|Reset|Add", name):
            assert not groups & {"read", "invoke", "oversee", "bearer"}, id
            # An agent remembers; it makes and deletes no memory.
            assert "inside" not in groups or name.endswith(("Event", "MemoryRecord", "Records")), id


def test_what_resource_policies_decide_on_names_one_resource_alone() -> None:
    operations = model.operations()
    for id in SHAREABLE:
        if id in operations:
            named = [m for m in operations[id].input.members if m.endswith(("Arn", "Id"))]
            assert set(named) <= {
                "agentRuntimeArn", "runtimeSessionId", "mcpSessionId", "accountId", "traceId",
                "runtimeUserId", "clientToken",
                # What a memory holds; which memory it is says memoryId alone: see resource_arn.
                "memoryId", "actorId", "sessionId", "eventId", "memoryRecordId", "memoryStrategyId",
            }, id  # fmt: skip


def test_resource_policies_decide_on_every_operation_on_what_a_memory_holds() -> None:
    held = {
        id for id, operation in model.operations().items()
        if id.startswith(f"{DATA}:") and "memoryId" in operation.input.members
    }  # fmt: skip
    assert held == {id for id in SHAREABLE if id in held} and len(held) >= 16
