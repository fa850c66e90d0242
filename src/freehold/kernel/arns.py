"""Amazon resource names, the way AgentCore writes them."""

from functools import lru_cache
from typing import NamedTuple


class Arn(NamedTuple):
    """`arn:{partition}:{service}:{region}:{tenant}:{resource}`."""

    partition: str
    service: str
    region: str
    tenant: str
    resource: str

    def __str__(self) -> str:
        return ":".join(("arn", *self))

    @classmethod
    def parse(cls, text: str) -> "Arn | None":
        """The parts of an ARN, or None when the text is not one."""
        return _parsed(text)


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Arn | None:
    parts = text.split(":", 5)
    if len(parts) != 6 or parts[0] != "arn" or not parts[2] or not parts[5]:
        return None
    return Arn(*parts[1:])


def agentcore_arn(region: str, tenant: str, resource: str) -> str:
    return f"arn:aws:bedrock-agentcore:{region}:{tenant}:{resource}"


def memory_arn(named: str, tenant: str, region: str) -> str:
    """Of a memory that is named by its id, as the tenant's own, or by an ARN."""
    bare = Arn.parse(named) is None
    return agentcore_arn(region, tenant, f"memory/{named}") if bare else named
