"""What oauth needs from other services."""

from collections.abc import Collection
from typing import Protocol


class ReturnUrls(Protocol):
    async def return_urls(self, tenant: str, workload: str) -> Collection[str]:
        """`allowedResourceOauth2ReturnUrls` of a workload identity. NotFound."""
