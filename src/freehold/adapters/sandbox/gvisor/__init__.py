"""The gVisor tier: the container tier's namespaces, and inside them a kernel of their own."""

from freehold.adapters.sandbox.gvisor.driver import GvisorDriver

__all__ = ["GvisorDriver"]
