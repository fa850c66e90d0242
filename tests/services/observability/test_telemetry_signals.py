"""What waits to be stored, and what became of it, as Prometheus is shown it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from told_spans import Trace

from freehold.adapters.signals.counting import SharedSignals
from freehold.adapters.signals.exposition import SharedExposition
from freehold.adapters.signals.writes import CountedWrites
from freehold.kernel import tracing
from freehold.kernel.errors import Unavailable
from freehold.ports.spans import SpanRecord
from freehold.ports.telemetry import LogRecord, MetricPoint
from freehold.services.observability.configuration import Compiled, TelemetryConfiguration
from freehold.services.observability.content import ContentPolicy
from freehold.services.observability.ingest import Ingest
from freehold.services.observability.model_prices import PriceBook
from freehold.services.observability.recording import OwnSpans
from freehold.services.observability.redaction import Redactor

TENANT = "123456789012"
WITHIN_SECONDS = 60


class Store:
    """Stands still while `gate` is shut."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.failure: Exception | None = None

    async def write(self, items: Sequence[Any], /) -> None:
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure


class Nobodys:
    """No content is captured, and nobody said what to keep."""

    async def captures(self, tenant: str, runtime_id: str) -> bool:
        return False

    async def of(self, tenant: str) -> Compiled:
        configuration = TelemetryConfiguration()
        return Compiled(configuration, Redactor(configuration.redaction.built_in, ()))


@pytest.fixture
def signals(tmp_path: Path) -> Iterator[SharedSignals]:
    signals = SharedSignals(tmp_path, "api-0")
    yield signals
    signals.close()


@asynccontextmanager
async def ingesting(store: Store, signals: SharedSignals) -> AsyncIterator[Ingest]:
    ingest = Ingest(
        CountedWrites[SpanRecord](store, signals, "traces"),
        CountedWrites[LogRecord](store, signals, "logs"),
        CountedWrites[MetricPoint](store, signals, "metrics"),
        content=ContentPolicy(Nobodys(), Nobodys()), prices=PriceBook(), signals=signals,
    )  # fmt: skip
    yield ingest
    store.gate.set()
    await ingest.close()


async def shown(directory: Path, family: str) -> dict[str, float]:
    """By what stands in the braces."""
    text = (await SharedExposition(directory).text()).decode()
    lines = [line for line in text.splitlines() if line.startswith(f"{family}{{")]
    return {line[len(family) + 1 :].partition("}")[0]: float(line.split()[-1]) for line in lines}


async def until(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(WITHIN_SECONDS):
        while not await true():
            await asyncio.sleep(0.01)


def spans(count: int) -> list[SpanRecord]:
    trace = Trace(TENANT)
    for number in range(count):
        trace.span(f"span {number}")
    return trace.spans


async def test_what_waits_to_be_stored_is_shown_while_it_waits(
    tmp_path: Path, signals: SharedSignals
) -> None:
    store = Store()
    log = LogRecord(tenant=TENANT, at_ns=1, origin="client", body="said")

    async def waiting() -> dict[str, float]:
        return await shown(tmp_path, "freehold_telemetry_queue_items")

    async with ingesting(store, signals) as ingest:
        brought = [
            asyncio.ensure_future(each)
            for each in (ingest.take(spans(3)), ingest.take(spans(4)), ingest.take_logs([log]))
        ]

        async def all_wait() -> bool:
            return await waiting() == {'signal="logs"': 1, 'signal="traces"': 7}

        await until(all_wait)
        store.gate.set()
        async with asyncio.timeout(WITHIN_SECONDS):
            await asyncio.gather(*brought)
        assert set((await waiting()).values()) == {0}
    items = await shown(tmp_path, "freehold_telemetry_items_total")
    assert items == {'signal="traces",outcome="taken"': 7, 'signal="logs",outcome="taken"': 1}


async def test_what_the_store_refused_waits_no_more(tmp_path: Path, signals: SharedSignals) -> None:
    store = Store()
    store.gate.set()
    store.failure = Unavailable("away")
    async with ingesting(store, signals) as ingest:
        with pytest.raises(Unavailable):
            await ingest.take(spans(5))
        assert await shown(tmp_path, "freehold_telemetry_queue_items") == {'signal="traces"': 0}
        items = await shown(tmp_path, "freehold_telemetry_items_total")
        assert items == {'signal="traces",outcome="refused"': 5}


async def test_the_platforms_own_spans_are_shown_as_they_wait_and_as_they_are_dropped(
    tmp_path: Path, signals: SharedSignals
) -> None:
    gate = asyncio.Event()

    async def take(_: Sequence[SpanRecord]) -> None:
        await gate.wait()

    own = OwnSpans(take, waiting_max=3, signals=signals)
    trail = tracing.Trail(own)
    trail.tenant = TENANT
    for number in range(5):
        tracing.Span(trail, f"span {number}", kind=tracing.Kind.SERVER, parent=None).end()
    of_platform = 'signal="platform"'
    assert await shown(tmp_path, "freehold_telemetry_queue_items") == {of_platform: 3}
    assert await shown(tmp_path, "freehold_telemetry_items_total") == {
        f'{of_platform},outcome="dropped"': 2
    }
    gate.set()
    await own.close()
    assert await shown(tmp_path, "freehold_telemetry_queue_items") == {of_platform: 0}
