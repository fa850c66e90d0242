"""What travels in headers: an object's own, conditions, ranges."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

from freehold.edges.s3.errors import NotModified, S3Error
from freehold.ports.blobs import Blob

CONTENT_TYPE_DEFAULT = "binary/octet-stream"

_META = "x-amz-meta-"
_METADATA_BYTES_MAX = 2048
_STORED_BYTES_MAX = 4096
# Kept among a blob's metadata beside the user's own, whose names may not begin so.
_OWN = "freehold."
_STORED = (
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
)
_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.ASCII)


def to_metadata(headers: Mapping[str, str], checksums: Mapping[str, str]) -> dict[str, str]:
    """What is kept with an object: the user's metadata, its HTTP headers, its checksums."""
    metadata = {
        name.removeprefix(_META): value for name, value in headers.items() if name.startswith(_META)
    }
    if any(name.startswith(_OWN) for name in metadata):
        raise S3Error("InvalidArgument", f"metadata names may not begin with {_OWN}")
    if sum(len(name) + len(value.encode()) for name, value in metadata.items()) > (
        _METADATA_BYTES_MAX
    ):
        raise S3Error("MetadataTooLarge", f"metadata has at most {_METADATA_BYTES_MAX} bytes")
    for name in _STORED:
        value = headers.get(name, "")
        if name == "content-encoding":
            value = _without_framing(value)
        if len(value.encode()) > _STORED_BYTES_MAX:
            raise S3Error("InvalidArgument", f"the header {name} is too long")
        if value:
            metadata[_OWN + name] = value
    return metadata | {_OWN + name: value for name, value in checksums.items()}


def checksums_of(blob: Blob) -> dict[str, str]:
    return {
        name.removeprefix(_OWN): value
        for name, value in blob.metadata.items()
        if name.startswith(_OWN + "x-amz-checksum-")
    }


def of_blob(blob: Blob, request: Mapping[str, str], query: Mapping[str, str]) -> dict[str, str]:
    """An object's headers; `response-*` parameters override them."""
    headers = {
        "content-type": blob.content_type,
        "etag": f'"{blob.etag}"',
        "last-modified": http_date(blob.modified_at),
        "accept-ranges": "bytes",
        # Whatever a tenant stores may be opened in a browser, on the origin of the console.
        "content-security-policy": "sandbox",
        "x-content-type-options": "nosniff",
    }
    with_checksums = request.get("x-amz-checksum-mode") == "ENABLED" and "range" not in request
    for name, value in blob.metadata.items():
        if not name.startswith(_OWN):
            headers[_META + name] = value
        elif with_checksums or name.removeprefix(_OWN) in _STORED:
            headers[name.removeprefix(_OWN)] = value
    for name, value in query.items():
        if name.startswith("response-"):
            headers[name.removeprefix("response-")] = _safe(value)
    return headers


def http_date(at: datetime) -> str:
    return format_datetime(at.astimezone(UTC), usegmt=True)


def check_conditions(headers: Mapping[str, str], blob: Blob, *, copying: bool = False) -> None:
    """RFC 9110's order. A read that finds nothing new ends with 304, a copy with 412."""
    prefix = "x-amz-copy-source-" if copying else ""
    match, unmodified = headers.get(prefix + "if-match"), prefix + "if-unmodified-since"
    none_match, modified = headers.get(prefix + "if-none-match"), prefix + "if-modified-since"
    changed_at = blob.modified_at.replace(microsecond=0)
    if match is not None:
        if not _matches(match, blob.etag):
            raise _failed("If-Match")
    elif (since := _date(headers.get(unmodified))) is not None and changed_at > since:
        raise _failed("If-Unmodified-Since")
    if none_match is not None:
        unchanged = _matches(none_match, blob.etag)
    else:
        since = _date(headers.get(modified))
        unchanged = since is not None and changed_at <= since
    if unchanged and copying:
        raise _failed("If-None-Match")
    if unchanged:
        raise NotModified({"etag": f'"{blob.etag}"', "last-modified": http_date(blob.modified_at)})


def may_overwrite(headers: Mapping[str, str]) -> bool:
    """False for `If-None-Match: *`, the one condition on a write that is kept."""
    if "if-match" in headers:
        raise S3Error("NotImplemented", "Freehold's S3 subset does not have If-Match on writes")
    condition = headers.get("if-none-match")
    if condition not in (None, "*"):
        raise S3Error("NotImplemented", "on a write If-None-Match can only be *")
    return condition is None


def read_range(header: str | None, size_bytes: int) -> tuple[int, int] | None:
    """`(start, end exclusive)`; None for the whole, which is also what several ranges get."""
    matched = _RANGE.fullmatch(header.strip()) if header else None
    if matched is None or matched[1] == matched[2] == "":
        return None
    if not matched[1]:
        start, end = max(0, size_bytes - int(matched[2])), size_bytes
    else:
        start = int(matched[1])
        end = min(int(matched[2]) + 1, size_bytes) if matched[2] else size_bytes
        if matched[2] and int(matched[2]) < start:
            return None
    if start >= size_bytes:
        raise S3Error(
            "InvalidRange",
            "the range begins after the object's end",
            headers={"content-range": f"bytes */{size_bytes}"},
        )
    return start, end


def _without_framing(encodings: str) -> str:
    parts = [part.strip() for part in encodings.split(",")]
    return ",".join(part for part in parts if part and part != "aws-chunked")


def _matches(condition: str, etag: str) -> bool:
    tags = {part.strip().removeprefix("W/").strip('"') for part in condition.split(",")}
    return "*" in tags or etag in tags


def _date(text: str | None) -> datetime | None:
    """None for what is no date: RFC 9110 has such a condition ignored."""
    if text is None:
        return None
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _safe(value: str) -> str:
    """A parameter may hold line breaks; a header with one would be two."""
    if not value.isprintable():
        raise S3Error("InvalidArgument", "a response header has control characters")
    return value


def _failed(condition: str) -> S3Error:
    return S3Error(
        "PreconditionFailed", "a precondition of the request does not hold", Condition=condition
    )
