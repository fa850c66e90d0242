"""The log of decisions: durable, once, sealed, found by each of its columns, and let go of."""

import asyncio
import base64
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from decision_ground import Ground, days_ago, decided, engine_arn
from enforcing_ground import BALANCE, TENANT, Row, call, gateway

from freehold.adapters.cedar.engine import CedarEngine
from freehold.adapters.cedar.statements import CedarStatements
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.secrets.envelope import EnvelopeSealer
from freehold.adapters.secrets.keyring import Keyring
from freehold.adapters.secrets.rewrapping import SealedValues
from freehold.kernel import tracing
from freehold.kernel.errors import NotFound, Unavailable, ValidationFailed
from freehold.ports.audit import AuditEvent
from freehold.ports.secrets import SealBroken
from freehold.services.policy import decision_store
from freehold.services.policy.decision_lines import first_id, line_of, new_id
from freehold.services.policy.decision_store import DecisionLog, DecisionRetention, Filter, newest
from freehold.services.policy.enforcement import PolicyEnforcement
from kept_spans import KeptSpans

CANARY = "canary-8d1f6e"


@pytest.fixture
async def ground(database_dsn: str, database: PostgresDatabase) -> AsyncIterator[Ground]:
    made = Ground(database_dsn, database)
    await made.writer.start()
    yield made
    await made.writer.close()


# -- writing


async def test_a_decision_is_in_the_log_with_all_that_was_said_of_it_when_record_returns(
    ground: Ground, tenant: str
) -> None:
    made = decided(
        tenant, allowed=False, policies=("p1", "p2"), errors=("policy `p2`: no attribute",),
        shadow_allowed=True, shadow_policies=("p3",), mode="LOG_ONLY", user=None,
    )  # fmt: skip
    await ground.writer.record(made)
    (kept,) = await ground.kept(tenant)
    for name in (
        "tenant", "at", "request_id", "gateway_id", "gateway_arn", "engine_version",
        "schema_version", "mode", "tool", "target", "principal", "principal_type",
        "principal_kind", "user", "allowed", "shadow_allowed", "microseconds",
    ):  # fmt: skip
        assert getattr(kept, name) == getattr(made, name), name
    assert engine_arn(tenant, kept.engine_id) == made.engine_arn
    assert (kept.policies, kept.shadow_policies, kept.errors) == (["p1", "p2"], ["p3"], 1)
    inputs = ground.log.open(kept)
    assert (inputs.arguments, inputs.claims) == (made.arguments, made.claims)
    assert (inputs.context, inputs.errors) == (made.context, list(made.errors))
    assert (await ground.log.get(tenant, str(kept.id))).id == kept.id


@pytest.mark.parametrize("policies", [("permit (principal, action, resource);",), ()])
async def test_a_trace_leads_to_the_line_of_each_decision(
    ground: Ground, policies: tuple[str, ...]
) -> None:
    kept = KeptSpans()
    enforced = PolicyEnforcement(Row(*policies), CedarEngine(), CedarStatements(), ground.writer)
    with tracing.background(kept, "a call", tenant=TENANT):
        await enforced.decide(call(gateway(), BALANCE, {"account": "1"}, request_id="r-7"))
    line = await ground.log.get(TENANT, kept.one("policy ").attributes["freehold.decision.id"])
    assert (line.request_id, line.allowed) == ("r-7", bool(policies))


async def test_what_the_log_does_not_have_no_trace_leads_to(ground: Ground) -> None:
    kept = KeptSpans()
    enforced = PolicyEnforcement(Row(), CedarEngine(), CedarStatements(), ground.writer)
    await ground.writer.close()
    with tracing.background(kept, "a call", tenant=TENANT), pytest.raises(Unavailable):
        await enforced.decide(call(gateway(), BALANCE, {"account": "1"}))
    assert "freehold.decision.id" not in kept.one("policy ").attributes


async def test_decisions_that_come_together_are_one_statement(ground: Ground, tenant: str) -> None:
    statements: list[str] = []
    run = ground.lane.run

    async def counted(statement: str, *values: bytes | None) -> list[tuple[bytes | None, ...]]:
        statements.append(statement)
        return await run(statement, *values)

    ground.lane.run = counted  # type: ignore[method-assign]
    await asyncio.gather(*(ground.writer.record(decided(tenant)) for _ in range(200)))
    assert len(await ground.kept(tenant)) == 200
    assert len(statements) <= 2, "200 decisions were as many commits"


async def test_a_caller_that_leaves_takes_no_decision_with_it(ground: Ground, tenant: str) -> None:
    records = [asyncio.create_task(ground.writer.record(decided(tenant))) for _ in range(20)]
    await asyncio.sleep(0)
    for record in records[:10]:
        record.cancel()
    done = await asyncio.gather(*records, return_exceptions=True)
    assert sum(isinstance(each, asyncio.CancelledError) for each in done) == 10
    await ground.writer.record(decided(tenant))  # behind them all
    assert len(await ground.kept(tenant)) == 21


async def test_no_decision_is_lost_or_twice_there_when_connections_break(
    ground: Ground, tenant: str
) -> None:
    acknowledged: list[str] = []

    async def record(some: int) -> None:
        for _ in range(100):
            made = decided(tenant, policies=(f"p{some}",))
            await ground.writer.record(made)
            acknowledged.append(made.request_id)

    recording = asyncio.gather(*(record(some) for some in range(4)))
    cuts = 0
    while not recording.done():
        cuts += await ground.cut()
        await asyncio.wait([recording], timeout=0.03)
    await recording
    assert cuts > 1
    assert sorted(await ground.requests(tenant)) == sorted(acknowledged)
    for some in range(4):
        assert len(await ground.kept(tenant, policy=f"p{some}")) == 100


async def test_an_answer_that_was_lost_after_its_commit_leaves_one_decision(
    ground: Ground, tenant: str
) -> None:
    run = ground.lane.run
    lost = iter([True, False])

    async def cut_off(statement: str, *values: bytes | None) -> list[tuple[bytes | None, ...]]:
        answer = await run(statement, *values)
        if next(lost):
            raise Unavailable("the answer never came")
        return answer

    ground.lane.run = cut_off  # type: ignore[method-assign]
    await ground.writer.record(decided(tenant))
    assert next(lost, None) is None, "it was not sent again"
    assert len(await ground.kept(tenant)) == 1
    assert len(await ground.kept(tenant, policy="may-transfer")) == 1


async def test_while_postgres_is_away_decisions_are_refused_in_time_and_not_acknowledged_later(
    ground: Ground, tenant: str
) -> None:
    ground.writer._patience_seconds = 0.3
    opening = ground.lane.open
    back = asyncio.Event()

    async def refuse() -> None:
        if not back.is_set():
            raise Unavailable("away")
        await opening()

    ground.lane.open = refuse  # type: ignore[method-assign]
    await ground.lane.close()
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(10):
        refused = await asyncio.gather(
            *(ground.writer.record(decided(tenant)) for _ in range(3)), return_exceptions=True
        )
    assert [type(each) for each in refused] == [Unavailable] * 3
    assert loop.time() - began >= 0.25, "it did not wait for Postgres at all"
    began = loop.time()
    with pytest.raises(Unavailable):
        await ground.writer.record(decided(tenant))
    assert loop.time() - began < 0.25, "nobody waits again while it is known to be away"
    back.set()
    async with asyncio.timeout(10):
        await ground.writer._idle.wait()
    made = decided(tenant)
    await ground.writer.record(made)
    assert await ground.requests(tenant) == [made.request_id]


async def test_a_line_that_postgres_refuses_takes_no_other_with_it(
    ground: Ground, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(made: Any, sealing: Any) -> bytes:
        line = line_of(made, sealing)
        return line.replace(b'"microseconds":90', b'"microseconds":"x"', made.target == "bad")

    monkeypatch.setattr("freehold.services.policy.decisions.line_of", spoilt)
    ground.writer._wake.clear()
    targets = ["good"] * 10
    targets[4] = "bad"
    done = await asyncio.gather(
        *(ground.writer.record(decided(tenant, target=target)) for target in targets),
        return_exceptions=True,
    )
    assert [isinstance(each, Unavailable) for each in done] == [t == "bad" for t in targets]
    assert [each.target for each in await ground.kept(tenant)] == ["good"] * 9


async def test_no_more_waits_than_memory_should_hold(
    ground: Ground, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("freehold.services.policy.decisions._WAITING_BYTES_MAX", 20_000)
    for _ in range(2):
        made = [decided(tenant, arguments={"x": "y" * 3000}) for _ in range(20)]
        done = await asyncio.gather(
            *(ground.writer.record(each) for each in made), return_exceptions=True
        )
        refused = [each for each in done if isinstance(each, Unavailable)]
        assert 10 < len(refused) < 20, "some were taken, and then no more"
    assert len(await ground.kept(tenant)) == 2 * (20 - len(refused))


async def test_what_waits_is_written_before_the_writer_ends(
    database_dsn: str, database: PostgresDatabase, tenant: str
) -> None:
    ground = Ground(database_dsn, database)
    await ground.writer.start()
    waiting = [asyncio.create_task(ground.writer.record(decided(tenant))) for _ in range(5)]
    await asyncio.sleep(0)
    await ground.writer.close()
    await asyncio.gather(*waiting)
    assert len(await ground.kept(tenant)) == 5
    with pytest.raises(Unavailable):
        await ground.writer.record(decided(tenant))


NASTY = {
    "a NUL": "a\0b",
    "half a surrogate pair": "a\ud800b",
    "more than an index takes": "\U0001f511" * 1500,
    "quotes": "'\"; DROP TABLE policy_decisions; --\\",
    "an array of its own": '{"x",NULL}',
}


@pytest.mark.parametrize("what", NASTY)
async def test_whatever_a_client_said_can_be_kept_and_found(
    what: str, ground: Ground, tenant: str
) -> None:
    text = NASTY[what]
    nasty = decided(
        tenant, principal=text, user=text, tool=text, target=text, request_id=text,
        policies=(text,), arguments={text: [text, None, {"n": 2**70, "f": 5.0}]},
        claims={"sub": text}, errors=(text,),
    )  # fmt: skip
    await ground.writer.record(nasty)
    for filter in ("principal", "user", "tool", "policy", "request_id"):
        (kept,) = await ground.kept(tenant, **{filter: text})
        assert len(kept.principal.encode()) <= 1000
    inputs = ground.log.open(kept)
    assert inputs.arguments == nasty.arguments
    assert inputs.claims == nasty.claims
    # A replay needs all of it, even where the column has less.
    assert (inputs.principal or kept.principal) == text


@pytest.mark.parametrize("large", ["arguments", "claims"])
async def test_inputs_that_are_too_large_are_replaced_by_how_large_they_were(
    large: str, ground: Ground, tenant: str
) -> None:
    await ground.writer.record(decided(tenant, **{large: {"x": "y" * 70_000}}))
    (kept,) = await ground.kept(tenant)
    inputs = ground.log.open(kept)
    assert inputs.omitted_bytes > 70_000
    assert inputs.arguments is None
    assert (inputs.claims is None) == (large == "claims")
    assert len(kept.sealed_inputs) < 65_000


async def test_inputs_without_an_end_are_replaced_too(ground: Ground, tenant: str) -> None:
    deep: dict[str, Any] = {}
    deep["deep"] = deep
    await ground.writer.record(decided(tenant, arguments=deep))
    (kept,) = await ground.kept(tenant)
    assert ground.log.open(kept).arguments is None


# -- sealed


async def test_what_was_called_with_stands_in_no_column_and_no_log(
    ground: Ground, tenant: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    made = decided(
        tenant, arguments={"memo": CANARY}, claims={"sub": "anna", "note": CANARY},
        context={"session": {"id": CANARY}}, errors=(f"policy `p`: {CANARY} is no number",),
    )  # fmt: skip
    await ground.writer.record(made)
    async with ground.database.connection() as connection:
        rows = await connection.execute(
            "SELECT d::text, encode(sealed_inputs, 'escape') FROM policy_decisions d"
            " WHERE tenant = %s",
            (tenant,),
        )
        (row,) = await rows.fetchall()
    assert "anna" in row[0]
    assert all(CANARY not in text for text in row)
    assert CANARY not in caplog.text
    (kept,) = await ground.kept(tenant)
    inputs = ground.log.open(kept)
    assert inputs.arguments == {"memo": CANARY}, "it is sealed, and not lost"


async def test_inputs_cannot_be_moved_to_another_decision(ground: Ground, tenant: str) -> None:
    await ground.writer.record(decided(tenant))
    await ground.writer.record(decided(tenant))
    one, other = await ground.kept(tenant)
    async with ground.database.connection() as connection:
        await connection.execute(
            "UPDATE policy_decisions SET sealed_inputs = %s WHERE tenant = %s AND id = %s",
            (one.sealed_inputs, tenant, other.id),
        )
    ground.log.open(one)
    with pytest.raises(SealBroken):
        ground.log.open(await ground.log.get(tenant, str(other.id)))


async def test_a_rotation_of_the_platforms_key_moves_the_log(
    fresh_dsn: Callable[[], Awaitable[str]], tenant: str
) -> None:
    dsn = await fresh_dsn()
    database = PostgresDatabase(dsn)
    await database.start()
    try:
        ground = Ground(dsn, database)
        await ground.writer.start()
        await asyncio.gather(*(ground.writer.record(decided(tenant)) for _ in range(450)))
        await ground.writer.close()
        keys = f"1:{_key(b'k')}\n2:{_key(b'n')}"
        both = EnvelopeSealer(Keyring.parse(keys, source="a test"))
        values = SealedValues(database)
        assert await values.versions() == {1: 450}
        moved = await values.move(2, both.rewrap)
        assert (moved.values, moved.broken) == (450, 0)
        assert await values.versions() == {2: 450}
        only_new = EnvelopeSealer(Keyring.parse(f"2:{_key(b'n')}", source="a test"))
        page = await DecisionLog(database, only_new).page(tenant, Filter(), limit=1, inputs=True)
        assert DecisionLog(database, only_new).open(page.items[0]).arguments is not None
    finally:
        await database.close()


def _key(letter: bytes) -> str:
    return base64.b64encode(letter * 32).decode()


# -- reading


async def test_each_filter_finds_what_it_says_and_nothing_else(ground: Ground, tenant: str) -> None:
    now = datetime.now(UTC)
    odd = decided(
        tenant, at=now - timedelta(hours=2), gateway_id="shop-abcdefghij", engine_id="shop-rules",
        tool="shop___buy", principal="berta", user="berta", allowed=False, policies=("no-buying",),
        mode="LOG_ONLY", shadow_allowed=True, shadow_policies=("maybe-buying",), request_id="r1",
    )  # fmt: skip
    usual = [decided(tenant, at=now, shadow_allowed=True), decided(tenant, at=now, user=None)]
    for each in (odd, *usual):
        await ground.writer.record(each)
    for what in (
        {"gateway_id": odd.gateway_id}, {"engine_id": "shop-rules"}, {"tool": odd.tool},
        {"principal": "berta"}, {"user": "berta"}, {"allowed": False}, {"policy": "no-buying"},
        {"policy": "maybe-buying"}, {"mode": "LOG_ONLY"}, {"would_differ": True},
        {"request_id": "r1"}, {"until": now - timedelta(hours=1)},
        {"policy": "no-buying", "tool": odd.tool, "until": now, "since": odd.at, "allowed": False},
    ):  # fmt: skip
        assert await ground.requests(tenant, **what) == ["r1"], what
    since = await ground.requests(tenant, since=now - timedelta(hours=1))
    assert sorted(since) == sorted(each.request_id for each in usual)
    assert await ground.requests(tenant, policy="no-buying", tool="bank___transfer") == []


async def test_a_page_ends_where_the_next_begins_though_more_comes_meanwhile(
    ground: Ground, tenant: str
) -> None:
    at = datetime.now(UTC)
    made = [decided(tenant, at=at + timedelta(microseconds=n)) for n in range(25)]
    await asyncio.gather(*(ground.writer.record(each) for each in made))
    seen: list[str] = []
    token = None
    while True:
        page = await ground.log.page(tenant, Filter(), limit=10, token=token)
        seen += [each.request_id for each in page.items]
        await ground.writer.record(decided(tenant, at=at + timedelta(seconds=len(seen))))
        if (token := page.next_token) is None:
            break
    assert seen == [each.request_id for each in reversed(made)]


@pytest.mark.parametrize("token", ["x", "WyJhIiwiYiJd", "WzFd"])
async def test_a_token_of_another_list_is_refused(token: str, ground: Ground, tenant: str) -> None:
    with pytest.raises(ValidationFailed, match="nextToken"):
        await ground.log.page(tenant, Filter(), limit=10, token=token)


async def test_another_tenants_decisions_are_not_there(ground: Ground, tenant: str) -> None:
    other = str(int(tenant) - 1)
    await ground.writer.record(decided(tenant))
    (kept,) = await ground.kept(tenant)
    for what in ({}, {"policy": "may-transfer"}, {"request_id": kept.request_id}):
        assert await ground.kept(other, **what) == []
    for id in (str(kept.id), "not-an-id"):
        with pytest.raises(NotFound):
            await ground.log.get(other, id)


def test_ids_stand_in_the_order_of_their_times() -> None:
    at = datetime(2026, 11, 21, 23, 59, 59, 999_000, tzinfo=UTC)
    moments = [at + timedelta(microseconds=n) for n in range(2000)]
    made = [new_id(moment) for moment in moments]
    assert made == sorted(made)
    assert len({new_id(at) for _ in range(1000)}) == 1000
    for moment, id in zip(moments, made, strict=True):
        assert first_id(moment) <= id < first_id(moment + timedelta(microseconds=1))
        assert (id.version, id.variant) == (7, "specified in RFC 4122")


FILTERS: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "policy_decisions_pkey"),
    "gateway": ({"gateway_id": "gw-7"}, "policy_decisions_gateway"),
    "engine": ({"engine_id": "engine-7"}, "policy_decisions_engine"),
    "tool": ({"tool": "tool-77"}, "policy_decisions_tool"),
    "principal": ({"principal": "who-77"}, "policy_decisions_principal"),
    "user": ({"user": "user-77"}, "policy_decisions_user"),
    "the rarer outcome": ({"allowed": False}, "policy_decisions_allowed"),
    "the rarer mode": ({"mode": "LOG_ONLY"}, "policy_decisions_mode"),
    "what would differ": ({"would_differ": True}, "policy_decisions_differs"),
    "policy": ({"policy": "policy-77"}, "policy_decision_policies_pkey"),
    "request": ({"request_id": "r77"}, "policy_decisions_request"),
}

FILL = """
INSERT INTO policy_decisions
SELECT 'FILLED', (lpad(to_hex(1790000000000 + n), 12, '0') || '7000' || '8000' ||
       lpad(to_hex(n), 12, '0'))::uuid, now(), 'r' || n, 'gw-' || n % 50, 'arn',
       'engine-' || n % 40, 'v', 's', CASE n % 500 WHEN 0 THEN 'LOG_ONLY' ELSE 'ENFORCE' END,
       'tool-' || n % 1000, 't', 'who-' || n % 2000, 'OAuthUser', 'oauth_user',
       'user-' || n % 2000,
       n % 500 <> 0, ARRAY['policy-' || n % 300], 0,
       CASE n % 1000 WHEN 0 THEN true WHEN 1 THEN true END,
       '{}', 80, '\\x00'
FROM generate_series(1, 40000) n
"""


@pytest.fixture(scope="module")
async def filled(fresh_dsn: Callable[[], Awaitable[str]]) -> AsyncIterator[PostgresDatabase]:
    """A log of 40,000 decisions, as Postgres has taken notice of it."""
    database = PostgresDatabase(await fresh_dsn())
    await database.start()
    async with database.connection() as connection:
        await connection.execute(FILL.encode())
        await connection.execute(
            "INSERT INTO policy_decision_policies"
            " SELECT tenant, unnest(policies), id FROM policy_decisions"
        )
        await connection.execute("ANALYZE policy_decisions, policy_decision_policies")
    yield database
    await database.close()


@pytest.mark.parametrize("further", [False, True], ids=["first page", "later page"])
@pytest.mark.parametrize("what", FILTERS)
async def test_each_list_walks_an_index_in_its_order(
    what: str, further: bool, filled: PostgresDatabase
) -> None:
    """Nothing is sorted, and nothing is read through: a page costs what it shows, at any size."""
    filter, index = FILTERS[what]
    before = first_id(datetime(2026, 9, 21, 15, tzinfo=UTC)) if further else None
    statement, values = newest("FILLED", Filter(**filter), before=before, limit=101, inputs=False)
    async with filled.connection() as connection:
        rows = await connection.execute(f"EXPLAIN {statement}".encode(), values)
        plan = "\n".join(row[0] for row in await rows.fetchall())
    assert index in plan, plan
    assert "Seq Scan" not in plan, plan
    if what != "request":  # one or two rows, in any order
        assert "Sort" not in plan, plan


async def test_a_list_that_takes_too_long_is_given_up(
    ground: Ground, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here since it waits for a lock; the connection is as good as before."""
    monkeypatch.setattr(decision_store, "_LIST_MILLISECONDS_MAX", 50)
    async with ground.database.transaction() as connection:
        await connection.execute("LOCK TABLE policy_decisions")
        async with asyncio.timeout(10):
            with pytest.raises(ValidationFailed, match="shorter period"):
                await ground.kept(tenant)
    assert await ground.kept(tenant) == []


# -- retention


class HeardAudit:
    def __init__(self) -> None:
        self.events: list[AuditEvent] = []

    async def write(self, event: AuditEvent) -> None:
        self.events.append(event)


async def test_what_is_older_than_the_days_goes_with_its_links_and_the_audit_says_so(
    ground: Ground, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decision_store, "_EXPIRE_LINES", 4)
    old = [decided(tenant, at=days_ago(31), policies=("p", "q")) for _ in range(9)]
    young = [decided(tenant, at=days_ago(29), policies=("p", "q")) for _ in range(3)]
    await asyncio.gather(*(ground.writer.record(each) for each in (*old, *young)))
    audit = HeardAudit()
    retention = DecisionRetention(ground.database, audit, days=30)
    await asyncio.gather(retention.expire(), retention.expire())
    expected = sorted(each.request_id for each in young)
    assert sorted(await ground.requests(tenant)) == expected
    assert sorted(await ground.requests(tenant, policy="q")) == expected
    async with ground.database.connection() as connection:
        rows = await connection.execute(
            "SELECT count(*) FROM policy_decision_policies WHERE tenant = %s", (tenant,)
        )
        assert await rows.fetchone() == (6,)
    lines = [each for each in audit.events if each.tenant == tenant]
    assert sum(int(each.detail["decisions"]) for each in lines) == 9


async def test_retention_of_no_days_keeps_all(ground: Ground, tenant: str) -> None:
    await ground.writer.record(decided(tenant, at=days_ago(4000)))
    await DecisionRetention(ground.database, HeardAudit(), days=0).expire()
    assert len(await ground.kept(tenant)) == 1
