"""From an error to the answer that a client of AWS understands."""

from typing import Any

import msgspec

from freehold.edges.aws.model import Operation, Shape
from freehold.edges.aws.reply import JSON_TYPE, Reply
from freehold.kernel.errors import FreeholdError


class UnknownOperation(FreeholdError):
    """No operation has this method and path."""

    code = "UnknownOperationException"
    status = 404


class UnknownMethod(UnknownOperation):
    """The path is an operation's, but by another method. `allowed` are those that it has."""

    status = 405

    def __init__(self, allowed: list[str]) -> None:
        super().__init__(f"No operation has this method; this path has {', '.join(allowed)}.")
        self.allowed = allowed


# Some operations model an error of ours under another name only.
_SYNONYMS = {
    "InternalServerException": "ServiceException",
    "ThrottlingException": "ThrottledException",
}
# Members that a model requires and that only some of our errors carry.
_DEFAULTS: dict[str, Any] = {"reason": "FieldValidationFailed"}


def error_reply(error: FreeholdError, operation: Operation | None) -> Reply:
    """The operation's own error, else one that its service models, else our code as it is.

    A client raises its modelled class for any error of the service; the last case (a 501, say)
    becomes its general one, with code and status.
    """
    code, status = error.code, error.status
    document: dict[str, Any] = {"message": error.message}
    shape = None
    if operation is not None:
        synonym = _SYNONYMS.get(code)
        if code not in operation.errors and synonym in operation.errors:
            code = synonym
        shape = operation.service.error(code)
    if shape is not None:
        status = shape.error_status or status
        document = error_document(shape, error)
    headers = [(b"x-amzn-errortype", code.encode("ascii")), (b"content-type", JSON_TYPE)]
    if isinstance(error, UnknownMethod):
        headers.append((b"allow", ", ".join(error.allowed).encode("ascii")))
    return Reply(status, headers, msgspec.json.encode(document))


def error_document(shape: Shape, error: FreeholdError) -> dict[str, Any]:
    """The members that the model has, of those that the error has."""
    document: dict[str, Any] = {}
    for name in shape.members:
        value = error.fields.get(name, _DEFAULTS.get(name))
        if name == "message":
            document[name] = error.message
        elif value is not None:
            document[name] = value
    return document
