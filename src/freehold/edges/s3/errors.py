"""S3's error codes, and what the errors of the domain become on this wire."""

from freehold.edges.sigv4 import KeyExpired, SignatureMismatch, TokenOfKeyRefused
from freehold.kernel.errors import (
    AccessDenied,
    FreeholdError,
    NotFound,
    NotImplementedYet,
    Throttled,
    Unavailable,
    ValidationFailed,
)
from freehold.ports.blobs import BucketNotFound

_STATUS = {
    "AccessDenied": 403,
    "BadDigest": 400,
    "BucketNotEmpty": 409,
    "EntityTooLarge": 400,
    "EntityTooSmall": 400,
    "ExpiredToken": 400,
    "IllegalLocationConstraintException": 400,
    "IncompleteBody": 400,
    "InternalError": 500,
    "InvalidArgument": 400,
    "InvalidBucketName": 400,
    "InvalidChunkSizeError": 403,
    "InvalidDigest": 400,
    "InvalidPart": 400,
    "InvalidPartOrder": 400,
    "InvalidRange": 416,
    "InvalidRequest": 400,
    "InvalidToken": 400,
    "InvalidURI": 400,
    "KeyTooLongError": 400,
    "MalformedTrailerError": 400,
    "MalformedXML": 400,
    "MetadataTooLarge": 400,
    "MissingContentLength": 411,
    "NoSuchBucket": 404,
    "NoSuchKey": 404,
    "NoSuchUpload": 404,
    "NotImplemented": 501,
    "PreconditionFailed": 412,
    "RequestTimeTooSkewed": 403,
    "ServiceUnavailable": 503,
    "SignatureDoesNotMatch": 403,
    "SlowDown": 503,
    "XAmzContentSHA256Mismatch": 400,
}


class S3Error(FreeholdError):
    """`details` become members of the error document, `headers` go beside it."""

    def __init__(
        self, code: str, message: str, *, headers: dict[str, str] | None = None, **details: str
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = _STATUS[code]
        self.headers = headers or {}
        self.details = details


class NotModified(S3Error):
    """304: an answer to a conditional read, which is no error but ends it like one."""

    def __init__(self, headers: dict[str, str]) -> None:
        super().__init__("PreconditionFailed", "not modified", headers=headers)
        self.status = 304


def not_implemented(what: str) -> S3Error:
    return S3Error("NotImplemented", f"Freehold's S3 subset does not have {what}")


def as_s3_error(error: FreeholdError) -> S3Error:
    """What a domain error says on this wire, where no handler has said it better."""
    if isinstance(error, S3Error):
        return error
    for kind, code in (
        (SignatureMismatch, "SignatureDoesNotMatch"),
        (KeyExpired, "ExpiredToken"),
        (TokenOfKeyRefused, "InvalidToken"),
        (AccessDenied, "AccessDenied"),
        (BucketNotFound, "NoSuchBucket"),
        (NotFound, "NoSuchKey"),
        (ValidationFailed, "InvalidArgument"),
        (Throttled, "SlowDown"),
        (Unavailable, "ServiceUnavailable"),
        (NotImplementedYet, "NotImplemented"),
    ):
        if isinstance(error, kind):
            return S3Error(code, error.message)
    return S3Error("InternalError", error.message)
