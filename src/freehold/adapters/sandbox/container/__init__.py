"""The container tier: bubblewrap's namespaces, a seccomp allow-list, a cgroup."""

from freehold.adapters.sandbox.container.driver import ContainerDriver

__all__ = ["ContainerDriver"]
