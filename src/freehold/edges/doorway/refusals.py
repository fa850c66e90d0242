"""What the doorway answers when it cannot pass a model call on, or its answer back."""

from freehold.kernel.errors import FreeholdError


class BodyTooLarge(FreeholdError):
    code = "RequestTooLarge"
    status = 413


class ProviderUnusable(FreeholdError):
    """Not configured, or the provider refuses our key: an operator must act; no retry helps.

    The wire gives it its status, one that its SDK does not take for a passing fault.
    """

    code = "ProviderNotConfigured"
    status = 503


class ProviderFailed(FreeholdError):
    """Unreachable, or it broke the protocol."""

    code = "ProviderFailed"
    status = 502


class ProviderTimedOut(FreeholdError):
    code = "ProviderTimeout"
    status = 504
