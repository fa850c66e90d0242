"""Extractions that were given up: listed, and started again, by boto3."""

import uuid

import pytest
from botocore.exceptions import ClientError
from extraction_ground import ModelDouble, ground_on, semantic
from memory_ground import MemoryGround

from freehold.kernel.errors import ValidationFailed
from freehold.services.memory import jobs_api

NO = ValidationFailed("not today")


@pytest.fixture
async def model():
    return ModelDouble()


@pytest.fixture
async def ground(fresh_dsn, model):
    async with ground_on(await fresh_dsn(), model) as ground:
        yield ground


@pytest.fixture
async def api(ground, tmp_path):
    jobs = jobs_api.FailedJobs(ground.database, ground.memories, ground.extraction)
    served = MemoryGround(
        ground.database, tmp_path, memories=ground.memories, learning=ground.extraction,
        more=lambda _: jobs_api.handlers(jobs),
    )  # fmt: skip
    async with served.open():
        yield served


async def test_a_failed_extraction_is_listed_and_started_again(ground, api, tenant, model):
    memory = ground.memories.make(tenant, strategies=(semantic(),))
    client = api.client(tenant)
    model.answers = [NO]
    event = await ground.said(memory, "city is Rome", ("ASSISTANT", "nice"))
    await ground.drain()
    (job,) = (await client.list_memory_extraction_jobs(memoryId=memory.id))["jobs"]
    assert job == {
        "jobID": job["jobID"], "status": "FAILED", "strategyId": memory.strategies[0].id,
        "actorId": "anna", "sessionId": "s1",
        "failureReason": "the model refuses the request: not today",
        "messages": {"messagesList": [
            {"eventId": event.id, "messageIndex": 0}, {"eventId": event.id, "messageIndex": 1}]},
    }  # fmt: skip
    for _ in range(2):
        started = await client.start_memory_extraction_job(
            memoryId=memory.arn, extractionJob={"jobId": job["jobID"]}
        )
        assert started["jobId"] == job["jobID"]
    assert await ground.drain() == 1
    assert await ground.texts(memory) == ["city is Rome", "nice"]
    assert (await client.list_memory_extraction_jobs(memoryId=memory.id))["jobs"] == []


async def test_lists_have_pages_and_filters(ground, api, tenant, model):
    memory = ground.memories.make(tenant, strategies=(semantic(),))
    client = api.client(tenant)
    model.answers = [NO] * 5
    for n in range(5):
        await ground.said(memory, "city is Rome", session=f"s{n}", actor=f"a{n % 2}")
    await ground.drain()
    found, token = [], {}
    while True:
        page = await client.list_memory_extraction_jobs(memoryId=memory.id, maxResults=2, **token)
        found += [job["sessionId"] for job in page["jobs"]]
        if "nextToken" not in page:
            break
        token = {"nextToken": page["nextToken"]}
    assert sorted(found) == ["s0", "s1", "s2", "s3", "s4"]
    of_one = await client.list_memory_extraction_jobs(
        memoryId=memory.id, filter={"actorId": "a1", "status": "FAILED"}
    )
    assert sorted(job["sessionId"] for job in of_one["jobs"]) == ["s1", "s3"]
    none = await client.list_memory_extraction_jobs(
        memoryId=memory.id, filter={"actorId": "a1", "sessionId": "s0"}
    )
    assert none["jobs"] == []


async def test_a_failed_extraction_forgets_what_is_unsaid(ground, api, tenant, model):
    memory = ground.memories.make(tenant, strategies=(semantic(),))
    client = api.client(tenant)
    model.answers = [NO]
    first = await ground.said(memory, "city is Rome", minute=1)
    second = await ground.said(memory, "dog is Rex", minute=2)
    await ground.drain()
    await ground.delete(first)
    (job,) = (await client.list_memory_extraction_jobs(memoryId=memory.id))["jobs"]
    assert [each["eventId"] for each in job["messages"]["messagesList"]] == [second.id]
    await ground.delete(second)
    assert (await client.list_memory_extraction_jobs(memoryId=memory.id))["jobs"] == []


async def test_a_job_of_another_tenant_is_not_there(ground, api, tenant, model):
    memory = ground.memories.make(tenant, strategies=(semantic(),))
    other = ground.memories.make("444455556666", strategies=(semantic(),))
    model.answers = [NO]
    await ground.said(memory, "city is Rome")
    await ground.drain()
    (job,) = (await api.client(tenant).list_memory_extraction_jobs(memoryId=memory.id))["jobs"]
    stranger = api.client("444455556666")
    for memory_id, job_id in ((memory.id, job["jobID"]), (other.id, job["jobID"])):
        with pytest.raises(ClientError) as error:
            await stranger.start_memory_extraction_job(
                memoryId=memory_id, extractionJob={"jobId": job_id}
            )
        assert error.value.response["Error"]["Code"] == "ResourceNotFoundException"


async def test_a_job_that_there_is_not_is_not_started(ground, api, tenant):
    memory = ground.memories.make(tenant, strategies=(semantic(),))
    with pytest.raises(ClientError) as error:
        await api.client(tenant).start_memory_extraction_job(
            memoryId=memory.id, extractionJob={"jobId": str(uuid.uuid4())}
        )
    assert error.value.response["Error"]["Code"] == "ResourceNotFoundException"
