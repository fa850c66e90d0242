"""Policies of single resources: what can be put, who is let in, who is kept out, and until when."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest

from freehold.adapters.cedar.engine import CedarEngine
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.postgres.resources import PostgresResources
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import AccessDenied, NotFound, Unavailable, ValidationFailed
from freehold.kernel.request import Request
from freehold.services.access import api
from freehold.services.access.authorizer import CedarAuthorizer
from freehold.services.access.policies import ResourcePolicyService
from freehold.services.runtime.model import RUNTIME

REGION = "us-west-2"
INVOKE = "bedrock-agentcore:InvokeAgentRuntime"
STOP = "bedrock-agentcore:StopRuntimeSession"
COMMAND = "bedrock-agentcore:InvokeAgentRuntimeCommand"
VERSION = "2012-10-17"


@pytest.fixture
def resources(database: PostgresDatabase) -> PostgresResources:
    return PostgresResources(database, region=REGION)


@pytest.fixture
def policies(database: PostgresDatabase) -> ResourcePolicyService:
    return ResourcePolicyService(database, CedarEngine())


@pytest.fixture
def authorizer(policies: ResourcePolicyService) -> CedarAuthorizer:
    return CedarAuthorizer(CedarEngine(), policies)


@pytest.fixture
async def other_worker(database_dsn: str) -> AsyncIterator[CedarAuthorizer]:
    """Another process in all but name: its own pool, its own ear, its own cache."""
    database = PostgresDatabase(database_dsn, pool_size_max=2)
    await database.start()
    engine = CedarEngine()
    yield CedarAuthorizer(engine, ResourcePolicyService(database, engine))
    await database.close()


@pytest.fixture
async def arn(resources: PostgresResources, tenant: str) -> str:
    """Of an agent runtime of the tenant's."""
    runtime, _ = await resources.create(
        tenant, RUNTIME, id="x-1234567890", name="x", status="READY", document={}
    )
    return runtime.arn


@pytest.fixture
def owner(tenant: str) -> Caller:
    return key_of(tenant)


@pytest.fixture
def guest(tenant: str) -> Caller:
    """An admin of another tenant."""
    return key_of(str(int(tenant) - 1))


def key_of(tenant: str, *roles: str) -> Caller:
    return Caller(
        tenant=tenant,
        principal=f"arn:aws:iam::{tenant}:access-key/FHIA{'A' * 16}",
        kind=CallerKind.ACCESS_KEY,
        roles=frozenset(roles or ("admin",)),
        source="10.1.2.3",
        encrypted=True,
    )


def statement(arn: str, effect: str = "Allow", **more: Any) -> dict[str, Any]:
    return {"Effect": effect, "Principal": "*", "Action": INVOKE, "Resource": arn, **more}


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": VERSION, "Statement": list(statements)})


async def may(
    authorizer: CedarAuthorizer, caller: Caller, arn: str, operation: str = INVOKE
) -> bool:
    try:
        tenant = await authorizer.authorize(caller, operation, arn)
    except (NotFound, AccessDenied) as refused:
        own = arn.split(":")[4] == caller.tenant
        assert isinstance(refused, AccessDenied) is own, "to strangers it does not exist"
        return False
    assert tenant == arn.split(":")[4], "one acts in the tenant of the resource"
    return True


async def soon(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(1):
        while not await condition():
            await asyncio.sleep(0.005)


# -- the operations


async def test_a_policy_is_put_got_and_deleted(
    policies: ResourcePolicyService, arn: str, owner: Caller
) -> None:
    operations = {id.partition(":")[2]: act for id, act in api.handlers(policies).items()}
    request = Request(caller=owner, request_id="r")
    asked = {"resourceArn": arn}
    with pytest.raises(NotFound):
        await operations["GetResourcePolicy"](request, asked)
    policy = document(statement(arn))
    put = await operations["PutResourcePolicy"](request, {**asked, "policy": policy})
    assert put == {"policy": policy} == await operations["GetResourcePolicy"](request, asked)
    second = document(statement(arn, "Deny"))
    await operations["PutResourcePolicy"](request, {**asked, "policy": second})
    assert await operations["GetResourcePolicy"](request, asked) == {"policy": second}
    await operations["DeleteResourcePolicy"](request, asked)
    for name in ("GetResourcePolicy", "DeleteResourcePolicy"):
        with pytest.raises(NotFound):
            await operations[name](request, asked)


async def test_a_policy_needs_its_resource(
    policies: ResourcePolicyService, tenant: str, arn: str
) -> None:
    absent = arn.replace("x-1234567890", "y-1234567890")
    elsewhere = arn.replace(REGION, "eu-west-1")
    for wrong in (absent, elsewhere):
        with pytest.raises(NotFound):
            await policies.put(tenant, wrong, document(statement(wrong)))
        with pytest.raises(NotFound):
            await policies.get(tenant, wrong)


async def test_another_tenants_policy_is_not_there(
    policies: ResourcePolicyService, tenant: str, arn: str, guest: Caller
) -> None:
    await policies.put(tenant, arn, document(statement(arn)))
    with pytest.raises(NotFound):
        await policies.get(guest.tenant, arn)
    with pytest.raises(NotFound):
        await policies.put(guest.tenant, arn, document(statement(arn, "Deny")))
    with pytest.raises(NotFound):
        await policies.delete(guest.tenant, arn)
    assert "Allow" in await policies.get(tenant, arn)


@pytest.mark.parametrize("resource", ["runtime/x/runtime-endpoint/DEFAULT", "evaluator/x", "x", ""])
async def test_only_some_resources_have_policies(
    policies: ResourcePolicyService, tenant: str, resource: str
) -> None:
    arn = f"arn:aws:bedrock-agentcore:{REGION}:{tenant}:{resource}"
    with pytest.raises(ValidationFailed, match="resourceArn"):
        await policies.put(tenant, arn, document(statement(arn)))


async def test_a_policy_goes_with_its_resource(
    policies: ResourcePolicyService,
    authorizer: CedarAuthorizer,
    other_worker: CedarAuthorizer,
    resources: PostgresResources,
    tenant: str,
    arn: str,
    guest: Caller,
) -> None:
    await policies.put(tenant, arn, document(statement(arn)))
    assert await may(authorizer, guest, arn)
    assert await may(other_worker, guest, arn)
    await resources.delete(tenant, RUNTIME, "x-1234567890")
    for worker in (authorizer, other_worker):

        async def gone(worker: CedarAuthorizer = worker) -> bool:
            return not await may(worker, guest, arn)

        await soon(gone)
    with pytest.raises(NotFound):
        await policies.get(tenant, arn)


async def test_every_worker_hears_of_a_change_at_once(
    policies: ResourcePolicyService,
    authorizer: CedarAuthorizer,
    other_worker: CedarAuthorizer,
    tenant: str,
    arn: str,
    guest: Caller,
) -> None:
    assert not await may(other_worker, guest, arn)
    await policies.put(tenant, arn, document(statement(arn)))
    assert await may(authorizer, guest, arn)
    await soon(lambda: may(other_worker, guest, arn))
    await policies.delete(tenant, arn)
    assert not await may(authorizer, guest, arn)

    async def out() -> bool:
        return not await may(other_worker, guest, arn)

    await soon(out)


# -- who is let in, and who is kept out


async def test_without_a_policy_nobody_else_is_let_in(
    authorizer: CedarAuthorizer, arn: str, owner: Caller, guest: Caller
) -> None:
    assert await may(authorizer, owner, arn)
    assert not await may(authorizer, guest, arn)


async def test_who_is_let_in_does_that_and_no_more(
    authorizer: CedarAuthorizer,
    policies: ResourcePolicyService,
    tenant: str,
    arn: str,
    guest: Caller,
) -> None:
    await policies.put(tenant, arn, document(statement(arn)))
    assert await may(authorizer, guest, arn)
    assert await may(authorizer, guest, f"{arn}/runtime-endpoint/DEFAULT")
    assert not await may(authorizer, guest, arn, STOP)
    assert not await may(authorizer, guest, arn.replace("x-", "y-"))
    for operation in (
        "bedrock-agentcore-control:GetAgentRuntime",
        "bedrock-agentcore-control:GetResourcePolicy",
        "bedrock-agentcore-control:TagResource",
    ):
        assert not await may(authorizer, guest, arn, operation)


async def test_who_is_let_in_still_needs_a_role_of_its_own(
    authorizer: CedarAuthorizer,
    policies: ResourcePolicyService,
    tenant: str,
    arn: str,
    guest: Caller,
) -> None:
    await policies.put(tenant, arn, document(statement(arn)))
    assert await may(authorizer, key_of(guest.tenant, "invoker"), arn)
    for role in ("auditor", "nobody"):
        with pytest.raises(AccessDenied):
            await authorizer.authorize(key_of(guest.tenant, role), INVOKE, arn)


async def test_a_policy_gives_nobody_of_the_own_tenant_more_than_its_role(
    authorizer: CedarAuthorizer, policies: ResourcePolicyService, tenant: str, arn: str
) -> None:
    await policies.put(tenant, arn, document(statement(arn)))
    assert not await may(authorizer, key_of(tenant, "auditor"), arn)


async def test_a_denial_wins_and_holds_for_the_own_tenant_as_well(
    authorizer: CedarAuthorizer,
    policies: ResourcePolicyService,
    tenant: str,
    arn: str,
    owner: Caller,
    guest: Caller,
) -> None:
    await policies.put(tenant, arn, document(statement(arn), statement(arn, "Deny")))
    assert not await may(authorizer, owner, arn)
    assert not await may(authorizer, guest, arn)
    assert await may(authorizer, owner, arn, STOP)
    # Or nobody could take the policy away again.
    delete = "bedrock-agentcore-control:DeleteResourcePolicy"
    assert await may(authorizer, owner, arn, delete)


@pytest.mark.parametrize(
    "spelling",
    [
        "arn:aws:bedrock-agentcore:{region}:{tenant}:runtime/x-1234567890",
        "arn:aws:bedrock-agentcore:elsewhere:{tenant}:runtime/x-1234567890",
        "arn:other:bedrock-agentcore::{tenant}:runtime/x-1234567890",
        "arn:aws:agent-registry:{region}:{tenant}:runtime/x-1234567890",
        "arn:aws:bedrock-agentcore:{region}:{tenant}:runtime/x-1234567890/runtime-endpoint/DEFAULT",
        "arn:aws:bedrock-agentcore:{region}:{tenant}:runtime/x-1234567890/",
    ],
)
async def test_no_spelling_of_a_resource_goes_round_its_policy(
    authorizer: CedarAuthorizer,
    policies: ResourcePolicyService,
    tenant: str,
    arn: str,
    owner: Caller,
    spelling: str,
) -> None:
    await policies.put(tenant, arn, document(statement(arn, "Deny")))
    assert not await may(authorizer, owner, spelling.format(region=REGION, tenant=tenant))


async def test_a_user_with_a_token_is_kept_out_by_a_denial(
    authorizer: CedarAuthorizer, policies: ResourcePolicyService, tenant: str, arn: str
) -> None:
    user = Caller(
        tenant=tenant, principal="https://id|ann", user="https://id|ann", resource=arn,
        kind=CallerKind.OAUTH_USER,
    )  # fmt: skip
    bob = msgspec.structs.replace(user, user="https://id|bob")
    condition = {"StringEquals": {"freehold:User": "https://id|ann"}}
    await policies.put(tenant, arn, document(statement(arn, "Deny", Condition=condition)))
    assert not await may(authorizer, user, arn)
    assert await may(authorizer, bob, arn)


async def test_users_with_tokens_are_kept_out_of_shells(
    authorizer: CedarAuthorizer,
    policies: ResourcePolicyService,
    tenant: str,
    arn: str,
    owner: Caller,
) -> None:
    """The statement that docs/access.md gives."""
    user = Caller(
        tenant=tenant, principal="https://id|ann", resource=arn, kind=CallerKind.OAUTH_USER
    )
    kept_out = statement(
        "*",
        "Deny",
        Action="bedrock-agentcore:InvokeAgentRuntimeCommand*",
        Condition={"StringEquals": {"freehold:PrincipalKind": "oauth_user"}},
    )
    shell = "bedrock-agentcore:InvokeAgentRuntimeCommandShell"
    assert await may(authorizer, user, arn, shell)
    await policies.put(tenant, arn, document(kept_out))
    for operation in (COMMAND, shell):
        assert not await may(authorizer, user, arn, operation)
        assert await may(authorizer, owner, arn, operation)
    assert await may(authorizer, user, arn)


PRINCIPALS = [
    ("*", True),
    ({"AWS": "*"}, True),
    ({"AWS": "{guest}"}, True),
    ({"AWS": ["{owner}", "{guest}"]}, True),
    ({"AWS": "arn:aws:iam::{guest}:root"}, True),
    ({"AWS": f"arn:aws:iam::{{guest}}:access-key/FHIA{'A' * 16}"}, True),
    ({"AWS": f"arn:aws:iam::{{guest}}:access-key/FHIA{'A' * 15}"}, False),
    ({"AWS": "arn:aws:iam::{guest}:role/admin"}, False),
    ({"AWS": "{owner}"}, False),
    ({"AWS": "arn:aws:bedrock-agentcore:us-west-2:{guest}:runtime/y-1234567890"}, False),
]


def filled(part: Any, **names: str) -> Any:
    return json.loads(
        json.dumps(part).replace("{owner}", names["owner"]).replace("{guest}", names["guest"])
    )


@pytest.mark.parametrize(("principal", "allowed"), PRINCIPALS)
async def test_principals(
    authorizer: CedarAuthorizer,
    policies: ResourcePolicyService,
    tenant: str,
    arn: str,
    guest: Caller,
    principal: Any,
    allowed: bool,
) -> None:
    named = filled(principal, owner=tenant, guest=guest.tenant)
    await policies.put(tenant, arn, document(statement(arn, Principal=named)))
    assert await may(authorizer, guest, arn) is allowed


async def test_an_agent_of_another_tenant_is_let_in_by_its_own_name(
    authorizer: CedarAuthorizer,
    policies: ResourcePolicyService,
    tenant: str,
    arn: str,
    guest: Caller,
) -> None:
    agent = f"arn:aws:bedrock-agentcore:{REGION}:{guest.tenant}:runtime/y-1234567890"
    await policies.put(tenant, arn, document(statement(arn, Principal={"AWS": agent})))
    inside = Caller(tenant=guest.tenant, principal=f"{agent}/session/s", kind=CallerKind.SESSION)
    assert await may(authorizer, inside, arn)
    other = msgspec.structs.replace(inside, principal=f"{agent}x/session/s")
    assert not await may(authorizer, other, arn)


ACTIONS = [
    (INVOKE, INVOKE, True),
    ("BEDROCK-AGENTCORE:invokeagentruntime", INVOKE, True),
    ("bedrock-agentcore:*", STOP, True),
    ("*", COMMAND, True),
    ("bedrock-agentcore:Invoke*", COMMAND, True),
    ("bedrock-agentcore:Invoke*", STOP, False),
    ("bedrock-agentcore:InvokeAgentRuntim?", INVOKE, True),
    ([INVOKE, STOP], STOP, True),
]


@pytest.mark.parametrize(("action", "operation", "allowed"), ACTIONS)
async def test_actions(
    authorizer: CedarAuthorizer,
    policies: ResourcePolicyService,
    tenant: str,
    arn: str,
    guest: Caller,
    action: Any,
    operation: str,
    allowed: bool,
) -> None:
    await policies.put(tenant, arn, document(statement(arn, Action=action)))
    assert await may(authorizer, guest, arn, operation) is allowed


# The caller: an access key of the tenant {guest}, from 10.1.2.3, over TLS, without a user.
CONDITIONS = [
    ({"StringEquals": {"aws:PrincipalAccount": "{guest}"}}, True),
    ({"StringEquals": {"AWS:principalaccount": ["1", "{guest}"]}}, True),
    ({"StringEquals": {"aws:PrincipalAccount": "{guest}*"}}, False),
    ({"StringNotEquals": {"aws:PrincipalAccount": "{guest}"}}, False),
    ({"StringNotEquals": {"aws:PrincipalAccount": ["{owner}", "1"]}}, True),
    ({"StringLike": {"aws:PrincipalArn": "arn:aws:iam::*:access-key/*"}}, True),
    ({"StringLike": {"aws:PrincipalArn": "*:user/*"}}, False),
    ({"StringNotLike": {"aws:PrincipalArn": "*:user/*"}}, True),
    ({"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::{guest}:access-key/FHIA*"}}, True),
    ({"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:*"}}, True),
    ({"ArnLike": {"aws:PrincipalArn": "arn:*:*:*:*:user/*"}}, False),
    # A star does not reach across a colon.
    ({"ArnLike": {"aws:PrincipalArn": "arn:aws:*:{guest}:*:*"}}, False),
    ({"ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::{owner}:*"}}, True),
    ({"ArnEquals": {"aws:PrincipalArn": "arn:aws:iam::{guest}:access-key/*"}}, True),
    ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, True),
    ({"IpAddress": {"aws:SourceIp": ["192.168.0.0/16", "10.1.2.3"]}}, True),
    ({"IpAddress": {"aws:SourceIp": "10.1.2.4"}}, False),
    ({"IpAddress": {"aws:SourceIp": "fd00::/8"}}, False),
    ({"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, False),
    ({"NotIpAddress": {"aws:SourceIp": "fd00::/8"}}, True),
    ({"Bool": {"aws:SecureTransport": "true"}}, True),
    ({"Bool": {"aws:SecureTransport": True}}, True),
    ({"Bool": {"aws:SecureTransport": "false"}}, False),
    ({"StringEquals": {"freehold:PrincipalKind": "access_key"}}, True),
    ({"StringEquals": {"freehold:PrincipalKind": ["person", "session"]}}, False),
    # What the call does not have meets the negated operators alone, as in IAM.
    ({"StringLike": {"freehold:User": "*"}}, False),
    ({"StringNotEquals": {"freehold:User": "ann"}}, True),
    # All keys of all operators have to be met.
    ({"Bool": {"aws:SecureTransport": "true"}, "IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, True),
    ({"Bool": {"aws:SecureTransport": "true"}, "IpAddress": {"aws:SourceIp": "11.0.0.0/8"}}, False),
    ({}, True),
]  # fmt: skip


@pytest.mark.parametrize(("condition", "met"), CONDITIONS)
@pytest.mark.parametrize("effect", ["Allow", "Deny"])
async def test_conditions(
    authorizer: CedarAuthorizer,
    policies: ResourcePolicyService,
    tenant: str,
    arn: str,
    guest: Caller,
    condition: Any,
    met: bool,
    effect: str,
) -> None:
    asked = filled(condition, owner=tenant, guest=guest.tenant)
    conditional = statement(arn, effect, Condition=asked)
    always = statement(arn, Action="bedrock-agentcore:*")
    statements = [conditional] if effect == "Allow" else [conditional, always]
    await policies.put(tenant, arn, document(*statements))
    assert await may(authorizer, guest, arn) is (met if effect == "Allow" else not met)


@pytest.mark.parametrize(
    ("source", "inside"), [("::ffff:10.1.2.3", True), (None, False), ("testclient", False)]
)
async def test_where_a_call_came_from(
    authorizer: CedarAuthorizer,
    policies: ResourcePolicyService,
    tenant: str,
    arn: str,
    guest: Caller,
    source: str | None,
    inside: bool,
) -> None:
    condition = {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}
    await policies.put(tenant, arn, document(statement(arn, Condition=condition)))
    caller = msgspec.structs.replace(guest, source=source)
    assert await may(authorizer, caller, arn) is inside


# -- what is refused


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"Effect": "allow"}, "Invalid enum value"),
    ({"NotPrincipal": "*"}, "NotPrincipal"),
    ({"NotAction": INVOKE}, "NotAction"),
    ({"NotResource": "*"}, "NotResource"),
    ({"Principal": "ann"}, "Principal must be"),
    ({"Principal": {"Service": "lambda.amazonaws.com"}}, "Principal must be"),
    ({"Principal": {"AWS": "*", "Federated": "*"}}, "Principal must be"),
    ({"Principal": {"AWS": []}}, "Principal is empty"),
    ({"Principal": {"AWS": "12345"}}, "12345"),
    ({"Principal": {"AWS": "arn:aws:iam::123456789012:role/*"}}, "ArnLike"),
    ({"Principal": {"AWS": "arn:aws:s3:::bucket"}}, "neither an account"),
    ({"Principal": {"AWS": "arn:aws:sts::123456789012:assumed-role/x"}}, "no caller"),
    ({"Action": []}, "Action is empty"),
    ({"Action": "s3:GetObject"}, "s3:GetObject"),
    ({"Action": [INVOKE, "bedrock-agentcore:GetAgentRuntime"]}, "GetAgentRuntime"),
    ({"Action": "bedrock-agentcore:Invoke[AB]*"}, "decides on"),
    ({"Resource": []}, "Resource is empty"),
    ({"Resource": "arn:aws:bedrock-agentcore:us-west-2:1:runtime/y"}, "own resource"),
    ({"Resource": "arn:aws:bedrock-agentcore:*:runtime/?-1234567890"}, "only \\*"),
    ({"Condition": {"DateLessThan": {"aws:CurrentTime": "2030-01-01"}}}, "DateLessThan"),
    ({"Condition": {"StringEqualsIfExists": {"aws:PrincipalArn": "x"}}}, "StringEqualsIfExists"),
    ({"Condition": {"ForAnyValue:StringLike": {"aws:PrincipalArn": "x"}}}, "ForAnyValue"),
    ({"Condition": {"Null": {"aws:PrincipalArn": "true"}}}, "Null"),
    ({"Condition": {"StringEquals": {"aws:SourceVpc": "vpc-1"}}}, "aws:SourceVpc"),
    ({"Condition": {"StringEquals": {"aws:SourceIp": "10.0.0.1"}}}, "does not compare"),
    ({"Condition": {"IpAddress": {"aws:SourceIp": "ten"}}}, "ten"),
    ({"Condition": {"IpAddress": {"aws:SourceIp": '10.0.0.0/8") || true'}}}, "neither an IP"),
    ({"Condition": {"Bool": {"aws:SecureTransport": "yes"}}}, "neither true nor false"),
    ({"Condition": {"StringEquals": {"aws:PrincipalArn": []}}}, "at least one"),
    ({"Condition": {"StringEquals": {"aws:PrincipalArn": 1}}}, "strings"),
    ({"Condition": {"StringEquals": {"aws:PrincipalArn": "${aws:username}"}}}, "variables"),
    ({"Condition": {"StringLike": {"aws:PrincipalArn": "arn:aws:iam::?"}}}, "only \\*"),
    ({"Condition": {"ArnLike": {"aws:PrincipalArn": "arn:aws:iam"}}}, "six parts"),
    ({"Condition": {"StringEquals": {"aws:PrincipalArn": "a\u0000b"}}}, "printed"),
    ({"Sid": 7}, "Sid"),
    ({"Color": "red"}, "Color"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "says"), REFUSED)
async def test_what_cannot_be_decided_is_refused_in_words(
    policies: ResourcePolicyService, tenant: str, arn: str, change: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValidationFailed, match=says):
        await policies.put(tenant, arn, document(statement(arn, **change)))
    with pytest.raises(NotFound):
        await policies.get(tenant, arn)


@pytest.mark.parametrize(
    "policy",
    [
        "",
        "permit (principal, action, resource);",
        "[]",
        "{}",
        '{"Version": "2008-10-17", "Statement": []}',
        '{"Version": "2012-10-17", "Statement": []}',
        "[" * 10_000,
        '{"Version": "2012-10-17", "Version": "2012-10-17", "Statement": []}',
    ],
)
async def test_what_is_no_policy_is_refused(
    policies: ResourcePolicyService, tenant: str, arn: str, policy: str
) -> None:
    with pytest.raises(ValidationFailed, match="policy"):
        await policies.put(tenant, arn, policy)


async def test_a_member_that_stands_twice_is_refused(
    policies: ResourcePolicyService, tenant: str, arn: str
) -> None:
    """Two readers would read two policies."""
    twice = document(statement(arn, "Deny")).replace(
        '"Effect": "Deny"', '"Effect": "Deny", "Effect": "Allow"'
    )
    with pytest.raises(ValidationFailed, match="twice"):
        await policies.put(tenant, arn, twice)


async def test_statements_are_bounded_and_named_once(
    policies: ResourcePolicyService, tenant: str, arn: str
) -> None:
    with pytest.raises(ValidationFailed, match="1 to 50"):
        await policies.put(tenant, arn, document(*[statement(arn)] * 51))
    with pytest.raises(ValidationFailed, match="same Sid"):
        await policies.put(tenant, arn, document(*[statement(arn, Sid="one")] * 2))
    await policies.put(tenant, arn, document(*[statement(arn)] * 50))


@pytest.mark.parametrize("odd", ['"', "\\", '\\"', '") || true; //', "*", "é漢"])
async def test_nothing_in_a_value_becomes_a_part_of_the_policy(
    authorizer: CedarAuthorizer,
    policies: ResourcePolicyService,
    tenant: str,
    arn: str,
    guest: Caller,
    odd: str,
) -> None:
    condition = {"StringEquals": {"freehold:User": odd}}
    await policies.put(tenant, arn, document(statement(arn, Condition=condition)))
    assert not await may(authorizer, msgspec.structs.replace(guest, user="x"), arn)
    assert await may(authorizer, msgspec.structs.replace(guest, user=odd), arn)


# -- when something fails


async def test_a_stored_policy_that_is_not_understood_any_more_keeps_everybody_out(
    database: PostgresDatabase,
    authorizer: CedarAuthorizer,
    policies: ResourcePolicyService,
    tenant: str,
    arn: str,
    owner: Caller,
    guest: Caller,
) -> None:
    await policies.put(tenant, arn, document(statement(arn)))
    async with database.connection() as connection:
        await connection.execute(
            'UPDATE resource_policies SET policy = \'{"Version": "2049"}\' WHERE arn = %s', (arn,)
        )

    async def out() -> bool:
        return not await may(authorizer, guest, arn) and not await may(authorizer, owner, arn)

    await soon(out)


async def test_without_the_store_nobody_is_let_in(postgres_dsn: str, guest: Caller) -> None:
    engine = CedarEngine()
    away = PostgresDatabase(postgres_dsn, pool_size_max=1, wait_seconds_max=0.2)  # not started
    authorizer = CedarAuthorizer(engine, ResourcePolicyService(away, engine))
    arn = f"arn:aws:bedrock-agentcore:{REGION}:{guest.tenant}:runtime/x-1234567890"
    with pytest.raises(Unavailable):
        await authorizer.authorize(guest, INVOKE, arn)
