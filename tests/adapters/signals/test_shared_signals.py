"""Counts of several processes of one machine, shown by any of them."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from freehold.adapters.signals.counting import SharedSignals
from freehold.adapters.signals.exposition import SharedExposition
from freehold.adapters.signals.slots import SLOTS_MAX, Slots
from freehold.adapters.signals.spans import CountedSpans
from freehold.kernel.errors import Unavailable
from freehold.kernel.tracing import Kind, Span, Trail
from freehold.ports.replay import REPLAY
from freehold.ports.signals import FAMILIES, Sample

_LINE = re.compile(r'[a-z_]+(\{[a-z]+="[^"\\]*"(,[a-z]+="[^"\\]*")*\})? (-?[0-9.e+-]+)')


@pytest.fixture
def signals(tmp_path: Path) -> Iterator[SharedSignals]:
    signals = SharedSignals(tmp_path / "run", "api-0")
    yield signals
    signals.close()


async def shown(directory: Path, *sources: object) -> dict[str, float]:
    text = (await SharedExposition(directory / "run", sources).text()).decode()  # type: ignore[arg-type]
    values = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            assert _LINE.fullmatch(line), line
            name, _, value = line.rpartition(" ")
            values[name] = float(value)
    return values


async def test_a_request_is_counted_and_timed(tmp_path: Path, signals: SharedSignals) -> None:
    signals.observe("s3", "GetObject", 200, 0.02)
    signals.observe("s3", "GetObject", 204, 0.3)
    signals.observe("s3", "GetObject", 503, 400.0)
    signals.observe("s3", "GetObject", 0, 0.0)

    values = await shown(tmp_path)

    of = 'service="s3",operation="GetObject"'
    assert values[f'freehold_requests_total{{{of},status="2xx"}}'] == 2
    assert values[f'freehold_requests_total{{{of},status="5xx"}}'] == 1
    assert values[f'freehold_requests_total{{{of},status="gone"}}'] == 1
    assert values[f'freehold_request_seconds_bucket{{{of},le="0.01"}}'] == 1
    assert values[f'freehold_request_seconds_bucket{{{of},le="0.025"}}'] == 2
    assert values[f'freehold_request_seconds_bucket{{{of},le="300"}}'] == 3
    assert values[f'freehold_request_seconds_bucket{{{of},le="+Inf"}}'] == 4
    assert values[f"freehold_request_seconds_count{{{of}}}"] == 4
    assert values[f"freehold_request_seconds_sum{{{of}}}"] == pytest.approx(400.32)


async def test_buckets_rise_in_the_order_of_their_bounds(
    tmp_path: Path, signals: SharedSignals
) -> None:
    signals.measure("freehold_tool_seconds", 0.2)

    lines = (await SharedExposition(tmp_path / "run").text()).decode().splitlines()

    of_tool = [line for line in lines if line.startswith("freehold_tool_seconds")]
    bounds = [line.split('"')[1] for line in of_tool if "_bucket" in line]
    assert bounds == sorted(bounds, key=lambda b: float(b.replace("+Inf", "inf")))
    assert "# TYPE freehold_tool_seconds histogram" in lines
    assert of_tool[-2:] == ["freehold_tool_seconds_count 1", "freehold_tool_seconds_sum 0.2"]


async def test_processes_are_summed_up_and_the_gauges_of_a_dead_one_are_not(
    tmp_path: Path, signals: SharedSignals
) -> None:
    signals.add("freehold_tool_calls_total", outcome="ok")
    signals.in_flight("s3", 1)
    subprocess.run(
        [sys.executable, "-c", f"""
from pathlib import Path
from freehold.adapters.signals.counting import SharedSignals
signals = SharedSignals(Path({str(tmp_path / "run")!r}), "api-1")
signals.add("freehold_tool_calls_total", 2, outcome="ok")
signals.in_flight("s3", 5)
"""],
        check=True, timeout=120,
    )  # fmt: skip

    values = await shown(tmp_path)

    assert values['freehold_tool_calls_total{outcome="ok"}'] == 3
    assert values['freehold_requests_in_flight{service="s3"}'] == 1
    assert values["freehold_processes"] == 1


async def test_a_process_that_is_restarted_counts_on_and_begins_its_gauges_anew(
    tmp_path: Path, signals: SharedSignals
) -> None:
    signals.observe("s3", "GetObject", 200, 1.0)
    signals.in_flight("s3", 3)
    signals.close()

    again = SharedSignals(tmp_path / "run", "api-0")
    again.observe("s3", "GetObject", 200, 1.0)
    values = await shown(tmp_path)
    again.close()

    of = 'service="s3",operation="GetObject"'
    assert values[f'freehold_requests_total{{{of},status="2xx"}}'] == 2
    assert values[f"freehold_request_seconds_count{{{of}}}"] == 2
    assert values['freehold_requests_in_flight{service="s3"}'] == 0


async def test_a_file_of_something_else_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "api-0.signals").write_bytes(b"something else" * 100)

    signals = SharedSignals(tmp_path / "run", "api-0")
    signals.add("freehold_tool_calls_total", outcome="ok")
    values = await shown(tmp_path)
    signals.close()

    assert values['freehold_tool_calls_total{outcome="ok"}'] == 1


async def test_series_are_bounded_and_what_has_no_room_is_counted(
    tmp_path: Path, signals: SharedSignals
) -> None:
    for number in range(SLOTS_MAX + 10):
        signals.add("freehold_requests_in_flight", service=f"s{number}")

    values = await shown(tmp_path)

    assert values["freehold_signals_lost_total"] == 11
    assert len(values) <= SLOTS_MAX + 1


async def test_what_is_asked_for_when_somebody_looks_stands_beside_what_was_counted(
    tmp_path: Path, signals: SharedSignals, caplog: pytest.LogCaptureFixture
) -> None:
    async def sessions() -> list[Sample]:
        return [Sample("freehold_sessions", {"tier": "vm"}, 4)]

    async def away() -> list[Sample]:
        raise Unavailable("the database is away")

    signals.add("freehold_tool_calls_total", outcome="ok")
    values = await shown(tmp_path, sessions, away)

    assert values['freehold_sessions{tier="vm"}'] == 4
    assert values['freehold_tool_calls_total{outcome="ok"}'] == 1
    assert "the database is away" in caplog.text


async def test_no_text_of_anybody_s_breaks_out_of_a_label(
    tmp_path: Path, signals: SharedSignals
) -> None:
    signals.observe("s3", 'a"} 1\nfreehold_evil{x="', 200, 0.1)

    values = await shown(tmp_path)

    assert not any("evil{" in name for name in values)


def test_a_label_that_a_family_does_not_have_is_a_mistake(signals: SharedSignals) -> None:
    with pytest.raises(AssertionError, match="other labels"):
        signals.add("freehold_tool_calls_total", outcome="ok", tenant="111122223333")
    with pytest.raises(AssertionError, match="no family"):
        signals.add("freehold_made_up_total")


def test_no_family_has_whose_it_is_as_a_label() -> None:
    labels = {label for family in FAMILIES.values() for label in family.labels}

    assert labels == {
        "service", "operation", "status", "tier", "outcome", "direction", "decision", "signal",
        "state",
    }  # fmt: skip


def test_a_name_that_is_too_long_has_no_room(tmp_path: Path) -> None:
    slots = Slots(tmp_path / "slots")
    assert slots.place("x" * 500) is None
    slots.close()


async def test_the_platform_s_spans_are_counted_on_their_way(
    tmp_path: Path, signals: SharedSignals
) -> None:
    kept: list[Span] = []

    class Kept:
        def record(self, span: Span) -> None:
            kept.append(span)

    trail = Trail(CountedSpans(Kept(), signals))
    root = Span(trail, "invoke_agent", kind=Kind.SERVER, parent=None)
    root.child(
        "chat gpt", kind=Kind.CLIENT,
        attributes={
            "gen_ai.operation.name": "chat", "freehold.metered": True,
            "gen_ai.usage.input_tokens": 12, "gen_ai.usage.output_tokens": 3,
        },
    ).end()  # fmt: skip
    of_a_fork = [("chat", "recorded"), ("execute_tool", "recorded"), ("execute_tool", "given")]
    for name, replay in of_a_fork:
        told = {"gen_ai.operation.name": name, "freehold.metered": True, REPLAY: replay}
        root.child("a fork's", attributes=told).end()
    failed = root.child("execute_tool add", attributes={"gen_ai.operation.name": "execute_tool"})
    failed.fail("it broke")
    failed.end()
    root.child("policy", attributes={"freehold.policy.decision": "deny"}).end()
    root.end()

    values = await shown(tmp_path)

    assert [span.name for span in kept] == [
        "chat gpt", "a fork's", "a fork's", "a fork's", "execute_tool add", "policy",
        "invoke_agent",
    ]  # fmt: skip
    assert values['freehold_model_calls_total{operation="chat",outcome="ok"}'] == 1
    assert values['freehold_model_tokens_total{direction="input"}'] == 12
    assert values['freehold_model_tokens_total{direction="output"}'] == 3
    assert values['freehold_tool_calls_total{outcome="error"}'] == 1
    assert 'freehold_tool_calls_total{outcome="ok"}' not in values
    assert values['freehold_policy_decisions_total{decision="deny"}'] == 1
