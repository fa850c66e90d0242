"""Spans a second over HTTP into the store, beside Arize Phoenix.

    .venv/bin/python benchmarks/otlp.py [--seconds 20] [--clients 8] [--content] [--alone]

Clients send batches of 512 realistic GenAI spans (agent, chat, tool) that were made before, in a
process of their own; rounds are interleaved, figures are medians. freehold: an access key checked
on every request, decoded, normalised, priced, redacted, and durable in Postgres before the answer,
one worker. Phoenix (Elastic licence: a peer to measure, and no part of anything): as it comes, on
SQLite and without authentication, in a virtual environment of its own (`peers/phoenix.txt`, kept
in the user's cache). It answers before it stores, so that its time ends when the last span stands
in its database. `--content`: messages and tools' arguments too, which freehold then keeps as well.
"""

import argparse
import base64
import contextlib
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from gateway_peers import CannotRun, python, run
from gateway_systems import cpu, environment, postgres_of, tree, used
from otlp_load import BATCH, Figures, Load
from platform_under_test import PlatformUnderTest, free_port, platform, until_listening

HERE = Path(__file__).parent
_STORED_SECONDS_MAX = 600
_START_SECONDS_MAX = 180


class System(NamedTuple):
    """`stored` counts the spans that stand in its database."""

    name: str
    url: str
    headers: dict[str, str]
    pids: Callable[[], Iterable[int]]
    store: Callable[[], Iterable[int]]
    stored: Callable[[], int]


class Row(NamedTuple):
    rate: float
    batch_p50_ms: float
    cpu_us: float
    store_us: float


def measured(system: System, load: Load) -> Row:
    """Raises CannotRun where spans were refused, or are not there."""
    there = system.stored()
    before, store_before = cpu(system.pids()), cpu(system.store())
    done = subprocess.run(
        [sys.executable, HERE / "otlp_load.py"], input=msgspec.json.encode(load),
        stdout=subprocess.PIPE, check=True, timeout=load.seconds + 600,
    )  # fmt: skip
    answered = time.perf_counter()
    figures = msgspec.json.decode(done.stdout, type=Figures)
    if figures.refused or not figures.spans:
        raise CannotRun(f"{figures.refused} batches were refused, {figures.spans} spans taken")
    deadline = answered + _STORED_SECONDS_MAX
    while system.stored() - there < figures.spans:
        if time.perf_counter() > deadline:
            raise CannotRun(f"of {figures.spans} spans {system.stored() - there} are there")
        time.sleep(0.05)
    seconds = figures.seconds + time.perf_counter() - answered
    spent = used(before, cpu(system.pids()))
    store = used(store_before, cpu(system.store()))
    return Row(
        figures.spans / seconds, figures.batch_p50_ms, spent / figures.spans * 1e6,
        store / figures.spans * 1e6,
    )  # fmt: skip


@contextlib.contextmanager
def freehold(*, content: bool) -> Iterator[System]:
    with platform() as under_test:
        if content:
            under_test.own_put("/telemetry-configuration", {"captureClients": True})
        connection = under_test.connection
        key = f"{connection['access_key_id']}:{connection['secret_access_key']}"
        authorization = "Basic " + base64.b64encode(key.encode()).decode()
        yield System(
            "freehold",
            f"{under_test.endpoint}/otlp/v1/traces",
            {"authorization": authorization},
            pids=lambda: under_test.processes().values(),
            store=lambda: postgres_of(under_test.state),
            stored=lambda: _counted(under_test),
        )


def _counted(under_test: PlatformUnderTest) -> int:
    """By what the platform itself answers."""
    now = datetime.now(UTC)
    answer: dict[str, Any] = under_test.own(
        "/trace-series", measured="spans", step="1d",
        since=(now - timedelta(days=2)).isoformat(), until=(now + timedelta(days=1)).isoformat(),
    )  # fmt: skip
    return sum(int(p["count"]) for group in answer["groups"] for p in group["points"])


@contextlib.contextmanager
def phoenix() -> Iterator[System]:
    programs, port = _installed(), free_port()
    with tempfile.TemporaryDirectory(prefix="freehold-peer-", ignore_cleanup_errors=True) as path:
        log = Path(path) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [programs / "phoenix", "serve"], cwd=path, stdout=output, stderr=output,
                env=environment(
                    HOME=path, PHOENIX_WORKING_DIR=path, PHOENIX_HOST="127.0.0.1",
                    PHOENIX_PORT=str(port), PHOENIX_GRPC_PORT=str(free_port()),
                    PHOENIX_TELEMETRY_ENABLED="false", PHOENIX_DISABLE_RATE_LIMIT="true",
                ),
            )  # fmt: skip
        try:
            try:
                until_listening(port, _START_SECONDS_MAX)
            except SystemExit as error:
                tail = log.read_text(errors="replace")[-500:]
                raise CannotRun(f"it did not start: {error}: {tail}") from None
            yield System(
                "Phoenix " + _version(programs),
                f"http://127.0.0.1:{port}/v1/traces",
                {},
                pids=lambda: tree(process.pid),
                store=lambda: (),
                stored=lambda: _rows(Path(path) / "phoenix.db"),
            )
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _rows(database: Path) -> int:
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM spans").fetchone()[0])


def _installed() -> Path:
    requirements = HERE / "peers" / "phoenix.txt"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    root = cache / "freehold-benchmarks" / "phoenix"
    stamp = root / "installed.txt"
    if not stamp.exists() or stamp.read_text() != requirements.read_text():
        run("uv", "venv", "--quiet", "--clear", "--no-python-downloads",
            "--python", python("3.11"), root)  # fmt: skip
        run("uv", "pip", "install", "--quiet", "--python", root / "bin" / "python",
            "--requirement", requirements)  # fmt: skip
        stamp.write_text(requirements.read_text())
    return root / "bin"


def _version(programs: Path) -> str:
    found = [
        line.partition("==")[2]
        for line in (HERE / "peers" / "phoenix.txt").read_text().splitlines()
        if line.startswith("arize-phoenix==")
    ]
    return found[0] if found else str(programs)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=400)
    parser.add_argument("--content", action="store_true")
    parser.add_argument("--alone", action="store_true", help="without Phoenix")
    asked = parser.parse_args()
    rows: dict[str, list[Row]] = {}
    with contextlib.ExitStack() as stack:
        systems = [(stack.enter_context(freehold(content=asked.content)), asked.batches)]
        if not asked.alone:
            # A fiftieth is what it stores in about the same time.
            systems.append((stack.enter_context(phoenix()), max(8, asked.batches // 50)))
        for system, _ in systems:
            measured(system, _load(system, asked, batches=2))
            rows[system.name] = []
        for _ in range(asked.rounds):
            for system, count in systems:
                row = measured(system, _load(system, asked, batches=count))
                rows[system.name].append(row)
                print(f"  {system.name}: {row.rate:,.0f} spans/s", file=sys.stderr)
    _print(rows, asked)


def _load(system: System, asked: argparse.Namespace, *, batches: int) -> Load:
    return Load(
        url=system.url, headers=system.headers, clients=asked.clients, batches=batches,
        seconds=asked.seconds, content=asked.content,
    )  # fmt: skip


def _print(rows: dict[str, list[Row]], asked: argparse.Namespace) -> None:
    what = "with content" if asked.content else "without content"
    print(f"\nBatches of {BATCH} spans {what}, {asked.clients} clients, {asked.rounds} rounds\n")
    print("| system | spans/s | batch p50 ms | CPU us a span | Postgres us | freehold is |")
    print("|---|---|---|---|---|---|")
    medians = {
        name: Row(*(statistics.median(column) for column in zip(*each, strict=True)))
        for name, each in rows.items()
    }
    own = medians["freehold"].rate
    for name, row in medians.items():
        times = "-" if name == "freehold" else f"{own / row.rate:,.0f} times as fast"
        store = f"{row.store_us:,.0f}" if row.store_us else "-"
        print(
            f"| {name} | {row.rate:,.0f} | {row.batch_p50_ms:,.0f} | {row.cpu_us:,.0f} "
            f"| {store} | {times} |"
        )


if __name__ == "__main__":
    try:
        main()
    except CannotRun as error:
        sys.exit(str(error))
