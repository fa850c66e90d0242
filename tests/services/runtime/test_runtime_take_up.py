"""After a crash no agent runtime stays in CREATING: its build is taken up, or its failure told."""

import asyncio
import secrets
from typing import Any

from freehold.adapters.jobs.postgres import PostgresJobs
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.postgres.resources import PostgresResources
from freehold.kernel import ids
from freehold.ports.jobs import JobState
from freehold.ports.resources import Resource
from freehold.services.runtime.model import DEFAULT_ENDPOINT, ENDPOINT, RUNTIME
from freehold.services.runtime.ports import Built
from freehold.services.runtime.service import BUILD_JOB, RuntimeBuilds


class NoBuilder:
    async def build(self, tenant: str, document: dict[str, Any], build_id: str) -> Built:
        raise AssertionError("nothing is built here")


async def half_created(resources: PostgresResources, tenant: str) -> Resource:
    """What a crash between the row and the enqueueing leaves."""
    runtime, _ = await resources.create(
        tenant, RUNTIME, id=ids.suffixed("agent"), name="agent", status="CREATING", document={}
    )
    await resources.create(
        tenant, ENDPOINT, id=ids.suffixed(DEFAULT_ENDPOINT), name=DEFAULT_ENDPOINT,
        status="CREATING", parent=runtime.id, document={"targetVersion": 1},
    )  # fmt: skip
    return runtime


def job_id(runtime: Resource) -> str:
    return f"{BUILD_JOB}-{runtime.tenant}-{runtime.id}-1"


async def test_a_build_that_was_never_enqueued_is(database: PostgresDatabase, tenant: str) -> None:
    resources = PostgresResources(database, region="us-east-1")
    jobs = PostgresJobs(database, executor=f"test-{secrets.token_hex(4)}")
    runtime = await half_created(resources, tenant)
    assert await jobs.get(job_id(runtime)) is None
    await RuntimeBuilds(resources=resources, builder=NoBuilder()).take_up(jobs)
    job = await jobs.get(job_id(runtime))
    assert job is not None
    assert job.state is JobState.QUEUED


async def test_a_build_that_gave_up_makes_the_runtime_fail_with_the_reason(
    database: PostgresDatabase, tenant: str
) -> None:
    resources = PostgresResources(database, region="us-east-1")
    runtime = await half_created(resources, tenant)
    jobs = PostgresJobs(database, executor=f"test-{secrets.token_hex(4)}", backoff_seconds=0.01)
    ended = asyncio.Event()

    async def work(payload: dict[str, Any]) -> None:
        if payload["runtime_id"] == runtime.id:
            ended.set()
        raise OSError("the disk is full")

    jobs.register(BUILD_JOB, work, concurrency=4, attempts_max=1)
    builds = RuntimeBuilds(resources=resources, builder=NoBuilder())
    await builds.take_up(jobs)
    await jobs.start()
    async with asyncio.timeout(20):
        await ended.wait()
        while (job := await jobs.get(job_id(runtime))) and job.state is not JobState.FAILED:
            await asyncio.sleep(0.01)
    await builds.take_up(jobs)
    await jobs.close()
    seen = await resources.get(tenant, RUNTIME, runtime.id)
    assert seen.status == "CREATE_FAILED"
    assert "the disk is full" in seen.document["_failure"]
