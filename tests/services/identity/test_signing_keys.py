"""Keys that rotate while tokens are made and read; and workers that die in the middle of it."""

import asyncio
import base64
import contextlib
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from identity_ground import SCHEDULE, Clock, MakeDsn, Worker, parts, soon

from freehold.adapters.secrets.envelope import EnvelopeSealer
from freehold.adapters.secrets.keyring import Keyring
from freehold.adapters.secrets.rewrapping import SealedValues
from freehold.kernel.errors import Unavailable
from freehold.ports.tokens import TokenRefused
from freehold.ports.workloads import Workload

pytestmark = pytest.mark.timeout(60)

HASTY = SCHEDULE.__class__(
    rotation=timedelta(seconds=0.6), ahead=timedelta(seconds=0.3), kept=timedelta(seconds=3)
)


def signing(worker: Worker) -> str:
    return worker.keys.signing()[0]


def published(worker: Worker) -> set[str]:
    return {key["kid"] for key in worker.keys.published()}


@pytest.fixture
async def dsn(fresh_dsn: MakeDsn) -> str:
    """A database whose keys no other test rotates."""
    return await fresh_dsn()


async def test_workers_that_start_together_make_one_key(new_worker: Any, dsn: str) -> None:
    workers = await asyncio.gather(*(new_worker(dsn) for _ in range(4)))
    assert len({signing(worker) for worker in workers}) == 1
    assert len({worker.tokens.audience for worker in workers}) == 1
    assert all(len(published(worker)) == 1 for worker in workers)


async def test_a_key_is_published_before_it_signs_and_until_its_last_token_has_ended(
    new_worker: Any, dsn: str
) -> None:
    clock = Clock()
    worker: Worker = await new_worker(dsn, clock=clock)
    await worker.keys.close()  # the test does what its keeper would
    first = signing(worker)

    clock.ahead = SCHEDULE.rotation - SCHEDULE.ahead - timedelta(minutes=1)
    assert not await worker.keys.rotate_when_due()
    clock.ahead = SCHEDULE.rotation - SCHEDULE.ahead + timedelta(minutes=1)
    assert await worker.keys.rotate_when_due()
    [second] = published(worker) - {first}
    assert signing(worker) == first

    clock.ahead = SCHEDULE.rotation + timedelta(minutes=2)
    assert signing(worker) == second
    assert published(worker) == {first, second}
    clock.ahead += SCHEDULE.kept - timedelta(minutes=2)
    assert not await worker.keys.rotate_when_due()
    clock.ahead += timedelta(minutes=2)
    assert await worker.keys.rotate_when_due()
    assert published(worker) == {second}


async def test_a_platform_that_was_off_for_months_still_publishes_before_it_signs(
    new_worker: Any, dsn: str
) -> None:
    before: Worker = await new_worker(dsn)
    clock = Clock()
    clock.ahead = 5 * SCHEDULE.rotation
    after: Worker = await new_worker(dsn, clock=clock)
    assert signing(after) == signing(before)
    assert len(published(after)) == 2
    clock.ahead += SCHEDULE.ahead
    assert signing(after) != signing(before)


async def test_every_worker_hears_of_a_new_key_before_it_signs(new_worker: Any, dsn: str) -> None:
    clock = Clock()
    rotating: Worker = await new_worker(dsn, clock=clock)
    hearing: Worker = await new_worker(dsn)
    before = published(hearing)
    clock.ahead = SCHEDULE.rotation
    await rotating.keys.rotate_when_due()
    assert await soon(lambda: published(hearing) > before) < 2
    assert published(hearing) == published(rotating)


async def test_no_token_is_refused_while_keys_rotate_under_load(
    new_worker: Any, dsn: str, tenant: str
) -> None:
    """The bar: key rotation under load. Three workers make tokens and read each other's."""
    workers: list[Worker] = [await new_worker(dsn, schedule=HASTY, seconds=2) for _ in range(3)]
    workload = Workload(tenant=tenant, name=await workers[0].identity(tenant), user="ada")
    used: set[str] = set()
    read = 0

    async def work(maker: Worker, reader: Worker) -> None:
        nonlocal read
        kept: list[str] = []
        while len(used) < 6:
            token = await maker.tokens.issue(workload)
            used.add(parts(token)[0]["kid"])
            kept = [*kept[-20:], token]
            # The newest, and one that is older than some rotations but still lives.
            for each in (token, kept[0]):
                assert await reader.tokens.read(each, tenant=tenant) == workload
                read += 1
            await asyncio.sleep(0.02)

    async with asyncio.timeout(40):
        await asyncio.gather(
            *(work(maker, reader) for maker in workers for reader in workers if maker != reader)
        )
    assert len(used) >= 6
    assert read > 100


async def test_while_the_database_is_away_what_is_known_goes_on(
    new_worker: Any, dsn: str, tenant: str
) -> None:
    worker: Worker = await new_worker(dsn)
    workload = Workload(tenant=tenant, name=await worker.identity(tenant))
    heard = asyncio.Event()
    worker.database.listen("test_marker", lambda _: heard.set())
    async with asyncio.timeout(10), worker.database.connection() as connection:
        await heard.wait()
        heard.clear()
        await worker.database.notify(connection, "test_marker", "after all that came before")
        await heard.wait()
    token = await worker.tokens.issue(workload)
    await worker.keys.close()
    await worker.database.close()
    assert await worker.tokens.read(token, tenant=tenant) == workload
    assert await worker.tokens.read(await worker.tokens.issue(workload), tenant=tenant) == workload


async def test_an_unknown_key_is_looked_for_once_in_a_while_however_many_ask(
    new_worker: Any, dsn: str, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bar: unknown-kid flood."""
    worker: Worker = await new_worker(dsn)
    loads = 0
    load = worker.keys._load

    async def counted() -> None:
        nonlocal loads
        loads += 1
        await load()

    monkeypatch.setattr(worker.keys, "_load", counted)
    header, claims = '{"alg":"ES256","typ":"workload-access-token+jwt","kid":"%d"}', "e30"

    async def ask(number: int) -> None:
        text = base64.urlsafe_b64encode((header % number).encode()).decode().rstrip("=")
        with pytest.raises(TokenRefused):
            await worker.tokens.read(f"{text}.{claims}.AAAA", tenant=tenant)

    for number in range(50):
        await ask(number)
    assert loads <= 2  # one of them may be the news of its own first key


async def test_a_worker_that_heard_of_nothing_finds_a_new_key_when_it_meets_it(
    new_worker: Any, dsn: str, tenant: str
) -> None:
    """However many ask at once: none of them is refused for being second."""
    clock = Clock()
    rotating: Worker = await new_worker(dsn, clock=clock)
    deaf: Worker = await new_worker(dsn, clock=clock)
    await deaf.database._notifications.close()
    await deaf.keys.close()
    workload = Workload(tenant=tenant, name=await rotating.identity(tenant))
    before = signing(deaf)
    clock.ahead = SCHEDULE.rotation
    await rotating.keys.rotate_when_due()
    clock.ahead += SCHEDULE.ahead
    token = await rotating.tokens.issue(workload)
    assert parts(token)[0]["kid"] != before
    read = await asyncio.gather(*(deaf.tokens.read(token, tenant=tenant) for _ in range(20)))
    assert read == [workload] * 20


DIES = """
import asyncio, sys
from contextlib import AsyncExitStack
from freehold.adapters.secrets.envelope import EnvelopeSealer
from identity_ground import SCHEDULE, SEALER, Clock, Worker

class Stuck(EnvelopeSealer):
    def __init__(self): pass
    def open(self, sealed, *, context): return SEALER.open(sealed, context=context)
    def seal(self, plaintext, *, context):
        print("in the middle", flush=True)
        sys.stdin.read()

async def main():
    clock = Clock()
    clock.ahead = SCHEDULE.rotation
    async with AsyncExitStack() as stack:
        await Worker(sys.argv[1], stack, clock=clock, sealer=Stuck()).start()

asyncio.run(main())
"""


async def test_a_worker_killed_in_the_middle_of_a_rotation_leaves_it_to_another(
    new_worker: Any, dsn: str
) -> None:
    """The bar: kill -9. It held the lock, and had made a key that nobody will ever see."""
    clock = Clock()
    worker: Worker = await new_worker(dsn, clock=clock)
    await worker.keys.close()  # else its own keeper might be first
    first = signing(worker)
    clock.ahead = SCHEDULE.rotation
    dying = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DIES, dsn, stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )  # fmt: skip
    try:
        assert dying.stdout is not None
        async with asyncio.timeout(30):
            said = await dying.stdout.readline()
            assert said == b"in the middle\n", (await dying.communicate())[1].decode()
        waiting = asyncio.create_task(worker.keys.rotate_when_due())
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        assert not done, "two workers rotate at once"
        assert signing(worker) == first
        dying.send_signal(signal.SIGKILL)
        async with asyncio.timeout(20):
            assert await waiting
    finally:
        with contextlib.suppress(ProcessLookupError):
            dying.kill()
        await dying.wait()
    assert len(published(worker)) == 2


async def test_without_the_key_that_seals_nothing_is_signed(new_worker: Any, dsn: str) -> None:
    await new_worker(dsn)
    locked: Worker = await new_worker(dsn, sealer=EnvelopeSealer(Keyring({1: bytes([9]) * 32})))
    with pytest.raises(Unavailable):
        locked.keys.signing()
    assert published(locked) == set()


async def test_the_platforms_key_encryption_key_is_changed_and_the_old_one_forgotten(
    new_worker: Any, dsn: str, tenant: str
) -> None:
    """The bar: the old key can be removed. Tokens of before go on, and the users' behind them."""
    worker: Worker = await new_worker(dsn)
    workload = Workload(
        tenant=tenant,
        name=await worker.identity(tenant),
        user="https://idp|ada",
        user_token="a.b.c",
    )
    token = await worker.tokens.issue(workload)
    old, new = bytes(32), bytes([2]) * 32
    moved = await SealedValues(worker.database).move(
        2, EnvelopeSealer(Keyring({1: old, 2: new})).rewrap
    )
    assert (moved.values, moved.broken) == (2, 0)
    after: Worker = await new_worker(dsn, sealer=EnvelopeSealer(Keyring({2: new})))
    assert signing(after) == signing(worker)
    assert await after.tokens.read(token, tenant=tenant) == workload
    assert await after.tokens.read(await after.tokens.issue(workload), tenant=tenant) == workload
