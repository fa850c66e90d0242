"""The way out of sandboxes: a forward proxy with an allow-list."""

from freehold.adapters.egress.boundary import Boundary, place, private_hosts
from freehold.adapters.egress.proxy import ForwardProxy, Totals, User
from freehold.adapters.egress.rules import SessionRules

__all__ = [
    "Boundary",
    "ForwardProxy",
    "SessionRules",
    "Totals",
    "User",
    "place",
    "private_hosts",
]
