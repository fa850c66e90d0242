"""Which addresses the public internet is not.

Written out, because `ipaddress.is_global` holds for NAT64, 6to4 and multicast addresses, each of
which can lead back to this network.
"""

import socket
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_DENIED: tuple[Network, ...] = tuple(
    ip_network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; some clouds' metadata
        "127.0.0.0/8",
        "169.254.0.0/16",  # link local: the metadata address of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
        "::/3",  # all but 2000::/3 is not the internet: loopback, IPv4 in several forms, NAT64
        "2001::/23",  # Teredo and other protocol assignments
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3fff::/20",
        "4000::/2",
        "8000::/1",  # unique local, link and site local, multicast
    )
)
# Where a machine asks its cloud who it is, and what is no single other machine: whatever an
# operator permits, nothing that runs in a sandbox has business there.
_NEVER: tuple[Network, ...] = tuple(
    ip_network(network)
    for network in (
        "0.0.0.0/8",
        "100.100.100.200/32",  # Alibaba Cloud's metadata
        "168.63.129.16/32",  # Azure's, in a public range
        "169.254.0.0/16",
        "192.0.0.192/32",  # Oracle Cloud's
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/128",
        "2001::/32",  # Teredo and 6to4 carry an IPv4 address that nobody checks
        "2002::/16",
        "fd00:ec2::/32",  # AWS's
        "fd20:ce::254/128",  # Google Cloud's
        "fe80::/10",
        "ff00::/8",
    )
)
# Addresses whose last four bytes are an IPv4 address, which is what counts.
_MAPPED = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))


def parsed(address: str) -> Address:
    """An address as it counts: an IPv4 address behind IPv6 is that IPv4 address."""
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address) and any(found in network for network in _MAPPED):
        return IPv4Address(found.packed[-4:])
    return found


def denied(address: str) -> bool:
    """Whether an address is, or leads to, anything but the public internet."""
    return _within(parsed(address), _DENIED)


def forbidden(address: str) -> bool:
    """Whether nothing may ever connect there: metadata, link-local, more than one machine."""
    return _within(parsed(address), _NEVER)


def of_this_machine(address: str) -> bool:
    """Whether it is one of this machine's own, its public ones included."""
    counts = parsed(address)
    if counts.is_loopback:
        return True
    family = socket.AF_INET if isinstance(counts, IPv4Address) else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((str(counts), 0))
    except OSError:
        return False
    return True


def _within(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)
