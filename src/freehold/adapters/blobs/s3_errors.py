"""What the errors of an S3 server and of the way to it mean here."""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError

from freehold.kernel.errors import Conflict, FreeholdError, NotFound, PlatformFailed, Unavailable


class RangeNotThere(Exception):
    """The object ends before the range that was asked for."""


@contextmanager
def translated() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        raise _meaning(error) from error
    except BotoCoreError as error:
        # No connection, no answer in time, no credentials: nothing that a caller did.
        raise Unavailable("the object store cannot be reached") from error


def _meaning(error: ClientError) -> FreeholdError | RangeNotThere:
    code = error.response["Error"]["Code"]
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    if code == "NoSuchBucket":
        return PlatformFailed("the configured bucket of the object store is absent")
    if status == 404:
        return NotFound("no such key")
    if status in (409, 412):
        return Conflict("the key is there already")
    if status == 416:
        return RangeNotThere()
    if status in (429, 500, 502, 503, 504):
        return Unavailable("the object store is busy")
    return PlatformFailed(f"the object store refused with {code}")
