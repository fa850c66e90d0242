"""Who may call: access keys, and the one authorization step."""

from typing import Protocol

import msgspec

from freehold.kernel.caller import Caller


class AccessKey(msgspec.Struct, frozen=True, kw_only=True):
    """`secret` is in the clear: never log, never store. `__repr__` hides it."""

    id: str
    tenant: str
    secret: str

    def __repr__(self) -> str:
        return f"AccessKey({self.id}, tenant={self.tenant})"


class AccessKeys(Protocol):
    async def active(self, access_key_id: str) -> AccessKey | None:
        """Of a key that exists and is not disabled. Cached: a disabled key dies within a second."""


class Authorizer(Protocol):
    async def authorize(self, caller: Caller, operation: str, resource_arn: str | None) -> None:
        """Returns when allowed. AccessDenied, or NotFound where telling would leak a tenant."""
