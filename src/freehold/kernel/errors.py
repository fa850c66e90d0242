"""Errors of the domain. Each names the API error that it becomes; edges give it its wire shape."""

from typing import Any


class FreeholdError(Exception):
    """`code` is the AWS error name, `status` the HTTP status where no model says another."""

    code = "InternalServerException"
    status = 500

    def __init__(self, message: str, **fields: Any) -> None:
        """`fields` become further members of the modelled error, where the model has them."""
        super().__init__(message)
        self.message = message
        self.fields = fields


class ValidationFailed(FreeholdError):
    code = "ValidationException"
    status = 400


class Unauthorized(FreeholdError):
    """Who calls is not known: a token that is missing, or not good here."""

    code = "UnauthorizedException"
    status = 401


class AccessDenied(FreeholdError):
    code = "AccessDeniedException"
    status = 403


class NotFound(FreeholdError):
    code = "ResourceNotFoundException"
    status = 404


class Conflict(FreeholdError):
    code = "ConflictException"
    status = 409


class QuotaExceeded(FreeholdError):
    code = "ServiceQuotaExceededException"
    status = 402


class Throttled(FreeholdError):
    code = "ThrottlingException"
    status = 429


class RuntimeClientFailed(FreeholdError):
    """The agent's own code, not the platform, is at fault (HTTP 424)."""

    code = "RuntimeClientError"
    status = 424


class NotImplementedYet(FreeholdError):
    code = "NotImplemented"
    status = 501


class Unavailable(FreeholdError):
    """The platform cannot answer just now; trying again later may help."""

    code = "ServiceUnavailableException"
    status = 503


class PlatformFailed(FreeholdError):
    """Our fault, with a message that is safe to show."""
