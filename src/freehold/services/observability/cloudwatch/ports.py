"""What the logs need from elsewhere."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Endpoint(NamedTuple):
    """One of a runtime's, by the runtime's id and the endpoint's name. A log group is named so."""

    runtime_id: str
    name: str
    created_ms: int


class Endpoints(Protocol):
    async def __call__(self, tenant: str) -> Sequence[Endpoint]:
        """All of a tenant's, DEFAULT ones too."""
