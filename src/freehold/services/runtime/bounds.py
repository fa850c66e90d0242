"""How much of the machine, and of the network, a session gets: its runtime's wishes in the form of
`freehold:*` tags, within what the operator permits.
"""

import re
from collections.abc import Callable, Mapping
from ipaddress import AddressValueError, IPv4Address
from typing import Any

import msgspec

from freehold.ports.egress import Destination, Reach, SessionEgress
from freehold.ports.sandbox import Limits

MIB = 1 << 20
HOSTS_TAGS_MAX = 9
"""A tag's value has 256 characters: a long list goes on in freehold:egress-hosts-2 and so on."""

_REACHES: tuple[Reach, ...] = ("none", "hosts", "open")
_HTTP_PORTS = (443, 80)
_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"\.?{_LABEL}(\.{_LABEL})*")
_NUMBER = re.compile(r"[0-9]{1,9}")
_DECIMAL = re.compile(r"[0-9]{1,6}(\.[0-9]{1,3})?")

Reader = Callable[[str], Any]


class _Bound(msgspec.Struct, frozen=True):
    """A limit that a tag sets: in `unit`s of the field of Limits that it becomes."""

    field: str
    unit: int
    least: float
    setting: str


_BOUNDS = {
    "memory-mib": _Bound("memory_bytes_max", MIB, 32, "FREEHOLD_SESSION_MEMORY_MIB_MAX"),
    "cpus": _Bound("cpus_max", 1, 0.05, "FREEHOLD_SESSION_CPUS_MAX"),
    "processes": _Bound("processes_max", 1, 8, "FREEHOLD_SESSION_PROCESSES_MAX"),
    "open-files": _Bound("open_files_max", 1, 64, "FREEHOLD_SESSION_OPEN_FILES_MAX"),
    "scratch-mib": _Bound("scratch_bytes_max", MIB, 1, "FREEHOLD_SESSION_SCRATCH_MIB_MAX"),
}


class SessionBounds(msgspec.Struct, frozen=True, kw_only=True):
    """`usual`: what a session gets whose runtime does not say; `most`: what it can say."""

    usual: Limits = Limits()
    most: Limits = Limits()
    reach: Reach = "none"
    reach_max: Reach = "open"

    def readers(self) -> dict[str, Reader]:
        """Rows of the options of an agent runtime."""
        rows: dict[str, Reader] = {
            name: _number_within(bound, getattr(self.most, bound.field) / bound.unit)
            for name, bound in _BOUNDS.items()
        }
        rows["egress"] = self._reach
        rows |= dict.fromkeys(_hosts_tags(), self._hosts)
        return rows

    def limits(self, said: Mapping[str, Any], *, memory_mib_min: int) -> Limits:
        """`said`: what the rows above have read."""
        wanted = {
            bound.field: type(getattr(self.usual, bound.field))(said[name] * bound.unit)
            for name, bound in _BOUNDS.items()
            if name in said
        }
        limits = msgspec.structs.replace(self.usual, **wanted)
        memory = max(limits.memory_bytes_max, memory_mib_min * MIB)
        return msgspec.structs.replace(limits, memory_bytes_max=memory)

    def egress(self, said: Mapping[str, Any]) -> SessionEgress:
        """A list of hosts alone means those hosts."""
        hosts = [each for tag in _hosts_tags() for each in said.get(tag, ())]
        reach: Reach = said.get("egress") or ("hosts" if hosts else self.reach)
        if reach == "none":
            return SessionEgress()
        return SessionEgress(reach=reach, destinations=tuple(dict.fromkeys(hosts)))

    def _reach(self, text: str) -> Reach:
        permitted = _REACHES[: _REACHES.index(self.reach_max) + 1]
        for reach in permitted:
            if text == reach:
                return reach
        more = "" if text not in _REACHES else "; see FREEHOLD_SESSION_EGRESS_MAX"
        raise ValueError(f"{' or '.join(permitted)} on this platform{more}")

    def _hosts(self, text: str) -> tuple[Destination, ...]:
        if self.reach_max == "none":
            raise ValueError("no hosts on this platform (FREEHOLD_SESSION_EGRESS_MAX)")
        return host_list(text)


def host_list(text: str) -> tuple[Destination, ...]:
    """`api.example.com`: that host on ports 443 and 80. `.example.com`: every name below it.
    `host:8443`: that port. An IPv4 address is a host. Raises ValueError with what was expected.
    """
    found = []
    for word in text.lower().split():
        host, colon, port = word.partition(":")
        if not _HOST.fullmatch(host) or len(host) > 253 or not _is_one_thing(host):
            raise ValueError(f"host names separated by spaces; {word!r} is none")
        if colon and not (_NUMBER.fullmatch(port) and 0 < int(port) < 65_536):
            raise ValueError(f"a port from 1 to 65535 after the colon of {word!r}")
        name = f"*{host}" if host.startswith(".") else host
        found += [Destination(name, p) for p in ((int(port),) if colon else _HTTP_PORTS)]
    return tuple(found)


def _is_one_thing(host: str) -> bool:
    """A name, or an address as it is usually written: `127.1` is neither."""
    last = host.rpartition(".")[2]
    if last.isdecimal() or last.startswith("0x"):
        try:
            IPv4Address(host)
        except AddressValueError:
            return False
    return True


def _hosts_tags() -> list[str]:
    return ["egress-hosts", *(f"egress-hosts-{n}" for n in range(2, HOSTS_TAGS_MAX + 1))]


def _number_within(bound: _Bound, most: float) -> Reader:
    whole = bound.field != "cpus_max"
    least = min(bound.least, most)
    kind = "a whole number" if whole else "a number"

    def read(text: str) -> float:
        if (_NUMBER if whole else _DECIMAL).fullmatch(text):
            value = int(text) if whole else float(text)
            if least <= value <= most:
                return value
        raise ValueError(f"{kind} from {least:g} to {most:g} ({bound.setting} is the most)")

    return read
