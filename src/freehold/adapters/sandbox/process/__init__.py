"""The process tier: a subprocess with limits. It isolates nothing."""

from freehold.adapters.sandbox.process.driver import ProcessDriver

__all__ = ["ProcessDriver"]
