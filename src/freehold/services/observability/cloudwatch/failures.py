"""Errors as CloudWatch Logs names them. All are 400 there, absence too."""

from freehold.kernel.errors import FreeholdError


class InvalidParameter(FreeholdError):
    code = "InvalidParameterException"
    status = 400


class LimitExceeded(FreeholdError):
    code = "LimitExceededException"
    status = 400


class NoSuchLog(FreeholdError):
    """A group, stream or query that is not there, or is another tenant's."""

    code = "ResourceNotFoundException"
    status = 400


class MalformedQuery(FreeholdError):
    """`start` and `end` are where in the query, in characters."""

    code = "MalformedQueryException"
    status = 400

    def __init__(self, message: str, start: int, end: int) -> None:
        location = {"startCharOffset": start, "endCharOffset": end}
        super().__init__(message, queryCompileError={"location": location, "message": message})
