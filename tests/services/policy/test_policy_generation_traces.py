"""A policy generation is a trace of its own, with the tokens that it took."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from generation_ground import BALANCE, ENGINE_ID, READ, Opened, permit, platforms, proposed

from freehold.kernel.tracing import Status
from freehold.testing.scripted_model import Rule
from kept_spans import KeptSpans


@pytest.fixture
async def opened(database_dsn: str, tmp_path: Path, tenant: str) -> AsyncIterator[Opened]:
    async with platforms(database_dsn, tmp_path, tenant) as opened:
        yield opened


async def test_a_generation_is_a_trace_of_its_tenant_with_its_calls_of_the_model(
    opened: Opened, tenant: str
) -> None:
    kept = KeptSpans()
    ground = await opened([proposed((READ, permit(tenant, BALANCE)))], recorder=kept)
    id = await ground.started(tenant, READ)
    assert (await ground.ended(tenant, id))["status"] == "GENERATED"
    root, [call, *_] = kept.one("policy_generation"), kept.named("chat ")
    assert (root.parent_id, root.trail.tenant, root.status) == ("", tenant, Status.UNSET)
    assert root.attributes["freehold.policy.generation_id"] == id
    assert root.attributes["freehold.policy.engine"] == ENGINE_ID
    assert call.context.trace_id == root.context.trace_id
    assert call.trail.tenant == tenant
    assert call.attributes["gen_ai.usage.input_tokens"] > 0
    assert READ not in repr([span.attributes for span in kept.spans])


async def test_one_whose_model_is_out_of_order_has_failed_in_its_trace(
    opened: Opened, tenant: str
) -> None:
    kept = KeptSpans()
    ground = await opened([Rule(reply="out of order", status=503)], recorder=kept)
    await ground.ended(tenant, await ground.started(tenant, READ))
    assert kept.one("policy_generation").status is Status.ERROR
    assert {call.status for call in kept.named("chat ")} == {Status.ERROR}
