"""Blobs' metadata as S3 can carry it: ASCII header values under lower-case names.

Every name gets `b-` in front, so that an etag of ours (`etag`) is never one of theirs.
"""

import base64
import string
from datetime import datetime
from typing import Any
from urllib.parse import quote, unquote

from freehold.ports.blobs import Blob

_ETAG = "etag"
_BLOB = "b-"
# All that is printable ASCII, but the sign that encoding itself uses.
_PLAIN = "".join(c for c in string.punctuation + " " if c != "%")


def to_s3(content_type: str, metadata: dict[str, str], etag: str, md5: str) -> dict[str, Any]:
    """Parameters of PutObject and CreateMultipartUpload."""
    carried = {_BLOB + _encoded(name): _encoded(value) for name, value in metadata.items()}
    if etag != md5:
        carried[_ETAG] = etag
    return {"ContentType": content_type, "Metadata": carried}


def base64_md5(md5: str) -> str:
    """Content-MD5, from the hex that ETags have."""
    return base64.b64encode(bytes.fromhex(md5)).decode()


def blob_of(bucket: str, key: str, response: dict[str, Any], size_bytes: int) -> Blob:
    """From the answer of GetObject or HeadObject."""
    carried: dict[str, str] = response["Metadata"]
    modified_at: datetime = response["LastModified"]
    return Blob(
        bucket=bucket,
        key=key,
        size_bytes=size_bytes,
        etag=carried.get(_ETAG) or response["ETag"].strip('"'),
        content_type=response.get("ContentType", ""),
        modified_at=modified_at,
        metadata={
            unquote(name.removeprefix(_BLOB)): unquote(value)
            for name, value in carried.items()
            if name.startswith(_BLOB)
        },
    )


def _encoded(text: str) -> str:
    # HTTP trims spaces at both ends of a header.
    return quote(text, safe="" if text != text.strip() else _PLAIN)
