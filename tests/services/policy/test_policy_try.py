"""Recorded calls under changed policies, and what our own API shows of them."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from decision_ground import sealer
from policy_ground import BALANCE, TRANSFER, permit, transfers
from trying_ground import ENGINE_ID, TryGround

from freehold.adapters.cedar.engine import CedarEngine
from freehold.adapters.cedar.statements import CedarStatements
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.kernel.errors import ValidationFailed
from freehold.ports.enforcement import GovernedTool
from freehold.services.policy import trying
from freehold.services.policy.decision_store import DecisionLog
from freehold.services.policy.trying import TryGiven, Trying

CANARY = "canary-77c1e0"


@pytest.fixture
async def ground(
    database_dsn: str, database: PostgresDatabase, tmp_path: Path, tenant: str
) -> AsyncIterator[TryGround]:
    async with TryGround(database_dsn, database, tmp_path, tenant).open() as made:
        yield made


def at_most(ground: TryGround, amount: int) -> str:
    return transfers(ground.arn, amount)


# -- trying


async def test_calls_that_would_have_gone_the_other_way_are_listed_and_the_rest_counted(
    ground: TryGround,
) -> None:
    ground.policies(at_most(ground, 1000))
    went = [await ground.call({"amount": amount}) for amount in (10, 500, 900, 2000)]
    assert went == [True, True, True, False]
    tried = await ground.tried(policies=f'@id("lower") {at_most(ground, 600)}')
    assert tried.counts == (4, 3, 0, 1)
    (change,) = tried.changes
    assert change["change"] == "newly denied"
    assert change["before"] == {"allowed": True, "policies": ["p0"]}
    assert change["after"] == {"allowed": False, "policies": []}
    assert change["nowAllowed"] is True
    assert (change["tool"], change["principal"]) == (TRANSFER, "anna")
    assert change["user"] == "https://login.example.com|anna"
    assert change["input"] == {"amount": "(number)"}
    tried = await ground.tried(policies=f'@id("higher") {at_most(ground, 3000)}')
    assert tried.counts == (4, 3, 1, 0)
    assert tried.changes[0]["after"] == {"allowed": True, "policies": ["higher"]}


async def test_the_same_policies_change_nothing(ground: TryGround) -> None:
    """With claims, a session, times and numbers that Cedar rounds: as it was decided."""
    number = GovernedTool(
        name=TRANSFER, target="bank",
        input_schema={"type": "object", "properties": {"amount": {"type": "number"}}},
    )  # fmt: skip
    ground.gateway(tools=[number])
    whole = (
        "permit (principal is AgentCore::OAuthUser, action, resource) when {"
        ' principal.hasTag("level") && principal.getTag("level") == "3" &&'
        ' context.time < datetime("2026-01-01T00:00:00Z") && context has source &&'
        ' context.source.isInRange(ip("10.0.0.0/8")) && context has session &&'
        ' context.session.id == "s1" && context.input has amount &&'
        ' context.input.amount.lessThanOrEqual(decimal("0.3333")) };'
    )
    ground.policies(whole)
    ground.at = datetime(2025, 6, 1, tzinfo=UTC)
    usual: dict[str, Any] = {"source": "10.1.2.3", "session": "s1", "claims": {"level": 3}}
    went = [
        await ground.call({"amount": 0.3333}, **usual),
        await ground.call({"amount": 1 / 3}, **usual),
        await ground.call({"amount": 0.3}, **{**usual, "source": "192.0.2.1"}),
        await ground.call({"amount": 0.3}, **{**usual, "session": "s2"}),
        await ground.call({"amount": 0.3}, **{**usual, "claims": {"level": "4"}}),
    ]
    assert went == [True, False, False, False, False]
    period = {"since": "2025-05-01", "until": "2025-07-01"}
    assert (await ground.tried(policies=whole, **period)).counts == (5, 5, 0, 0)
    looser = whole.replace('"0.3333"', '"0.3334"')
    tried = await ground.tried(policies=looser, **period)
    assert tried.counts == (5, 4, 1, 0), "the very number was recorded"


async def test_single_policies_are_changed_added_and_taken_away_by_id_or_name(
    ground: TryGround,
) -> None:
    ground.policies(
        at_most(ground, 100), permit(BALANCE, ground.arn, "true"), names=("transfers", "balances")
    )
    assert await ground.call({"amount": 50})
    assert await ground.call({"account": "a"}, tool=BALANCE)
    for id in ("p0", "transfers"):
        changed = {"policyId": id, "statement": at_most(ground, 20)}
        assert (await ground.tried(changes=[changed])).counts == (2, 1, 0, 1)
        assert (await ground.tried(changes=[{"policyId": id}])).counts == (2, 1, 0, 1)
    forbid = "forbid (principal, action, resource);"
    tried = await ground.tried(changes=[{"policyId": "no-more", "statement": forbid}])
    assert tried.counts == (2, 0, 0, 2)
    assert {tuple(each["after"]["policies"]) for each in tried.changes} == {("no-more",)}
    tried = await ground.tried(changes=[{"statement": forbid}])
    assert tried.counts == (2, 0, 0, 2)


async def test_a_policy_that_only_logs_takes_part_once_it_is_named(ground: TryGround) -> None:
    ground.policies(at_most(ground, 100), "forbid (principal, action, resource);", log_only=["p1"])
    assert await ground.call({"amount": 50})
    unchanged = {"policyId": "p0", "statement": at_most(ground, 100)}
    assert (await ground.tried(changes=[unchanged])).counts == (1, 1, 0, 0)
    named = {"policyId": "p1", "statement": "forbid (principal, action, resource);"}
    assert (await ground.tried(changes=[named])).counts == (1, 0, 0, 1)


async def test_a_change_that_was_made_meanwhile_is_not_put_down_to_this_one(
    ground: TryGround,
) -> None:
    ground.policies(at_most(ground, 100))
    assert await ground.call({"amount": 50})
    ground.policies(at_most(ground, 10))
    (change,) = (await ground.tried(changes=[{"policyId": "p0"}])).changes
    assert change["nowAllowed"] is False


async def test_what_cannot_be_told_is_counted_with_its_reason(
    ground: TryGround, database: PostgresDatabase
) -> None:
    ground.policies("permit (principal, action, resource is AgentCore::Gateway);")
    other = ground.gateway("gone")
    await ground.call({"amount": 1})
    await ground.call({"amount": 2, "memo": "x" * 70_000})
    await ground.call({"account": "a"}, tool=BALANCE)
    await ground.call({"amount": 3}, gateway=other)
    await ground.call({"amount": "a text"})
    newer = {"type": "object", "properties": {"amount": {"type": "string"}}}
    ground.gateway(tools=[GovernedTool(name=TRANSFER, target="bank", input_schema=newer)])
    del ground.gateways.by_arn[ground.tenant, other]
    tried = await ground.tried(policies="forbid (principal, action, resource);")
    assert tried.summary["untellable"] == {
        "its inputs were too large to be kept": 1,
        "the gateway has no such tool any more": 1,
        "the gateway is gone": 1,
        "the schema changed, and the call does not fit it": 1,
    }
    assert tried.summary["replayed"] + sum(tried.summary["untellable"].values()) == 5
    another_key = own_trying(ground, DecisionLog(database, sealer(b"n" * 32)))
    lines = [line async for line in await _lines(another_key, ground)]
    assert b"the key is lost" in lines[-1]
    assert b'"replayed":0' in lines[-1]


def own_trying(ground: TryGround, log: DecisionLog) -> Trying:
    return Trying(log, ground.gateways, CedarEngine(), CedarStatements())


async def _lines(own: Trying, ground: TryGround, **given: Any) -> Any:
    (engine,) = ground.engines.rows.values()
    body = TryGiven(policies="forbid (principal, action, resource);", **given)
    now = datetime.now(UTC)
    return await own.lines(engine, body, since=now - timedelta(days=1), until=now)


async def test_a_call_that_never_fitted_the_schema_stays_denied(ground: TryGround) -> None:
    anything = "permit (principal, action, resource is AgentCore::Gateway);"
    ground.policies(anything)
    assert not await ground.call({"amount": "a text"})
    assert (await ground.tried(policies=anything)).counts == (1, 1, 0, 0)


async def test_a_policy_of_another_gateway_is_no_misfit_and_one_that_does_not_fit_is(
    ground: TryGround,
) -> None:
    ground.policies(at_most(ground, 100))
    await ground.call({"amount": 1})
    elsewhere = permit("shop___buy", ground.arn.replace("bank", "shop"), "context.input.x")
    tried = await ground.tried(policies=f"{at_most(ground, 9)}\n{elsewhere}")
    assert tried.summary["misfits"] == []
    odd = '@id("odd") ' + permit(TRANSFER, ground.arn, "context.input.colour")
    (misfit,) = (await ground.tried(policies=f"{at_most(ground, 9)}\n{odd}")).summary["misfits"]
    assert (misfit["policy"], misfit["gatewayId"]) == ("odd", "bank")
    assert "colour" in " ".join(misfit["problems"])


async def test_the_period_the_gateway_and_the_number_of_calls_bound_a_try(
    ground: TryGround,
) -> None:
    anything = "permit (principal, action, resource is AgentCore::Gateway);"
    ground.policies(anything)
    shop = ground.gateway("shop")
    now = datetime.now(UTC)
    for hours in (1, 2, 30):
        ground.at = now - timedelta(hours=hours)
        await ground.call({"amount": hours})
        await ground.call({"amount": hours}, gateway=shop)
    none = {"policies": "forbid (principal, action, resource);"}
    assert (await ground.tried(**none)).counts == (4, 0, 0, 4)
    assert (await ground.tried(**none, since="2d")).counts == (6, 0, 0, 6)
    assert (await ground.tried(**none, gatewayId="shop")).counts == (2, 0, 0, 2)
    until = (now - timedelta(minutes=90)).isoformat()
    assert (await ground.tried(**none, until=until)).counts == (2, 0, 0, 2)
    some = await ground.tried(**none, callsMax=3)
    assert some.counts == (3, 0, 0, 3)
    assert some.summary["reachedMax"] is True
    assert (await ground.tried(**none, callsMax=4)).summary["reachedMax"] is False


async def test_changes_beyond_the_limit_are_counted_and_not_listed(
    ground: TryGround, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trying, "CHANGES_LISTED_MAX", 3)
    monkeypatch.setattr(trying, "_BATCH_CALLS", 2)
    ground.policies(at_most(ground, 100))
    for amount in range(7):
        await ground.call({"amount": amount})
    tried = await ground.tried(policies="forbid (principal, action, resource);")
    assert (len(tried.changes), tried.summary["listed"]) == (3, 3)
    assert tried.counts == (7, 0, 0, 7)
    assert [each["lookedAt"] for each in tried.progress] == [2, 4, 6, 7]
    amounts = [each["at"] for each in tried.changes]
    assert amounts == sorted(amounts, reverse=True), "newest first"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, "policies.*changes"),
        ({"policies": "permit (principal", "changes": [{"policyId": "p0"}]}, "not both"),
        ({"policies": "permit (principal"}, "line 1"),
        ({"policies": "permit (principal == ?principal, action, resource);"}, "template"),
        ({"changes": [{"policyId": "nobody"}]}, "nobody"),
        ({"changes": [{}]}, "no policy"),
        ({"changes": [{"policyId": "p0", "statement": "x"}]}, "line 1"),
        ({"changes": [{"policyId": "p0", "statement": ""}]}, "one policy"),
        ({"policies": "", "since": "yesterday"}, "since=yesterday"),
        ({"policies": "", "since": "1h", "until": "2h"}, "ends before"),
        ({"policies": "", "callsMax": 0}, "callsMax"),
        ({"policies": "", "mode": "x"}, "mode"),
    ],
)
async def test_a_try_of_nothing_is_refused_before_it_begins(
    given: dict[str, Any], why: str, ground: TryGround
) -> None:
    ground.policies(at_most(ground, 100))
    status, answer = await ground.asks("POST", f"/policy-engines/{ENGINE_ID}/try", given)
    assert status == 400
    assert re.search(why, answer["error"]["message"]), answer


async def test_a_try_lets_everything_else_go_on(ground: TryGround) -> None:
    """The longest that the loop stood still, while 600 calls were decided again."""
    ground.policies(at_most(ground, 100))
    await asyncio.gather(*(ground.call({"amount": amount}) for amount in range(600)))
    stood = 0.0
    done = asyncio.Event()

    async def watch() -> None:
        nonlocal stood
        while not done.is_set():
            began = time.thread_time()
            await asyncio.sleep(0)
            stood = max(stood, time.thread_time() - began)

    watching = asyncio.create_task(watch())
    own = own_trying(ground, ground.decisions.log)
    lines = [line async for line in await _lines(own, ground)]
    done.set()
    await watching
    assert b'"newlyDenied":101' in lines[-1]
    assert stood < 0.1


async def test_a_client_that_leaves_gives_up_its_turn(ground: TryGround) -> None:
    ground.policies(at_most(ground, 100))
    await ground.call({"amount": 1})
    own = own_trying(ground, ground.decisions.log)
    for _ in range(5):
        async with aclosing(await _lines(own, ground)) as lines:
            async with asyncio.timeout(10):
                await anext(lines)


async def test_a_period_that_ends_before_it_begins_is_refused(ground: TryGround) -> None:
    ground.policies(at_most(ground, 100))
    own = own_trying(ground, ground.decisions.log)
    (engine,) = ground.engines.rows.values()
    now = datetime.now(UTC)
    with pytest.raises(ValidationFailed, match="ends before"):
        await own.lines(engine, TryGiven(policies=""), since=now, until=now)


# -- the log in our own API


async def test_decisions_are_listed_with_filters_and_pages(ground: TryGround) -> None:
    ground.policies(at_most(ground, 100), "forbid (principal, action, resource);", log_only=["p1"])
    for amount in (50, 60, 5000):
        await ground.call({"amount": amount})
    status, page = await ground.asks("GET", "/policy-decisions?limit=2")
    assert status == 200
    assert [each["allowed"] for each in page["decisions"]] == [False, True]
    assert "inputs" not in page["decisions"][0]
    _, rest = await ground.asks("GET", f"/policy-decisions?limit=2&nextToken={page['nextToken']}")
    assert len(rest["decisions"]) == 1
    assert "nextToken" not in rest
    for query, count in (
        ("outcome=denied", 1), ("outcome=allowed", 2), ("wouldDiffer=true", 2), ("policyId=p0", 2),
        ("policyId=p1", 3), ("tool=bank___transfer", 3), ("tool=bank___balance", 0),
        ("principal=anna", 3), ("gatewayId=bank", 3), (f"engineId={ENGINE_ID}", 3),
        ("gatewayId=shop", 0), ("engineId=others", 0), ("principal=berta", 0), ("user=anna", 0),
        ("mode=ENFORCE", 3), ("mode=LOG_ONLY", 0), ("since=1h", 3), ("until=1h", 0),
        (f"requestId={rest['decisions'][0]['requestId']}", 1),
    ):  # fmt: skip
        _, found = await ground.asks("GET", f"/policy-decisions?{query}")
        assert len(found["decisions"]) == count, query
    status, _ = await ground.asks("GET", "/policy-decisions?outcome=maybe")
    assert status == 400


async def test_what_is_shown_follows_the_engines_view_on_the_server(ground: TryGround) -> None:
    ground.policies(at_most(ground, 100))
    await ground.call({"amount": 50, "to": CANARY}, claims={"email": CANARY}, session=CANARY)
    view = f"/policy-engines/{ENGINE_ID}/decision-view"
    assert await ground.asks("GET", view) == (200, {"show": "masked", "reveal": [], "hide": []})
    _, page = await ground.asks("GET", "/policy-decisions?inputs=true")
    (line,) = page["decisions"]
    assert line["inputs"]["input"] == {"amount": "(number)", "to": "(string)"}
    one = f"/policy-decisions/{line['id']}"
    none = {"policies": ""}

    async def everything() -> str:
        _, page = await ground.asks("GET", "/policy-decisions?inputs=true")
        _, got = await ground.asks("GET", one)
        tried = await ground.tried(**none)
        assert len(tried.changes) == 1
        return repr((page, got, tried.changes))

    assert CANARY not in await everything()
    put = {"show": "all", "hide": ["input.to", "claims.email", "context.session"]}
    status, answer = await ground.asks("PUT", view, put)
    assert (status, answer) == (200, {**put, "reveal": []})
    shown = await everything()
    assert CANARY not in shown
    assert "50" in shown
    await ground.asks("PUT", view, {"show": "none"})
    _, got = await ground.asks("GET", one)
    assert got["inputs"] == {
        "input": None, "claims": None, "context": None, "errors": [], "note": None
    }  # fmt: skip
    await ground.asks("PUT", view, {"show": "all"})
    assert (await everything()).count(CANARY) == 9


async def test_a_view_that_makes_no_sense_is_refused(ground: TryGround) -> None:
    ground.policies()
    view = f"/policy-engines/{ENGINE_ID}/decision-view"
    for body in ({"show": "some"}, {"reveal": ["amount"]}, {"hide": [1]}, {"shown": "all"}):
        status, _ = await ground.asks("PUT", view, body)
        assert status == 400, body
    assert (await ground.asks("GET", view))[1]["show"] == "masked"


async def test_another_tenant_finds_neither_decisions_nor_engine(ground: TryGround) -> None:
    ground.policies(at_most(ground, 100))
    await ground.call({"amount": 50})
    _, page = await ground.asks("GET", "/policy-decisions")
    (line,) = page["decisions"]
    other = str(int(ground.tenant) - 1)
    _, theirs = await ground.own(other, "GET", "/policy-decisions")
    assert theirs == {"decisions": []}
    for method, path, body in (
        ("GET", f"/policy-decisions/{line['id']}", None),
        ("GET", f"/policy-engines/{ENGINE_ID}/decision-view", None),
        ("PUT", f"/policy-engines/{ENGINE_ID}/decision-view", {"show": "all"}),
        ("POST", f"/policy-engines/{ENGINE_ID}/try", {"policies": ""}),
    ):
        status, _ = await ground.own(other, method, path, body)
        assert status == 404, path
    assert (await ground.asks("GET", f"/policy-decisions/{line['id']}"))[0] == 200
