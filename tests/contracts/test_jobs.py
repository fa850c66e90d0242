"""What every adapter of the jobs port promises, on a real database and real worker processes."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Protocol

import pytest

from freehold.adapters.jobs import PostgresJobs
from freehold.adapters.postgres.embedded import EmbeddedPostgres
from freehold.adapters.postgres.migrations import components_under, migrate
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.kernel.errors import Unavailable
from freehold.ports.database import Connection, Database
from freehold.ports.jobs import Job, Jobs, JobState

BOUND_SECONDS = 20
LONG_LEASE_SECONDS = 3600.0  # a test that had to wait for it would fail


class MakeJobs(Protocol):
    def __call__(
        self, executor: str, *, lease_seconds: float = ..., database: Database | None = ...
    ) -> Jobs: ...


@pytest.fixture
async def dsn(fresh_dsn: Any) -> str:
    return str(await fresh_dsn())


@pytest.fixture
async def store(dsn: str) -> AsyncIterator[PostgresDatabase]:
    database = PostgresDatabase(dsn, pool_size_max=8, application_name="jobs tests")
    await database.start()
    yield database
    await database.close()


@pytest.fixture
async def make_jobs(store: PostgresDatabase) -> AsyncIterator[MakeJobs]:
    made: list[Jobs] = []

    def make(
        executor: str,
        *,
        lease_seconds: float = LONG_LEASE_SECONDS,
        database: Database | None = None,
    ) -> Jobs:
        jobs = PostgresJobs(
            database or store, executor=executor, lease_seconds=lease_seconds, backoff_seconds=0.02
        )
        made.append(jobs)
        return jobs

    yield make
    for jobs in made:
        await jobs.close()


async def until_ended(jobs: Jobs, id: str) -> Job:
    async with asyncio.timeout(BOUND_SECONDS):
        while True:
            job = await jobs.get(id)
            if job is not None and job.state in (JobState.DONE, JobState.FAILED):
                return job
            await asyncio.sleep(0.01)


async def within_bound(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), BOUND_SECONDS)


async def test_a_job_runs_once_with_its_payload_as_it_was_given(make_jobs: MakeJobs) -> None:
    jobs = make_jobs("a")
    seen: list[dict[str, Any]] = []

    async def work(payload: dict[str, Any]) -> None:
        seen.append(payload)

    jobs.register("echo", work, concurrency=1)
    await jobs.start()
    payload = {"text": "naïve \x00 ☃", "number": 1.5, "nested": [{"b": None, "a": True}]}
    await jobs.enqueue("echo", payload, id="j")

    job = await until_ended(jobs, "j")
    assert (job.kind, job.state, job.attempts, job.error) == ("echo", JobState.DONE, 1, None)
    assert seen == [payload]


async def test_the_same_id_again_does_nothing_before_and_after_it_ran(make_jobs: MakeJobs) -> None:
    jobs = make_jobs("a")
    seen: list[int] = []

    async def work(payload: dict[str, Any]) -> None:
        seen.append(payload["n"])

    jobs.register("count", work, concurrency=4)
    await jobs.enqueue("count", {"n": 1}, id="j")
    await jobs.enqueue("count", {"n": 2}, id="j")
    await jobs.start()
    await until_ended(jobs, "j")
    await jobs.enqueue("count", {"n": 3}, id="j")
    await jobs.enqueue("count", {"n": 4}, id="later")
    await until_ended(jobs, "later")
    assert seen == [1, 4]


async def test_a_job_nobody_enqueued_is_none(make_jobs: MakeJobs) -> None:
    assert await make_jobs("a").get("unknown") is None


async def test_an_error_is_tried_again_until_the_limit_then_failed_with_its_text(
    make_jobs: MakeJobs,
) -> None:
    jobs = make_jobs("a")
    runs: list[float] = []

    async def work(payload: dict[str, Any]) -> None:
        runs.append(asyncio.get_running_loop().time())
        raise RuntimeError(f"no luck with {payload['what']}")

    jobs.register("hopeless", work, concurrency=1, attempts_max=3)
    await jobs.start()
    await jobs.enqueue("hopeless", {"what": "cheese"}, id="j")

    job = await until_ended(jobs, "j")
    assert (job.state, job.attempts) == (JobState.FAILED, 3)
    assert job.error == "no luck with cheese"
    assert len(runs) == 3
    assert runs[1] - runs[0] >= 0.014 and runs[2] - runs[1] >= 0.028


async def test_an_error_that_passes_ends_in_done(make_jobs: MakeJobs) -> None:
    jobs = make_jobs("a")
    runs: list[None] = []

    async def work(_: dict[str, Any]) -> None:
        runs.append(None)
        if len(runs) == 1:
            raise OSError("once")

    jobs.register("shaky", work, concurrency=1)
    await jobs.start()
    await jobs.enqueue("shaky", {}, id="j")
    job = await until_ended(jobs, "j")
    assert (job.state, job.attempts, job.error) == (JobState.DONE, 2, None)


async def test_a_kind_never_runs_above_its_concurrency_and_does_reach_it(
    make_jobs: MakeJobs,
) -> None:
    jobs = make_jobs("a")
    now, most = 0, 0

    async def work(_: dict[str, Any]) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.02)
        now -= 1

    jobs.register("limited", work, concurrency=3)
    for n in range(12):
        await jobs.enqueue("limited", {}, id=f"j{n}")
    await jobs.start()
    for n in range(12):
        await until_ended(jobs, f"j{n}")
    assert most == 3


async def test_a_full_kind_does_not_hold_up_another(make_jobs: MakeJobs) -> None:
    jobs = make_jobs("a")
    release = asyncio.Event()

    async def slow(_: dict[str, Any]) -> None:
        await release.wait()

    async def quick(_: dict[str, Any]) -> None: ...

    jobs.register("slow", slow, concurrency=1)
    jobs.register("quick", quick, concurrency=1)
    await jobs.start()
    await jobs.enqueue("slow", {}, id="s1")
    await jobs.enqueue("slow", {}, id="s2")
    await jobs.enqueue("quick", {}, id="q")
    assert (await until_ended(jobs, "q")).state is JobState.DONE
    release.set()
    await until_ended(jobs, "s2")


async def test_many_workers_share_the_work_and_run_each_job_once(make_jobs: MakeJobs) -> None:
    ran: list[str] = []
    workers = [make_jobs(f"w{n}") for n in range(3)]
    for jobs in workers:

        async def work(payload: dict[str, Any]) -> None:
            ran.append(payload["id"])
            await asyncio.sleep(0)

        jobs.register("shared", work, concurrency=2)
        await jobs.start()
    client = make_jobs("client")
    ids = [f"j{n}" for n in range(30)]
    await asyncio.gather(*(client.enqueue("shared", {"id": id}, id=id) for id in ids))
    for id in ids:
        assert (await until_ended(client, id)).attempts == 1
    assert sorted(ran) == sorted(ids)


async def test_a_job_outlives_its_lease_without_running_twice(make_jobs: MakeJobs) -> None:
    begun: list[str] = []
    for name in ("a", "b"):
        jobs = make_jobs(name, lease_seconds=0.4)

        async def work(_: dict[str, Any], name: str = name) -> None:
            begun.append(name)
            await asyncio.sleep(1.4)

        jobs.register("long", work, concurrency=1)
        await jobs.start()
    await jobs.enqueue("long", {}, id="j")
    assert (await until_ended(jobs, "j")).attempts == 1
    assert len(begun) == 1


async def test_closing_a_worker_hands_its_job_to_another_at_once(make_jobs: MakeJobs) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def never_ends(_: dict[str, Any]) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def ends(_: dict[str, Any]) -> None:
        assert cancelled.is_set(), "two runs at one time"

    first, second = make_jobs("first"), make_jobs("second")
    first.register("moved", never_ends, concurrency=1)
    await first.start()
    await first.enqueue("moved", {}, id="j")
    await within_bound(begun)
    second.register("moved", ends, concurrency=1)
    await second.start()

    await first.close()
    job = await until_ended(second, "j")
    assert (job.state, job.attempts) == (JobState.DONE, 2)


class Severable:
    """A database that this process loses while others keep it. Counts what is asked of it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.severed = False
        self.asked = 0

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        self.asked += 1
        if self.severed:
            raise Unavailable("severed")
        async with self._database.connection() as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def notify(self, connection: Connection, channel: str, payload: str) -> None:
        await self._database.notify(connection, channel, payload)

    def listen(self, channel: str, heard: Callable[[str], Any]) -> None:
        self._database.listen(channel, heard)


async def test_a_worker_cut_off_from_the_database_stops_before_another_begins(
    make_jobs: MakeJobs, store: PostgresDatabase
) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()
    severable = Severable(store)

    async def never_ends(_: dict[str, Any]) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def ends(_: dict[str, Any]) -> None:
        assert cancelled.is_set(), "two runs at one time"

    cut_off = make_jobs("cut off", lease_seconds=1, database=severable)
    other = make_jobs("other", lease_seconds=1)
    cut_off.register("guarded", never_ends, concurrency=1)
    await cut_off.start()
    await cut_off.enqueue("guarded", {}, id="j")
    await within_bound(begun)
    severable.severed = True
    other.register("guarded", ends, concurrency=1, attempts_max=1)
    await other.start()
    job = await until_ended(other, "j")
    assert (job.state, job.error, job.attempts) == (JobState.DONE, None, 2)


async def test_an_idle_worker_asks_the_database_nothing(
    make_jobs: MakeJobs, store: PostgresDatabase
) -> None:
    counted = Severable(store)
    jobs = make_jobs("idle", lease_seconds=0.2, database=counted)

    async def work(_: dict[str, Any]) -> None: ...

    jobs.register("rare", work, concurrency=2)
    await jobs.start()
    await jobs.enqueue("rare", {}, id="j")
    await until_ended(jobs, "j")
    async with asyncio.timeout(BOUND_SECONDS):  # what follows the end of a run settles
        before = -1
        while before != counted.asked:
            before = counted.asked
            await asyncio.sleep(0.3)
    await asyncio.sleep(1)
    assert counted.asked == before


WORKER = """
import asyncio, sys
from freehold.adapters.jobs import PostgresJobs
from freehold.adapters.postgres.pool import PostgresDatabase

dsn, executor, lease_seconds, ends = sys.argv[1:]

async def work(payload):
    print("begun", payload["name"], flush=True)
    if ends == "never":
        await asyncio.Event().wait()

async def main():
    database = PostgresDatabase(dsn)
    jobs = PostgresJobs(database, executor=executor, lease_seconds=float(lease_seconds))
    jobs.register("crashing", work, concurrency=1)
    await database.start()
    await jobs.start()
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


class Worker:
    """A worker in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def says(self, expected: str) -> None:
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), BOUND_SECONDS)
        assert line.decode().strip() == expected

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)
        await self._process.wait()


@pytest.fixture
async def start_worker(dsn: str) -> AsyncIterator[Any]:
    workers: list[Worker] = []

    async def start(executor: str, *, lease_seconds: float, ends: str) -> Worker:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            WORKER,
            dsn,
            executor,
            str(lease_seconds),
            ends,
            stdout=asyncio.subprocess.PIPE,
            env=dict(os.environ),
        )
        worker = Worker(process)
        workers.append(worker)
        await worker.says("ready")
        return worker

    yield start
    for worker in workers:
        await worker.kill()


async def test_a_job_enqueued_while_no_worker_lives_starts_when_one_comes(
    make_jobs: MakeJobs, start_worker: Any
) -> None:
    client = make_jobs("client")
    await client.enqueue("crashing", {"name": "patient"}, id="j")
    worker = await start_worker("w", lease_seconds=LONG_LEASE_SECONDS, ends="soon")
    await worker.says("begun patient")
    assert (await until_ended(client, "j")).state is JobState.DONE


async def test_a_job_enqueued_from_another_process_wakes_a_waiting_worker(
    make_jobs: MakeJobs, start_worker: Any
) -> None:
    worker = await start_worker("w", lease_seconds=LONG_LEASE_SECONDS, ends="soon")
    client = make_jobs("client")
    await client.enqueue("crashing", {"name": "prompt"}, id="j")
    await worker.says("begun prompt")


async def test_a_killed_worker_that_comes_back_runs_its_job_again_at_once(
    make_jobs: MakeJobs, start_worker: Any
) -> None:
    client = make_jobs("client")
    worker = await start_worker("w", lease_seconds=LONG_LEASE_SECONDS, ends="never")
    await client.enqueue("crashing", {"name": "x"}, id="j")
    await worker.says("begun x")
    await worker.kill()

    again = await start_worker("w", lease_seconds=LONG_LEASE_SECONDS, ends="soon")
    await again.says("begun x")
    job = await until_ended(client, "j")
    assert (job.state, job.attempts, job.error) == (JobState.DONE, 2, None)


async def test_the_job_of_a_worker_that_never_comes_back_is_taken_over(
    make_jobs: MakeJobs, start_worker: Any
) -> None:
    client = make_jobs("client")
    dying = await start_worker("dying", lease_seconds=1, ends="never")
    await client.enqueue("crashing", {"name": "x"}, id="j")
    await dying.says("begun x")
    heir = await start_worker("heir", lease_seconds=1, ends="soon")
    await dying.kill()
    await heir.says("begun x")
    job = await until_ended(client, "j")
    assert (job.state, job.attempts, job.error) == (JobState.DONE, 2, None)


async def test_crashes_do_not_count_as_errors(make_jobs: MakeJobs, start_worker: Any) -> None:
    client = make_jobs("client")
    await client.enqueue("crashing", {"name": "x"}, id="j")
    for _ in range(4):  # more than attempts_max
        worker = await start_worker("w", lease_seconds=LONG_LEASE_SECONDS, ends="never")
        await worker.says("begun x")
        await worker.kill()
    last = await start_worker("w", lease_seconds=LONG_LEASE_SECONDS, ends="soon")
    await last.says("begun x")
    job = await until_ended(client, "j")
    assert (job.state, job.attempts) == (JobState.DONE, 5)


async def test_work_goes_on_over_a_restart_of_the_database(open_directory: Path) -> None:
    user = "nobody" if os.geteuid() == 0 else None
    server = EmbeddedPostgres(open_directory / "restarted", user=user, durable=False)
    dsn = await server.start()
    package = Path(sys.modules["freehold"].__file__ or "").parent
    await migrate(dsn, components_under(package))
    store = PostgresDatabase(dsn)
    jobs = PostgresJobs(store, executor="w", lease_seconds=30)
    begun, release = asyncio.Event(), asyncio.Event()

    async def work(_: dict[str, Any]) -> None:
        begun.set()
        await release.wait()

    jobs.register("durable", work, concurrency=2)
    try:
        await store.start()
        await jobs.start()
        await jobs.enqueue("durable", {}, id="before")
        await within_bound(begun)
        await server.stop()
        release.set()  # the outcome must wait for the database
        assert await server.start() == dsn
        assert (await until_ended(jobs, "before")).attempts == 1
        await jobs.enqueue("durable", {}, id="after")
        await until_ended(jobs, "after")
    finally:
        await jobs.close()
        await store.close()
        await server.stop()
