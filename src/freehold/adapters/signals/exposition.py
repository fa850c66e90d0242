"""`ports.signals.Exposition`: the files of all processes, summed up, in Prometheus' text format."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from freehold.adapters.signals.counting import SUFFIX, series
from freehold.adapters.signals.slots import read
from freehold.kernel.errors import FreeholdError
from freehold.kernel.threads import in_thread
from freehold.ports.signals import FAMILIES, Source

log = logging.getLogger("freehold.signals")

_ENDS = ("_bucket", "_sum", "_count")


class SharedExposition:
    """Any process of the machine answers for them all. A counter goes on with the numbers of
    processes that ended; a gauge is of the living alone."""

    def __init__(self, directory: Path, sources: Sequence[Source] = ()) -> None:
        self._directory, self._sources = directory, tuple(sources)

    async def text(self) -> bytes:
        values = await in_thread(_gathered, self._directory)
        for source in self._sources:
            try:
                samples = await source()
            except FreeholdError as error:  # the rest is worth having: an outage above all
                log.warning("some signals are missing: %s", error.message)
                continue
            for name, labels, value in samples:
                key = series(name, dict(labels))
                values[key] = values.get(key, 0.0) + value
        return _text(values)


def _gathered(directory: Path) -> dict[str, float]:
    values: dict[str, float] = {"freehold_processes": 0.0}
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        contents = read(path)
        values["freehold_processes"] += contents.alive
        for name, value in contents.values.items():
            family = FAMILIES.get(_family(name))
            if family is not None and (contents.alive or family.kind != "gauge"):
                values[name] = values.get(name, 0.0) + value
    return values


def _family(name: str) -> str:
    bare = name.partition("{")[0]
    for end in _ENDS:
        whole = bare.removesuffix(end)
        if (
            whole != bare
            and FAMILIES.get(whole, FAMILIES["freehold_processes"]).kind == "histogram"
        ):
            return whole
    return bare


def _text(values: Mapping[str, float]) -> bytes:
    by_family: dict[str, list[str]] = {}
    for name in values:
        by_family.setdefault(_family(name), []).append(name)
    lines: list[str] = []
    for family, (kind, help, _) in FAMILIES.items():
        names = by_family.get(family, [])
        if not names:
            continue
        lines += [f"# HELP {family} {help}", f"# TYPE {family} {kind}"]
        shown = _cumulative(names, values) if kind == "histogram" else _plain(names, values)
        lines += [f"{name} {_number(value)}" for name, value in shown]
    return ("\n".join(lines) + "\n").encode()


def _plain(names: Iterable[str], values: Mapping[str, float]) -> list[tuple[str, float]]:
    return [(name, values[name]) for name in sorted(names)]


def _cumulative(names: Sequence[str], values: Mapping[str, float]) -> list[tuple[str, float]]:
    """Buckets of one series stand together, each with what is below it; the last has them all."""
    groups: dict[str, list[str]] = {}
    for name in names:
        labels = name.partition("{")[2].removesuffix("}")
        bare, _, _ = labels.partition('le="') if "_bucket{" in name else (labels, "", "")
        groups.setdefault(bare.rstrip(","), []).append(name)
    shown: list[tuple[str, float]] = []
    for _, members in sorted(groups.items()):
        buckets = sorted((n for n in members if "_bucket{" in n), key=_bound)
        below = 0.0
        for name in buckets:
            below += values[name]
            shown.append((name, below))
        rest = [name for name in members if "_bucket{" not in name]
        # What was read while it was written: the count is never less than the last bucket.
        shown += [
            (n, below if "_count" in n.partition("{")[0] else values[n]) for n in sorted(rest)
        ]
    return shown


def _bound(name: str) -> float:
    return float(name.rpartition('le="')[2].rstrip('"}').replace("+Inf", "inf"))


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)
