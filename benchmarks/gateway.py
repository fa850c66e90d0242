"""What a governed tools/call costs, beside none, a bare pass-through, and other gateways.

    .venv/bin/python benchmarks/gateway.py [--peers] [--calls 3000] [--seconds 6] [--rounds 3]

One tool that echoes, behind each system in turn; rounds are interleaved, figures are medians.
freehold: a JWT verified (CUSTOM_JWT), an action group, a rate limit, the audit's two lines and a
traceparent, in both of MCP's eras. CPU is of the system's own processes, from /proc; Postgres' is
apart. `--peers` makes a virtual environment for each other gateway (`peers/*.txt`, pinned; kept
in the user's cache) and runs it as its own documentation has it, without a database server.
"""

import argparse
import contextlib
import signal
import statistics
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
from gateway_freehold import freehold
from gateway_load import Figures, Load
from gateway_peers import PEERS, CannotRun, Peer, running
from gateway_systems import System, called, cpu, requested, used
from gateway_upstream import LEGACY, MODERN
from platform_under_test import free_port, until_listening

HERE = Path(__file__).parent
_WARM_CALLS = 100


class Row(NamedTuple):
    """Of one round, or the medians of all."""

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    store_ms: float
    upstream: float


def measured(system: System, counts_url: str, calls: int, seconds: float, at_once: int) -> Row:
    """Raises CannotRun where an answer is wrong."""
    url = urllib.parse.urlsplit(system.url)
    load = Load(
        host=url.hostname or "", port=url.port or 80, path=url.path, headers=dict(system.headers),
        body=system.body, calls=calls, seconds_max=seconds, at_once=at_once,
    )  # fmt: skip
    asked = counted(counts_url)
    before, store_before = cpu(system.pids()), cpu(system.store())
    done = subprocess.run(
        [sys.executable, HERE / "gateway_load.py"],
        input=msgspec.json.encode(load), stdout=subprocess.PIPE, check=True,
        timeout=seconds + 180,
    )  # fmt: skip
    cpu_used = used(before, cpu(system.pids()))
    store_used = used(store_before, cpu(system.store()))
    figures = msgspec.json.decode(done.stdout, type=Figures)
    if figures.wrong:
        raise CannotRun(f"a call was not answered: {figures.wrong}")
    return Row(
        rate=figures.calls / figures.seconds,
        p50_ms=figures.p50_ms,
        p99_ms=figures.p99_ms,
        cpu_ms=cpu_used / figures.calls * 1e3,
        store_ms=store_used / figures.calls * 1e3,
        upstream=(counted(counts_url) - asked) / figures.calls,
    )


def counted(counts_url: str) -> int:
    counts, _ = requested("GET", counts_url, None, {})
    return sum(counts.values())


def rounds(
    systems: list[System], counts_url: str, options: argparse.Namespace, failed: dict[str, str]
) -> Iterator[tuple[int, dict[str, list[Row]]]]:
    for system in systems:
        with noted(system, failed):
            measured(system, counts_url, _WARM_CALLS, options.seconds, 1)
    for at_once in (1, 32):
        rows: dict[str, list[Row]] = {}
        for _ in range(options.rounds):
            for system in systems:
                if system.name in failed:
                    continue
                with noted(system, failed):
                    row = measured(system, counts_url, options.calls, options.seconds, at_once)
                    rows.setdefault(system.name, []).append(row)
        yield at_once, rows


@contextlib.contextmanager
def noted(system: System, failed: dict[str, str]) -> Iterator[None]:
    try:
        yield
    except (CannotRun, OSError, subprocess.SubprocessError, TimeoutError) as error:
        if not system.is_peer:
            raise
        failed[system.name] = str(error)


def table(at_once: int, rows: dict[str, list[Row]], peers: set[str]) -> None:
    middle = {
        name: Row(*(statistics.median(column) for column in zip(*of_rounds, strict=True)))
        for name, of_rounds in rows.items()
    }
    base, ours = middle["pass-through"], middle[f"freehold, {LEGACY}"]
    print(f"\n{at_once} at once\n")
    print("| system | requests/s | p50 ms | p99 ms | CPU ms a call | Postgres ms | upstream"
          " requests a call | CPU against pass-through | against freehold |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|")
    for name, row in middle.items():
        store = f"{row.store_ms:.2f}" if row.store_ms else "-"
        against_base = f"{row.cpu_ms / base.cpu_ms:.1f}" if name != "direct" else "-"
        against_ours = f"{row.cpu_ms / ours.cpu_ms:.0f}" if name in peers else "-"
        print(
            f"| {name} | {row.rate:,.0f} | {row.p50_ms:.2f} | {row.p99_ms:.2f} | {row.cpu_ms:.2f}"
            f" | {store} | {row.upstream:.2f} | {against_base} | {against_ours} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=3000, help="at most, in each round")
    parser.add_argument("--seconds", type=float, default=6, help="at most, for each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", action="store_true", help="build and run the other gateways too")
    parser.add_argument("--only", nargs="*", choices=sorted(PEERS), help="of the peers, these")
    parser.add_argument("--environments", type=Path, help="where the peers' are kept")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # and end what was started
    wanted = [PEERS[name] for name in options.only or PEERS] if options.peers else []
    upstream_port, pass_port = free_port(), free_port()
    children = [
        start("gateway_upstream.py", upstream_port),
        start("passthrough.py", pass_port, upstream_port),
    ]
    upstream = f"http://127.0.0.1:{upstream_port}"
    failed: dict[str, str] = {}
    try:
        until_listening(upstream_port)
        until_listening(pass_port)
        with contextlib.ExitStack() as stack:
            systems = [
                called("direct", f"{upstream}/mcp", era=MODERN, pids=lambda: [children[0].pid]),
                called("pass-through", f"http://127.0.0.1:{pass_port}/mcp", era=MODERN,
                       pids=lambda: [children[1].pid]),
                *stack.enter_context(freehold(f"{upstream}/mcp")),
            ]  # fmt: skip
            for peer in wanted:
                systems += entered(stack, peer, f"{upstream}/mcp", options, failed)
            print(
                f"{len(systems)} systems; at most {options.calls} calls and {options.seconds:g} s a"
                f" round, medians of {options.rounds} interleaved rounds",
                flush=True,
            )
            peers = {system.name for system in systems if system.is_peer}
            for at_once, rows in rounds(systems, f"{upstream}/counts", options, failed):
                table(at_once, rows, peers)
        for name, why in failed.items():
            print(f"\n{name} is left out: {why}")
    finally:
        for child in children:
            child.terminate()
            child.wait(10)


def entered(
    stack: contextlib.ExitStack,
    peer: Peer,
    upstream: str,
    options: argparse.Namespace,
    failed: dict[str, str],
) -> list[System]:
    try:
        return stack.enter_context(running(peer, upstream, options.environments))
    except (CannotRun, OSError, LookupError, subprocess.SubprocessError) as error:
        failed[peer.name] = str(error)
        return []


def start(program: str, *words: object) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, str(HERE / program), *map(str, words)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


if __name__ == "__main__":
    main()
