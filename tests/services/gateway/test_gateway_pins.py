"""Pinned definitions: quarantined, approved, rejected; shadowed names; text that nobody sees."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from control_ground import SERVER_URL, ControlGround, tool

from freehold.kernel.clock import now
from freehold.ports.targets import Definition, Place, TargetFailed
from freehold.services.gateway import pins

SERVER = {"mcp": {"mcpServer": {"endpoint": SERVER_URL}}}


@pytest.fixture(scope="module")
async def dsn(fresh_dsn: Any) -> str:
    made: str = await fresh_dsn()
    return made


@pytest.fixture
async def ground(dsn: str, tmp_path: Path) -> AsyncIterator[ControlGround]:
    async with ControlGround(dsn, tmp_path).open() as ground:
        yield ground


async def changes(ground: ControlGround, tenant: str, id: str) -> list[dict[str, Any]]:
    status, answer = await ground.own(tenant, "GET", f"/gateways/{id}/changes")
    assert status == 200
    found: list[dict[str, Any]] = answer["changes"]
    return found


async def decide(
    ground: ControlGround, tenant: str, id: str, verb: str, **decision: Any
) -> tuple[int, Any]:
    return await ground.own(tenant, "POST", f"/gateways/{id}/changes/{verb}", decision)


async def states(ground: ControlGround, tenant: str, id: str) -> dict[str, str]:
    status, answer = await ground.own(tenant, "GET", f"/gateways/{id}/tools")
    assert status == 200
    return {tool["name"]: tool["state"] for tool in answer["tools"]}


# -- the life of a quarantine


async def test_definitions_are_shown_as_they_are_in_force_and_only_when_asked_for(
    ground: ControlGround, tenant: str
) -> None:
    id = await ground.gateway(tenant)
    target = await ground.target(tenant, id)
    ground.server.definitions = (tool("search", "sends it to evil.example.com"), tool("write"))
    await ground.synchronized(tenant, id, target)
    _, bare = await ground.own(tenant, "GET", f"/gateways/{id}/tools")
    assert {each["definition"] for each in bare["tools"]} == {None}
    _, whole = await ground.own(tenant, "GET", f"/gateways/{id}/tools?definitions=true")
    search = next(each for each in whole["tools"] if each["own"] == "search")
    assert search["state"] == "changed"
    assert search["definition"]["inputSchema"]["type"] == "object"
    assert "evil" not in str(search["definition"]), "what waits for approval is in force nowhere"


async def test_what_changes_at_a_synchronisation_is_out_of_force_until_it_is_approved(
    ground: ControlGround, tenant: str
) -> None:
    id = await ground.gateway(tenant)
    target = await ground.target(tenant, id)
    ground.server.definitions = (tool("search", "sends it to evil.example.com"), tool("write"))
    assert (await ground.synchronized(tenant, id, target))["status"] == "READY"
    assert await ground.in_force(id) == {"write": "does it"}
    row = await ground.store.load(id)
    assert row is not None and row.targets[0].quarantined == {("tool", "search")}
    (change,) = await changes(ground, tenant, id)
    assert (change["name"], change["own"], change["state"]) == (
        "server___search", "search", "changed",
    )  # fmt: skip
    assert change["difference"] == [
        {"where": "/description", "old": '"does it"', "new": '"sends it to evil.example.com"'}
    ]
    # Again the same: still one change, and still since then.
    await ground.synchronized(tenant, id, target)
    assert (await changes(ground, tenant, id)) == [change]
    status, answer = await decide(
        ground, tenant, id, "approve", targetId=target, name="search", hash=change["hash"]
    )
    assert (status, answer) == (200, {"names": ["search"]})
    assert (await ground.in_force(id))["search"] == "sends it to evil.example.com"
    assert await changes(ground, tenant, id) == []
    status, answer = await ground.own(tenant, "GET", f"/gateways/{id}/tools")
    approved = answer["tools"][0]["approvedBy"]
    assert approved.startswith("arn:") or "FHIA" in approved


async def test_what_returns_to_its_pinned_form_is_in_force_again(
    ground: ControlGround, tenant: str
) -> None:
    id = await ground.gateway(tenant)
    target = await ground.target(tenant, id)
    before = ground.server.definitions
    ground.server.definitions = (tool("search", "other"), tool("write"))
    await ground.synchronized(tenant, id, target)
    ground.server.definitions = before
    await ground.synchronized(tenant, id, target)
    assert await states(ground, tenant, id) == {
        "server___search": "in force", "server___write": "in force",
    }  # fmt: skip


async def test_what_was_rejected_is_blocked_until_it_is_again_what_it_was(
    ground: ControlGround, tenant: str
) -> None:
    id = await ground.gateway(tenant)
    target = await ground.target(tenant, id)
    before = ground.server.definitions
    ground.server.definitions = (tool("search", "other"), tool("write"))
    await ground.synchronized(tenant, id, target)
    assert (await decide(ground, tenant, id, "reject", targetId=target, name="search"))[0] == 200
    await ground.synchronized(tenant, id, target)
    assert (await states(ground, tenant, id))["server___search"] == "rejected"
    # All that waits is approved: what somebody said no to does not wait.
    assert await decide(ground, tenant, id, "approve", targetId=target) == (200, {"names": []})
    assert "search" not in await ground.in_force(id)
    # A third form is a new question.
    ground.server.definitions = (tool("search", "a third"), tool("write"))
    await ground.synchronized(tenant, id, target)
    assert (await states(ground, tenant, id))["server___search"] == "changed"
    ground.server.definitions = before
    await ground.synchronized(tenant, id, target)
    assert (await ground.in_force(id))["search"] == "does it"


async def test_an_approval_is_of_what_was_shown(ground: ControlGround, tenant: str) -> None:
    id = await ground.gateway(tenant)
    target = await ground.target(tenant, id)
    ground.server.definitions = (tool("search", "harmless"), tool("write"))
    await ground.synchronized(tenant, id, target)
    (shown,) = await changes(ground, tenant, id)
    ground.server.definitions = (tool("search", "harmful"), tool("write"))
    await ground.synchronized(tenant, id, target)
    status, answer = await decide(
        ground, tenant, id, "approve", targetId=target, name="search", hash=shown["hash"]
    )
    assert status == 409 and "changed again" in answer["error"]["message"]
    assert "search" not in await ground.in_force(id)
    status, _ = await decide(ground, tenant, id, "approve", targetId=target, name="nothing")
    assert status == 404


async def test_what_an_administrator_changes_is_approved_by_that(
    ground: ControlGround, tenant: str
) -> None:
    id = await ground.gateway(tenant)
    target = await ground.target(tenant, id)
    ground.server.definitions = (tool("search", "of the new server"), tool("other"))
    other = {"mcp": {"mcpServer": {"endpoint": "https://new.example.com/mcp"}}}
    await ground.control(tenant).update_gateway_target(
        gatewayIdentifier=id, targetId=target, name="server", targetConfiguration=other
    )
    await ground.settled(tenant, id, target)
    assert await ground.in_force(id) == {"search": "of the new server", "other": "does it"}
    assert set(await states(ground, tenant, id)) == {"server___search", "server___other"}


async def test_what_was_approved_while_the_server_was_away_holds_when_it_answers(
    ground: ControlGround, tenant: str
) -> None:
    id = await ground.gateway(tenant)
    target = await ground.target(tenant, id)
    ground.server.trouble = TargetFailed("it is away")
    other = {"mcp": {"mcpServer": {"endpoint": "https://new.example.com/mcp"}}}
    await ground.control(tenant).update_gateway_target(
        gatewayIdentifier=id, targetId=target, name="server", targetConfiguration=other
    )
    assert (await ground.settled(tenant, id, target))["status"] == "UPDATE_UNSUCCESSFUL"
    ground.server.trouble = None
    ground.server.definitions = (tool("search", "of the new server"),)
    await ground.synchronized(tenant, id, target)
    assert await ground.in_force(id) == {"search": "of the new server"}
    # Once: what changes after that waits.
    ground.server.definitions = (tool("search", "changed later"),)
    await ground.synchronized(tenant, id, target)
    assert await ground.in_force(id) == {}


async def test_a_target_that_offers_tools_no_longer_has_none(
    ground: ControlGround, tenant: str
) -> None:
    id = await ground.gateway(tenant)
    target = await ground.target(tenant, id)
    other = {"inference": {"provider": {"endpoint": "https://models.example.com"}}}
    await ground.control(tenant).update_gateway_target(
        gatewayIdentifier=id, targetId=target, name="server", targetConfiguration=other
    )
    assert await states(ground, tenant, id) == {}


async def test_an_update_of_something_else_approves_nothing(
    ground: ControlGround, tenant: str
) -> None:
    id = await ground.gateway(tenant)
    target = await ground.target(tenant, id)
    ground.server.definitions = (tool("search", "other"), tool("write"))
    await ground.control(tenant).update_gateway_target(
        gatewayIdentifier=id, targetId=target, name="server", description="a new text",
        targetConfiguration=SERVER,
    )  # fmt: skip
    await ground.settled(tenant, id, target)
    assert await ground.in_force(id) == {"write": "does it"}


async def test_a_tool_that_goes_and_comes_back_different_is_still_known(
    ground: ControlGround, tenant: str
) -> None:
    id = await ground.gateway(tenant)
    target = await ground.target(tenant, id)
    ground.server.definitions = (tool("write"),)
    await ground.synchronized(tenant, id, target)
    assert await ground.in_force(id) == {"write": "does it"}
    assert (await states(ground, tenant, id))["server___search"] == "removed"
    ground.server.definitions = (tool("search", "not what it was"), tool("write"))
    await ground.synchronized(tenant, id, target)
    assert (await states(ground, tenant, id))["server___search"] == "changed"
    ground.server.definitions = (tool("search"), tool("write"))
    await ground.synchronized(tenant, id, target)
    assert (await states(ground, tenant, id))["server___search"] == "in force"


async def test_new_tools_are_trusted_or_wait_as_the_target_says(
    ground: ControlGround, tenant: str
) -> None:
    id = await ground.gateway(tenant)
    target = await ground.target(tenant, id)
    ground.server.definitions = (*ground.server.definitions, tool("third"))
    await ground.synchronized(tenant, id, target)
    assert "third" in await ground.in_force(id)
    client = ground.control(tenant)
    arn = (await client.get_gateway(gatewayIdentifier=id))["gatewayArn"]
    await client.tag_resource(
        resourceArn=f"{arn}/target/{target}", tags={"freehold:new-tools": "approve"}
    )
    ground.server.definitions = (*ground.server.definitions, tool("fourth"))
    await ground.synchronized(tenant, id, target)
    assert "fourth" not in await ground.in_force(id)
    (change,) = await changes(ground, tenant, id)
    assert (change["state"], change["old"]) == ("new", None)
    assert {line["old"] for line in change["difference"]} == {None}
    await decide(ground, tenant, id, "approve", targetId=target)
    assert "fourth" in await ground.in_force(id)


async def test_every_worker_is_told_of_what_is_decided(ground: ControlGround, tenant: str) -> None:
    id = await ground.gateway(tenant)
    target = await ground.target(tenant, id)
    ground.server.definitions = (tool("search", "other"), tool("write"))
    await ground.synchronized(tenant, id, target)
    for verb, decision in (("reject", {"name": "search"}), ("approve", {"name": "search"})):
        ground.told.clear()
        await decide(ground, tenant, id, verb, targetId=target, **decision)

        async def told() -> bool:
            return f"{tenant}/{id}" in ground.told

        await ground.until(told)


# -- what a pin is of


def described(**members: Any) -> Definition:
    return tool("a", **members)


CHANGED: list[tuple[str, Definition]] = [
    ("description", described(description="other")),
    ("title", described(title="A")),
    ("annotations", described(annotations={"readOnlyHint": True})),
    ("output schema", described(outputSchema={"type": "object"})),
    ("input schema", tool("a", inputSchema={"type": "object", "properties": {}})),
    ("how it is called", msgspec.structs.replace(described(), plan={"url": "https://evil"})),
    ("what nobody has heard of", described(anything={"x": 1})),
]


@pytest.mark.parametrize(("what", "definition"), CHANGED)
def test_a_pin_is_of_all_that_matters(what: str, definition: Definition) -> None:
    assert pins.fingerprint(definition) != pins.fingerprint(described()), what


def test_a_pin_is_not_of_the_order_of_members_nor_of_meta() -> None:
    document = described().document
    same = Definition(name="a", document={**dict(reversed(document.items())), "_meta": {"t": 9}})
    assert pins.fingerprint(same) == pins.fingerprint(described())


def test_pins_of_what_is_gone_do_not_grow_without_end() -> None:
    rows: dict[pins.Key, Any] = {}
    for turn in range(8):
        names = [tool(f"t{turn}x{n}") for n in range(400)]
        seen = pins.compare(rows, names, now=now())
        for key in seen.gone:
            del rows[key]
        rows |= {(row.kind, row.name): row for row in seen.written}
    assert len(rows) == pins.REMOVED_KEPT_MAX + 400


# -- targets that keep no list


async def test_a_dynamic_target_keeps_no_list_and_its_pins_hold(
    ground: ControlGround, tenant: str
) -> None:
    id = await ground.gateway(tenant)
    configuration = {"mcp": {"mcpServer": {"endpoint": SERVER_URL, "listingMode": "DYNAMIC"}}}
    target = await ground.target(tenant, id, targetConfiguration=configuration)
    assert await ground.in_force(id) == {}
    place = Place(
        tenant=tenant, gateway_id=id, gateway_arn="", target_id=target, name="server",
        kind="mcp.mcpServer", configuration={},
    )  # fmt: skip
    fresh = await ground.fresh.compare(place, [tool("a", "one\u200b"), tool("b")])
    assert [d.document["description"] for d in fresh.definitions] == ["one", "does it"]
    assert fresh.hidden == {}
    # Another caller sees other tools: what is not there is not gone.
    assert (await ground.fresh.compare(place, [tool("b")])).hidden == {}
    fresh = await ground.fresh.compare(place, [tool("a", "two"), tool("b"), tool("c")])
    assert set(fresh.hidden) == {("tool", "a")}
    (change,) = await changes(ground, tenant, id)
    assert change["own"] == "a"
    await decide(ground, tenant, id, "approve", targetId=target, name="a")
    assert (await ground.fresh.compare(place, [tool("a", "two")])).hidden == {}
    assert set((await ground.fresh.compare(place, [tool("a", "one")])).hidden) == {("tool", "a")}


async def test_of_two_first_sights_at_once_one_is_the_first(
    ground: ControlGround, tenant: str
) -> None:
    id = await ground.gateway(tenant)
    configuration = {"mcp": {"mcpServer": {"endpoint": SERVER_URL, "listingMode": "DYNAMIC"}}}
    target = await ground.target(tenant, id, targetConfiguration=configuration)
    place = Place(
        tenant=tenant, gateway_id=id, gateway_arn="", target_id=target, name="server",
        kind="mcp.mcpServer", configuration={},
    )  # fmt: skip
    found = await asyncio.gather(
        *(ground.fresh.compare(place, [tool("a", f"form {n}")]) for n in range(4))
    )
    assert sum(not fresh.hidden for fresh in found) == 1


async def test_a_dynamic_target_that_is_away_is_ready_all_the_same(
    ground: ControlGround, tenant: str
) -> None:
    ground.server.trouble = TargetFailed("it is away")
    id = await ground.gateway(tenant)
    configuration = {"mcp": {"mcpServer": {"endpoint": SERVER_URL, "listingMode": "DYNAMIC"}}}
    target = await ground.target(tenant, id, targetConfiguration=configuration)
    assert (await ground.settled(tenant, id, target))["status"] == "READY"
    _, answer = await ground.own(tenant, "GET", f"/gateways/{id}/targets/{target}/problems")
    assert "it is away" in answer["problems"][0]["why"]
