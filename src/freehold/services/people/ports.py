"""What this service needs from others."""

from typing import Protocol


class NewKey(Protocol):
    """An access key with its secret, for the one answer that shows it."""

    @property
    def id(self) -> str: ...

    @property
    def secret(self) -> str: ...


class NewKeys(Protocol):
    """A new tenant gets its first access key; it has every role there."""

    async def create(self, tenant: str, description: str = "") -> NewKey: ...
