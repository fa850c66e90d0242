"""Amazon resource names, the way AgentCore writes them."""

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
        parts = text.split(":", 5)
        if len(parts) != 6 or parts[0] != "arn" or not parts[2] or not parts[5]:
            return None
        return cls(*parts[1:])


def agentcore_arn(region: str, tenant: str, resource: str) -> str:
    return f"arn:aws:bedrock-agentcore:{region}:{tenant}:{resource}"
