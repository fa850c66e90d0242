"""Functions by AWS Lambda's contract: an event in, a JSON value out."""

from typing import Any, Protocol

import msgspec


class FunctionFailed(Exception):
    """The function raised, ran out of time, or could not be reached. `type` is its error's
    ("ValueError", "Timeout"); the message is the function's own, cut."""

    def __init__(self, message: str, *, type: str = "", unreached: bool = False) -> None:
        super().__init__(message)
        self.message, self.type, self.unreached = message, type, unreached


class Invoked(msgspec.Struct, frozen=True, kw_only=True):
    """`context` becomes `client_context.custom` there. `role` is the IAM role that a function of
    AWS's is called with; one of this platform's needs none."""

    tenant: str
    arn: str
    event: Any
    context: dict[str, Any]
    request_id: str
    seconds_max: float = 30.0
    role: str = ""


class Functions(Protocol):
    async def invoke(self, invoked: Invoked) -> Any:
        """What the function returned. Raises FunctionFailed; NotFound for an ARN of ours that
        names nothing; AccessDenied for one of AWS's that this tenant has no keys for;
        ValidationFailed for what is no ARN of a function, and for an event that is too large."""
