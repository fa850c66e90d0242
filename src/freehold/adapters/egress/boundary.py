"""What no list of a tenant's can open: the operator's own networks, and the platform itself."""

from ipaddress import ip_address, ip_network

import msgspec

from freehold.adapters.egress.addresses import (
    Network,
    denied,
    forbidden,
    of_this_machine,
    parsed,
)


class PrivateHost(msgspec.Struct, frozen=True):
    """`host` as in a Destination, or a `network`. `port` None: any."""

    host: str
    network: Network | None
    port: int | None

    def covers(self, host: str, port: int, address: str) -> bool:
        if self.port not in (None, port):
            return False
        if self.network is not None:
            return parsed(address) in self.network
        return matches(self.host, host)


class Boundary(msgspec.Struct, frozen=True, kw_only=True):
    """`private`: what an operator lets sessions reach although it is not the public internet.

    `own_ports` of this machine, and `own_places` (address, port), are the platform's: never.
    """

    private: tuple[PrivateHost, ...] = ()
    own_ports: frozenset[int] = frozenset()
    own_places: frozenset[tuple[str, int]] = frozenset()

    def objection(self, host: str, port: int, address: str, *, trusted: bool) -> str | None:
        """Why nothing connects to this address of that host. `trusted`: an operator named it."""
        if forbidden(address):
            return "leads to an address that is closed to all sandboxes"
        here = of_this_machine(address)
        if (here and port in self.own_ports) or (str(parsed(address)), port) in self.own_places:
            return "leads to the platform itself; inside a session that is the doorway's"
        if trusted or not (here or denied(address)):
            return None
        if any(each.covers(host, port, address) for each in self.private):
            return None
        return (
            "leads into a private network; the operator of this platform can permit it "
            "(FREEHOLD_EGRESS_PRIVATE_HOSTS)"
        )


def matches(pattern: str, host: str) -> bool:
    """`*.example.com` is every name below example.com, and not that itself."""
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


def private_hosts(text: str) -> tuple[PrivateHost, ...]:
    """From a list with commas: a name, `.name` for all below it, an address or a network, each
    with `:port` or without. Raises ValueError with the entry that is none of these.
    """
    return tuple(_private_host(entry) for each in text.split(",") if (entry := each.strip()))


def _private_host(entry: str) -> PrivateHost:
    try:
        return PrivateHost("", ip_network(entry.strip("[]")), None)
    except ValueError:
        pass
    host, colon, port = entry.rpartition(":")
    if not colon:
        host, port = entry, ""
    elif not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ValueError(f"{entry}: expected a port from 1 to 65535 after the colon")
    number = int(port) if port else None
    host = host.lower().strip("[]")
    try:
        return PrivateHost("", ip_network(host), number)
    except ValueError:
        pass
    name = host.removeprefix(".")
    if not name or not set(name) <= _NAME_CHARACTERS or name.startswith((".", "-")):
        raise ValueError(f"{entry}: expected a host name, an address or a network")
    return PrivateHost(f"*.{name}" if host.startswith(".") else name, None, number)


_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-._")


def place(address: str, port: int) -> tuple[str, int]:
    return str(parsed(str(ip_address(address)))), port
