"""Rules and rate limits with real boto3, and action groups in our own API."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from control_ground import ControlGround

from edge_ground import refused
from freehold.kernel.caller import Caller, CallerKind
from freehold.services.gateway.groups import allowed
from freehold.services.gateway.limits_api import RATE_LIMITS_MAX
from freehold.services.gateway.model import ActionGroup
from freehold.services.gateway.rules_api import RULES_MAX

TOKEN = "c" * 40
PROVIDER = {"inference": {"provider": {"endpoint": "https://models.example.com"}}}


@pytest.fixture(scope="module")
async def ground(
    fresh_dsn: Any, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ControlGround]:
    state: Path = tmp_path_factory.mktemp("gateways")
    async with ControlGround(await fresh_dsn(), state).open() as ground:
        yield ground


async def with_models(ground: ControlGround, tenant: str) -> str:
    id = await ground.gateway(tenant)
    for name in ("small", "large"):
        await ground.target(tenant, id, name, targetConfiguration=PROVIDER)
    await ground.target(tenant, id, "server")
    return id


def route(target: str, **members: Any) -> list[dict[str, Any]]:
    return [{"routeToTarget": {"staticRoute": {"targetName": target, **members}}}]


# -- rules


async def test_a_rule_is_made_changed_and_deleted(ground: ControlGround, tenant: str) -> None:
    id = await with_models(ground, tenant)
    client = ground.control(tenant)
    conditions = [{"matchPaths": {"anyOf": ["/models/*"]}}]
    made = await client.create_gateway_rule(
        gatewayIdentifier=id, priority=10, conditions=conditions, actions=route("small"),
        description="small first", clientToken=TOKEN,
    )  # fmt: skip
    assert (made["status"], made["priority"], len(made["ruleId"])) == ("ACTIVE", 10, 36)
    assert made["gatewayArn"].endswith(f":gateway/{id}")
    again = await client.create_gateway_rule(
        gatewayIdentifier=id, priority=10, conditions=conditions, actions=route("small"),
        description="small first", clientToken=TOKEN,
    )  # fmt: skip
    assert again["ruleId"] == made["ruleId"]
    here = {"gatewayIdentifier": id, "ruleId": made["ruleId"]}
    changed = await client.update_gateway_rule(**here, priority=20, conditions=[])
    assert (changed["priority"], changed["conditions"]) == (20, [])
    assert changed["actions"] == route("small")
    shown = await client.get_gateway_rule(**here)
    assert shown["description"] == "small first"
    listed = await client.list_gateway_rules(gatewayIdentifier=id)
    assert [rule["ruleId"] for rule in listed["gatewayRules"]] == [made["ruleId"]]
    row = await ground.store.load(id)
    assert row is not None and row.rules[0].document["priority"] == 20
    assert (await client.delete_gateway_rule(**here))["status"] == "DELETING"
    await refused(client.get_gateway_rule(**here), "ResourceNotFoundException")


async def test_priorities_are_unique_also_for_those_who_come_at_once(
    ground: ControlGround, tenant: str
) -> None:
    id = await with_models(ground, tenant)
    client = ground.control(tenant)

    async def create() -> str:
        try:
            await ground.control(tenant).create_gateway_rule(
                gatewayIdentifier=id, priority=5, actions=route("small")
            )
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return "made"

    outcomes = await asyncio.gather(*(create() for _ in range(4)))
    assert sorted(outcomes) == ["ConflictException"] * 3 + ["made"]
    other = await client.create_gateway_rule(
        gatewayIdentifier=id, priority=6, actions=route("small")
    )
    message = await refused(
        client.update_gateway_rule(gatewayIdentifier=id, ruleId=other["ruleId"], priority=5),
        "ConflictException",
    )
    assert "has the priority 5 already" in message


async def test_a_rule_routes_to_what_is_there(ground: ControlGround, tenant: str) -> None:
    id = await with_models(ground, tenant)
    create = ground.control(tenant).create_gateway_rule
    bundle = {
        "bundleArn": "arn:aws:bedrock-agentcore:us-east-1:123456789012:"
        "configuration-bundle/b-aaaaaaaaaa",
        "bundleVersion": "00000000-0000-4000-8000-000000000000",
    }
    halves = [
        {"name": "a", "weight": 50, "targetName": "small"},
        {"name": "b", "weight": 40, "targetName": "large"},
    ]
    condition = {"matchPaths": {"anyOf": ["/a/*"]}}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"actions": route("nowhere")}, "no target nowhere"),
        ({"actions": [{"configurationBundle": {"staticOverride": bundle}}]}, "bundles"),
        ({"actions": route("server", model="m")}, "no inference target"),
        (
            {"actions": [{"routeToTarget": {"weightedRoute": {"trafficSplit": halves}}}]},
            "must sum to 100",
        ),
        ({"actions": route("small"), "conditions": [condition, condition]}, "one of each kind"),
    ]
    for parameters, words in cases:
        assert words in await refused(create(gatewayIdentifier=id, priority=1, **parameters))


async def test_a_target_that_a_rule_names_stays(ground: ControlGround, tenant: str) -> None:
    id = await with_models(ground, tenant)
    client = ground.control(tenant)
    fallback = {"targetFallback": [{"targetName": "large"}]}
    rule = await client.create_gateway_rule(
        gatewayIdentifier=id, priority=1, actions=route("small", fallback=fallback)
    )
    items = (await client.list_gateway_targets(gatewayIdentifier=id))["items"]
    large = next(item["targetId"] for item in items if item["name"] == "large")
    here = {"gatewayIdentifier": id, "targetId": large}
    for attempt in (
        client.delete_gateway_target(**here),
        client.update_gateway_target(**here, name="other", targetConfiguration=PROVIDER),
    ):
        assert rule["ruleId"] in await refused(attempt, "ConflictException")
    await client.delete_gateway_rule(gatewayIdentifier=id, ruleId=rule["ruleId"])
    await client.delete_gateway_target(**here)


async def test_rules_and_limits_have_a_limit(ground: ControlGround, tenant: str) -> None:
    id = await with_models(ground, tenant)
    client = ground.control(tenant)
    for n in range(RULES_MAX):
        await client.create_gateway_rule(
            gatewayIdentifier=id, priority=n + 1, actions=route("small")
        )
    await refused(
        client.create_gateway_rule(gatewayIdentifier=id, priority=900, actions=route("small")),
        "ServiceQuotaExceededException",
    )
    for start in range(0, RATE_LIMITS_MAX, 50):
        batch = [limit(f"$.context.jwt.c{n}") for n in range(start, start + 50)]
        await client.batch_put_gateway_rate_limits(gatewayIdentifier=id, rateLimits=batch)
    more = limit("targetName")
    await refused(
        client.create_gateway_rate_limit(gatewayIdentifier=id, **more),
        "ServiceQuotaExceededException",
    )
    row = await ground.store.load(id)
    assert row is not None and (len(row.rules), len(row.rate_limits)) == (100, 100)


# -- rate limits


def limit(*keys: str, rate: float = 5, **members: Any) -> dict[str, Any]:
    entry = {
        "dimensions": dict.fromkeys(keys, "*"),
        "requests": [{"rate": rate, "period": "second"}],
    }
    return {"dimensionKeys": list(keys), "entries": [entry], **members}


async def test_a_rate_limit_is_made_changed_and_deleted(ground: ControlGround, tenant: str) -> None:
    id = await ground.gateway(tenant)
    client = ground.control(tenant)
    given = limit("targetName", "toolName", description="all tools", rateLimitId="all-tools")
    made = await client.create_gateway_rate_limit(gatewayIdentifier=id, **given, clientToken=TOKEN)
    assert {name: made[name] for name in given} == given
    assert (made["status"], made["gatewayIdentifier"]) == ("ACTIVE", id)
    again = await client.create_gateway_rate_limit(gatewayIdentifier=id, **given, clientToken=TOKEN)
    assert again["rateLimitId"] == "all-tools"
    here = {"gatewayIdentifier": id, "rateLimitId": "all-tools"}
    entries = limit("targetName", "toolName", rate=9)["entries"]
    changed = await client.update_gateway_rate_limit(**here, entries=entries)
    assert (changed["entries"], changed["description"]) == (entries, "all tools")
    assert changed["dimensionKeys"] == ["targetName", "toolName"]
    assert await refused(
        client.update_gateway_rate_limit(**here, entries=limit("toolName")["entries"])
    )
    listed = await client.list_gateway_rate_limits(gatewayIdentifier=id)
    assert [each["rateLimitId"] for each in listed["rateLimits"]] == ["all-tools"]
    assert (await client.delete_gateway_rate_limit(**here))["status"] == "DELETING"
    await refused(client.get_gateway_rate_limit(**here), "ResourceNotFoundException")


async def test_dimensions_are_unique_in_whatever_order(ground: ControlGround, tenant: str) -> None:
    id = await ground.gateway(tenant)
    create = ground.control(tenant).create_gateway_rate_limit
    made = await create(gatewayIdentifier=id, **limit("targetName", "toolName"))
    message = await refused(
        create(gatewayIdentifier=id, **limit("toolName", "targetName")), "ConflictException"
    )
    assert made["rateLimitId"] in message
    wild = limit("targetName", "toolName")
    wild["entries"][0]["dimensions"] = {"targetName": "*", "toolName": "x"}
    assert await refused(create(gatewayIdentifier=id, **wild))


async def test_a_batch_is_put_whole_or_not_at_all(ground: ControlGround, tenant: str) -> None:
    id = await ground.gateway(tenant)
    client = ground.control(tenant)
    put = client.batch_put_gateway_rate_limits
    first = await put(
        gatewayIdentifier=id,
        rateLimits=[limit("targetName", rateLimitId="of-target"), limit("toolName")],
    )
    assert [each["status"] for each in first["rateLimits"]] == ["ACTIVE", "ACTIVE"]
    second = await put(
        gatewayIdentifier=id,
        rateLimits=[limit("targetName", rate=7), limit("$.context.jwt.sub")],
    )
    assert second["rateLimits"][0]["rateLimitId"] == "of-target"
    before = (await client.list_gateway_rate_limits(gatewayIdentifier=id))["rateLimits"]
    assert len(before) == 3
    # The second one's id is another's: neither is changed.
    batch = [limit("toolName", rate=99), limit("qualifiedModelId", rateLimitId="of-target")]
    await refused(put(gatewayIdentifier=id, rateLimits=batch), "ConflictException")
    batch = [limit("targetName", rateLimitId="other-id")]
    await refused(put(gatewayIdentifier=id, rateLimits=batch), "ConflictException")
    assert await refused(
        put(gatewayIdentifier=id, rateLimits=[limit("toolName"), limit("toolName")])
    )
    after = (await client.list_gateway_rate_limits(gatewayIdentifier=id))["rateLimits"]
    assert after == before


# -- action groups


async def test_groups_are_put_shown_and_deleted(ground: ControlGround, tenant: str) -> None:
    id = await ground.gateway(tenant, tags={"freehold:tool-access": "deny"})
    groups = f"/gateways/{id}/action-groups"
    body = {"principals": ["user:alice", "claim:team=search"], "tools": ["server___*"]}
    status, answer = await ground.own(tenant, "PUT", f"{groups}/readers", body)
    assert (status, answer) == (200, {"name": "readers", **body})
    body["tools"] = ["server___search"]
    await ground.own(tenant, "PUT", f"{groups}/readers", body)
    status, answer = await ground.own(tenant, "GET", groups)
    assert answer == {"groups": [{"name": "readers", **body}], "default": "deny"}
    row = await ground.store.load(id)
    assert row is not None and row.groups[0].tools == ("server___search",)
    assert (await ground.own(tenant, "GET", f"{groups}/writers"))[0] == 404
    assert await ground.own(tenant, "DELETE", f"{groups}/readers") == (200, {"name": "readers"})
    assert (await ground.own(tenant, "GET", groups))[1]["groups"] == []
    for name, bad in (
        ("x", {"principals": [], "tools": []}),
        ("x", {"principals": ["alice"], "tools": []}),
        ("x", {"principals": ["*"], "tools": [""]}),
        ("x", {"principals": ["*"], "tools": ["a" + "*" * 11]}),
        ("-x", {"principals": ["*"], "tools": []}),
        ("x", {"principals": ["*"], "tools": [], "deny": True}),
    ):
        assert (await ground.own(tenant, "PUT", f"{groups}/{name}", bad))[0] == 400, bad


RUNTIME = "arn:aws:bedrock-agentcore:us-east-1:123456789012:runtime/planner-aaaaaaaaaa"


def caller(**members: Any) -> Caller:
    given = {"tenant": "123456789012", "principal": "p", "kind": CallerKind.OAUTH_USER}
    return Caller(**{**given, **members})


def group(*principals: str, tools: tuple[str, ...] = ("t___a",), name: str = "g") -> ActionGroup:
    return ActionGroup(name=name, principals=principals, tools=tools)


NAMED: list[tuple[str, Caller, bool]] = [
    ("*", caller(), True),
    (RUNTIME, caller(kind=CallerKind.SESSION, principal=f"{RUNTIME}/session/s1"), True),
    (RUNTIME, caller(kind=CallerKind.SESSION, principal=f"{RUNTIME}x/session/s1"), False),
    (f"{RUNTIME[:-10]}*", caller(kind=CallerKind.SESSION, principal=f"{RUNTIME}/session/1"), True),
    (RUNTIME, caller(principal=f"{RUNTIME}/session/s1"), False),
    ("arn:aws:iam::1:role/x", caller(principal="arn:aws:iam::1:role/x"), True),
    ("key:FHIA1", caller(access_key_id="FHIA1"), True),
    ("key:FHIA1", caller(access_key_id="FHIA12"), False),
    ("key:*", caller(), False),
    ("user:https://idp.example.com|*", caller(user="https://idp.example.com|alice"), True),
    ("user:alice", caller(user="https://evil.example.com|alice"), False),
    ("user:*", caller(), False),
    ("claim:team=search", caller(claims={"team": "search"}), True),
    ("claim:team=search", caller(claims={"team": ["ops", "search"]}), True),
    ("claim:team=search", caller(claims={"team": "research"}), False),
    ("claim:team=sea*", caller(claims={"team": "search"}), True),
    ("claim:scope=tools", caller(claims={"scope": "openid tools"}), True),
    ("claim:note=tools", caller(claims={"note": "openid tools"}), False),
    ("claim:admin=true", caller(claims={"admin": True}), True),
    ("claim:level=3", caller(claims={"level": 3}), True),
    ("claim:team=*", caller(claims={"team": {"a": 1}}), False),
    ("claim:team=*", caller(claims={}), False),
    ("claim:a=b=c", caller(claims={"a": "b=c"}), True),
]


@pytest.mark.parametrize(("principal", "who", "is_named"), NAMED)
def test_whom_a_group_names(principal: str, who: Caller, is_named: bool) -> None:
    groups = [group(principal)]
    assert allowed(groups, who, "t___a", default="deny") is is_named
    # Named by a group: its tools alone. Named by none: as the gateway says.
    assert allowed(groups, who, "t___b", default="allow") is not is_named


@pytest.mark.parametrize(
    ("pattern", "tool", "fits"),
    [
        ("*", "t___a", True),
        ("t___*", "t___a", True),
        ("t___*", "T___a", False),
        ("*___read*", "files___read_all", True),
        ("*___read", "files___read_all", False),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("a*b*c", "axxbyyc", True),
        ("a*b*c", "axxcyyb", False),
        ("a*bc*c", "abc", False),
        ("t___[ab]", "t___a", False),
        ("t___?", "t___a", False),
        ("t___a", "t___a", True),
    ],
)
def test_which_tools_a_pattern_means(pattern: str, tool: str, fits: bool) -> None:
    assert allowed([group("*", tools=(pattern,))], caller(), tool) is fits


def test_two_groups_give_what_either_gives() -> None:
    groups = [
        group("user:alice", tools=("a",), name="one"),
        group("*", tools=("b",), name="two"),
        group("user:bob", tools=("c",), name="three"),
    ]
    alice = caller(user="alice")
    assert [allowed(groups, alice, tool) for tool in "abc"] == [True, True, False]
    assert allowed([], alice, "a") and not allowed([], alice, "a", default="deny")
    assert not allowed([group("user:alice", tools=())], alice, "a", default="allow")
