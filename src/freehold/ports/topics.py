"""Topics: named places that are told of something, once at least."""

from collections.abc import Mapping
from typing import Any, Protocol


class NotDelivered(Exception):
    """Says why, and no secret. `again`: another try may succeed."""

    def __init__(self, why: str, *, again: bool) -> None:
        super().__init__(why)
        self.again = again


class Topics(Protocol):
    async def tell(
        self, tenant: str, topic_arn: str, message: Mapping[str, Any], *, id: str
    ) -> None:
        """`id` is the message's: the same when it is told again. Raises NotDelivered."""
