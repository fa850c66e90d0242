"""The way out of sandboxes: a forward proxy with an allow-list."""

from freehold.adapters.egress.proxy import ForwardProxy

__all__ = ["ForwardProxy"]
