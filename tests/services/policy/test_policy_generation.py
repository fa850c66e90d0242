"""Policy generations: asked for, shown, kept for a time, and done once whatever dies meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from botocore.exceptions import ClientError
from generation_ground import (
    BALANCE,
    ENGINE_ID,
    LARGE,
    READ,
    TEXT,
    TRANSFER,
    GenerationGround,
    Opened,
    SaidFindings,
    forbid,
    gateway_arn,
    permit,
    platforms,
    proposed,
    statement,
)

from edge_ground import refused
from freehold.kernel.errors import NotFound, Unavailable, ValidationFailed
from freehold.ports.models import Completion, Message, Tool, Usage
from freehold.services.policy.generation import GENERATION_JOB
from freehold.services.policy.model import ENGINE
from freehold.testing.scripted_model import Rule


@pytest.fixture
async def opened(database_dsn: str, tmp_path: Path, tenant: str) -> AsyncIterator[Opened]:
    async with platforms(database_dsn, tmp_path, tenant) as opened:
        yield opened


# -- what goes wrong around it


async def test_without_a_model_it_says_at_once_which_setting_to_make(
    opened: Opened, tenant: str
) -> None:
    ground = await opened(None)
    message = await refused(
        ground.control(tenant).start_policy_generation(
            policyEngineId=ENGINE_ID, resource={"arn": gateway_arn(tenant)},
            content={"rawText": READ}, name="house",
        ),
        "ValidationException",
    )  # fmt: skip
    assert "OPENAI_API_KEY" in message and "docs/models.md" in message


@pytest.mark.parametrize(
    ("status", "words"),
    [(503, "the model cannot be had"), (429, "slow down"), (400, "refuses the request")],
)
async def test_a_model_that_fails_fails_the_generation_with_its_words(
    opened: Opened, tenant: str, status: int, words: str
) -> None:
    ground = await opened([Rule(reply="out of order", status=status)])
    ended = await ground.ended(tenant, await ground.started(tenant, READ))
    assert ended["status"] == "GENERATE_FAILED" and words in ended["statusReasons"][0]
    assert len(ground.asked()) == (2 if status == 400 else 3)


async def test_without_a_proof_nothing_is_offered(opened: Opened, tenant: str) -> None:
    reasoning = SaidFindings({})
    reasoning.trouble = Unavailable("there is no solver")
    ground = await opened([proposed((READ, permit(tenant, BALANCE)))], reasoning=reasoning)
    id = await ground.started(tenant, READ)
    ended = await ground.ended(tenant, id)
    assert ended["status"] == "GENERATE_FAILED" and "no solver" in ended["statusReasons"][0]
    assert await ground.assets(tenant, id) == []


async def test_an_error_of_the_platforms_own_does_not_leave_it_generating(
    opened: Opened, tenant: str
) -> None:
    reasoning = SaidFindings({})
    reasoning.trouble = KeyError("secret detail")
    ground = await opened([proposed((READ, permit(tenant, BALANCE)))], reasoning=reasoning)
    ended = await ground.ended(tenant, await ground.started(tenant, READ))
    assert ended["status"] == "GENERATE_FAILED"
    assert "secret detail" not in str(ended["statusReasons"])


# -- asked for


async def test_what_is_asked_wrongly_is_refused(opened: Opened, tenant: str) -> None:
    ground = await opened([proposed()])
    start = ground.control(tenant).start_policy_generation
    right: dict[str, Any] = {
        "policyEngineId": ENGINE_ID, "resource": {"arn": gateway_arn(tenant)},
        "content": {"rawText": READ}, "name": "house",
    }  # fmt: skip
    runtime = gateway_arn(tenant).replace("gateway/", "runtime/")
    for wrong, code in (
        ({"resource": {"arn": runtime}}, "ValidationException"),
        ({"resource": {"arn": gateway_arn(tenant, "no-0123456789")}}, "ResourceNotFoundException"),
        ({"resource": {"arn": gateway_arn("111111111111")}}, "ResourceNotFoundException"),
        ({"policyEngineId": "none-0123456789"}, "ResourceNotFoundException"),
        ({"content": {"rawText": " ...\n"}}, "ValidationException"),
        ({"content": {"rawText": "x" * 2001}}, "ValidationException"),
    ):  # fmt: skip
        await refused(start(**{**right, **wrong}), code)


async def test_another_account_finds_nothing(opened: Opened, tenant: str) -> None:
    ground = await opened([proposed((READ, permit(tenant, BALANCE)))])
    id = await ground.started(tenant, READ)
    await ground.ended(tenant, id)
    (asset,) = await ground.assets(tenant, id)
    other = ground.control("222222222222")
    keys = {"policyEngineId": ENGINE_ID, "policyGenerationId": id}
    for operation in (
        other.get_policy_generation,
        other.get_policy_generation_summary,
        other.list_policy_generation_assets,
    ):
        await refused(operation(**keys), "ResourceNotFoundException")
    for operation in (other.list_policy_generations, other.list_policy_generation_summaries):
        await refused(operation(policyEngineId=ENGINE_ID), "ResourceNotFoundException")
    with pytest.raises(NotFound):
        await ground.generations.statement(
            "222222222222", ENGINE_ID, id, asset["policyGenerationAssetId"]
        )


async def test_the_same_client_token_starts_one_generation(opened: Opened, tenant: str) -> None:
    ground = await opened([proposed((READ, permit(tenant, BALANCE)))])
    first = await ground.started(tenant, READ, clientToken="a" * 40)
    await ground.ended(tenant, first)
    again = await ground.control(tenant).start_policy_generation(
        policyEngineId=ENGINE_ID, resource={"arn": gateway_arn(tenant)},
        content={"rawText": READ}, name="house", clientToken="a" * 40,
    )  # fmt: skip
    assert (again["policyGenerationId"], again["status"]) == (first, "GENERATED")
    assert len(ground.asked()) == 1


async def test_generations_and_assets_are_listed_in_pages(opened: Opened, tenant: str) -> None:
    ground = await opened([proposed((READ, permit(tenant, BALANCE)), (LARGE, ""))])
    client = ground.control(tenant)
    made = [await ground.started(tenant, TEXT, name=f"rule_{n}") for n in range(3)]
    for id in made:
        await ground.ended(tenant, id)
    for operation in (client.list_policy_generations, client.list_policy_generation_summaries):
        found: list[dict[str, Any]] = []
        token: dict[str, str] = {}
        while True:
            page = await operation(policyEngineId=ENGINE_ID, maxResults=2, **token)
            found += page["policyGenerations"]
            if "nextToken" not in page:
                break
            token = {"nextToken": page["nextToken"]}
        assert [each["policyGenerationId"] for each in found] == made
    keys = {"policyEngineId": ENGINE_ID, "policyGenerationId": made[0]}
    summary = await client.get_policy_generation_summary(**keys)
    assert summary["status"] == "GENERATED" and "statusReasons" not in summary
    first = await client.list_policy_generation_assets(**keys, maxResults=1)
    second = await client.list_policy_generation_assets(
        **keys, maxResults=1, nextToken=first["nextToken"]
    )
    pages = first["policyGenerationAssets"] + second["policyGenerationAssets"]
    assert [each["rawTextFragment"] for each in pages] == [READ, LARGE]
    assert "nextToken" not in second
    other = {"policyEngineId": ENGINE_ID, "policyGenerationId": made[1]}
    await refused(
        client.list_policy_generation_assets(**other, nextToken=first["nextToken"]),
        "ValidationException",
    )


async def test_an_asset_gives_its_statement_to_create_policy(opened: Opened, tenant: str) -> None:
    ground = await opened([proposed((READ, permit(tenant, BALANCE)))])
    id = await ground.started(tenant, READ)
    await ground.ended(tenant, id)
    (asset,) = await ground.assets(tenant, id)
    given = await ground.generations.statement(
        tenant, ENGINE_ID, id, asset["policyGenerationAssetId"]
    )
    assert given == statement(asset)
    with pytest.raises(NotFound, match="has no asset"):
        await ground.generations.statement(tenant, ENGINE_ID, id, "asset-0000000000")


async def test_assets_are_kept_for_a_time_and_then_go(opened: Opened, tenant: str) -> None:
    ground = await opened([proposed((READ, permit(tenant, BALANCE)))], kept=timedelta(0))
    old = await ground.started(tenant, READ)
    await ground.ended(tenant, old)
    keys = {"policyEngineId": ENGINE_ID, "policyGenerationId": old}
    client = ground.control(tenant)
    message = await refused(
        client.list_policy_generation_assets(**keys), "ResourceNotFoundException"
    )
    assert "gone" in message
    await ground.ended(tenant, await ground.started(tenant, READ))  # starting sweeps
    await refused(client.get_policy_generation(**keys), "ResourceNotFoundException")


async def test_so_many_may_be_under_way_at_once(
    fresh_dsn: Any, tmp_path: Path, tenant: str
) -> None:
    ground = GenerationGround(await fresh_dsn(), tmp_path, [proposed()], works=False)
    async with ground.open():
        await ground.settle_in(tenant)
        for _ in range(10):
            await ground.started(tenant, READ)
        await refused(
            ground.control(tenant).start_policy_generation(
                policyEngineId=ENGINE_ID, resource={"arn": gateway_arn(tenant)},
                content={"rawText": READ}, name="house",
            ),
            "ThrottlingException",
        )  # fmt: skip


# -- crashes


class Waiting:
    """A model that answers when a test lets it, and takes no tools."""

    def __init__(self, *answers: str) -> None:
        self.asked, self.go = asyncio.Event(), asyncio.Event()
        self.answers = list(answers)

    async def complete(
        self, messages: Sequence[Message], *, tools: Sequence[Tool] = (), **_: Any
    ) -> Completion:
        if tools:
            raise ValidationFailed("this model does not support tools")
        self.asked.set()
        await self.go.wait()
        return Completion(text=self.answers.pop(0), tool_calls=(), usage=Usage(), model="m")

    def stream(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("nobody streams here")

    async def close(self) -> None:
        pass


def said(*policies: tuple[str, str]) -> str:
    return msgspec.json.encode(
        {"policies": [{"fragment": f, "statement": s} for f, s in policies]}
    ).decode()


async def test_a_worker_that_dies_in_the_middle_is_followed_by_one_that_does_it_once(
    fresh_dsn: Any, tmp_path: Path, tenant: str
) -> None:
    dsn, answer = await fresh_dsn(), said((READ, permit(tenant, BALANCE)))
    first_model = Waiting(answer)
    first = GenerationGround(dsn, tmp_path, None, models=first_model, executor="first")
    async with first.open():
        await first.settle_in(tenant)
        id = await first.started(tenant, READ)
        async with asyncio.timeout(10):
            await first_model.asked.wait()
        shown = await first.control(tenant).get_policy_generation(
            policyEngineId=ENGINE_ID, policyGenerationId=id
        )
        assert shown["statusReasons"] == ["the model is asked"]
        assert await first.assets(tenant, id) == []
    second_model = Waiting(answer)
    second_model.go.set()
    second = GenerationGround(dsn, tmp_path, None, models=second_model, executor="second")
    second.gateways.add(tenant)
    async with second.open():
        assert (await second.ended(tenant, id))["status"] == "GENERATED"
        assert len(await second.assets(tenant, id)) == 1
        # The dead one comes back to life with another answer: what is settled stays.
        before = await second.assets(tenant, id)
        payload = {"tenant": tenant, "engine_id": ENGINE_ID, "generation_id": id}
        await second.generations.work(payload)
        assert await second.assets(tenant, id) == before


async def test_of_two_workers_at_the_same_generation_one_has_its_way(
    fresh_dsn: Any, tmp_path: Path, tenant: str
) -> None:
    dsn = await fresh_dsn()
    slow = Waiting(said((READ, permit(tenant, BALANCE)), (LARGE, forbid(tenant, TRANSFER))))
    quick = Waiting(said((READ, permit(tenant, TRANSFER))))
    quick.go.set()
    one = GenerationGround(dsn, tmp_path, None, models=slow, works=False)
    other = GenerationGround(dsn, tmp_path, None, models=quick, works=False)
    async with one.open(), other.open():
        await one.settle_in(tenant)
        other.gateways.add(tenant)
        id = await one.started(tenant, TEXT)
        payload = {"tenant": tenant, "engine_id": ENGINE_ID, "generation_id": id}
        late = asyncio.create_task(one.generations.work(payload))
        async with asyncio.timeout(10):
            await slow.asked.wait()
            await other.generations.work(payload)
            before = await other.assets(tenant, id)
            slow.go.set()
            await late
        assert await one.assets(tenant, id) == before
        assert TRANSFER in statement(before[0])


async def test_what_a_crash_left_without_a_job_is_taken_up(
    fresh_dsn: Any, tmp_path: Path, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn = await fresh_dsn()
    ground = GenerationGround(dsn, tmp_path, [proposed((READ, permit(tenant, BALANCE)))])
    async with ground.open():
        await ground.settle_in(tenant)

        async def dies(*_: Any, **__: Any) -> None:
            raise Unavailable("the process ends here")

        with monkeypatch.context() as patched:
            patched.setattr(ground.jobs, "enqueue", dies)
            with pytest.raises(ClientError):
                await ground.started(tenant, READ)
        await ground.generations.take_up()
        (left,) = (await ground.generations.page(tenant, ENGINE_ID, None, None)).items
        assert (await ground.ended(tenant, left.id))["status"] == "GENERATED"
        assert await ground.jobs.get(f"{GENERATION_JOB}/{tenant}/{ENGINE_ID}/{left.id}")


async def test_an_engine_that_is_deleted_meanwhile_takes_its_generation_along(
    fresh_dsn: Any, tmp_path: Path, tenant: str
) -> None:
    model = Waiting(said((READ, permit(tenant, BALANCE))))
    ground = GenerationGround(await fresh_dsn(), tmp_path, None, models=model, works=False)
    async with ground.open():
        await ground.settle_in(tenant)
        id = await ground.started(tenant, READ)
        payload = {"tenant": tenant, "engine_id": ENGINE_ID, "generation_id": id}
        work = asyncio.create_task(ground.generations.work(payload))
        async with asyncio.timeout(10):
            await model.asked.wait()
            await ground.resources.delete(tenant, ENGINE, ENGINE_ID)
            model.go.set()
            await work
        with pytest.raises(NotFound):
            await ground.generations.get(tenant, ENGINE_ID, id)
