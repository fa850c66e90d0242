"""Which operation a request asks for, and which parameters and headers that operation knows.

What an operation does not know it refuses: an ignored `?acl`, `versionId` or encryption header
would have the client believe something false. Presence decides, as in S3.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Level = Literal["service", "bucket", "object"]

_COMMON_QUERY = frozenset({"x-id"})
# Ask for nothing, or for what is checked elsewhere.
_COMMON_HEADERS = frozenset(
    {
        "x-amz-content-sha256",
        "x-amz-date",
        "x-amz-decoded-content-length",
        "x-amz-expected-bucket-owner",
        "x-amz-request-payer",
        "x-amz-sdk-checksum-algorithm",
        "x-amz-security-token",
        "x-amz-trailer",
        "x-amz-user-agent",
    }
)
# With these values they ask for what happens anyway.
HARMLESS_VALUES: Mapping[str, frozenset[str]] = {
    "x-amz-acl": frozenset({"private", "bucket-owner-full-control"}),
    "x-amz-storage-class": frozenset({"STANDARD"}),
    "x-amz-object-ownership": frozenset({"BucketOwnerEnforced"}),
    "x-amz-bucket-object-lock-enabled": frozenset({"false", "False"}),
    "x-amz-tagging-directive": frozenset({"COPY"}),
}


@dataclass(frozen=True, slots=True)
class Route:
    """`takes` and `headers` are optional, `needs` and `needs_header` make the route."""

    operation: str
    method: str
    level: Level
    needs: frozenset[str] = frozenset()
    needs_header: str = ""
    takes: frozenset[str] = frozenset()
    headers: frozenset[str] = frozenset()
    metadata: bool = False
    # x-amz-checksum-* headers describe this request's body.
    checks_body: bool = False

    def fits(self, query: Mapping[str, str], headers: Mapping[str, str]) -> bool:
        return self.needs <= query.keys() and (
            not self.needs_header or self.needs_header in headers
        )

    def unknown(self, query: Mapping[str, str], headers: Mapping[str, str]) -> str | None:
        """The first parameter or header that would have to be ignored."""
        for name in query:
            if name not in self.needs | self.takes | _COMMON_QUERY:
                return f"the parameter {name[:64]} of {self.operation}"
        for name, value in headers.items():
            if name.startswith("x-amz-") and not self._knows(name, value):
                return f"the header {name[:64]} of {self.operation}"
        return None

    def _knows(self, name: str, value: str) -> bool:
        return (
            name in _COMMON_HEADERS
            or name in self.headers
            or name == self.needs_header
            or value in HARMLESS_VALUES.get(name, ())
            or (self.metadata and name.startswith("x-amz-meta-"))
            or (self.checks_body and name.startswith("x-amz-checksum-"))
        )


def _names(*names: str) -> frozenset[str]:
    return frozenset(names)


_RESPONSE = _names(
    *(
        f"response-{part}"
        for part in (
            "cache-control",
            "content-disposition",
            "content-encoding",
            "content-language",
            "content-type",
            "expires",
        )
    )
)
_LISTING = _names("prefix", "delimiter", "max-keys", "encoding-type")
_MULTIPART = _names("uploadId")
_PART = _names("partNumber", "uploadId")
_COPY = _names(
    "x-amz-copy-source",
    "x-amz-copy-source-if-match",
    "x-amz-copy-source-if-modified-since",
    "x-amz-copy-source-if-none-match",
    "x-amz-copy-source-if-unmodified-since",
    "x-amz-source-expected-bucket-owner",
)
_OPTIONAL_ATTRIBUTES = _names("x-amz-optional-object-attributes")

# The more a route needs, the earlier it stands.
ROUTES = (
    Route("ListBuckets", "GET", "service"),
    Route("CreateBucket", "PUT", "bucket", checks_body=True),
    Route("HeadBucket", "HEAD", "bucket"),
    Route("DeleteBucket", "DELETE", "bucket"),
    Route("GetBucketLocation", "GET", "bucket", needs=_names("location")),
    Route(
        "ListMultipartUploads",
        "GET",
        "bucket",
        needs=_names("uploads"),
        takes=_names("prefix", "max-uploads", "encoding-type"),
    ),
    Route(
        "ListObjectsV2",
        "GET",
        "bucket",
        needs=_names("list-type"),
        takes=_LISTING | _names("continuation-token", "start-after", "fetch-owner"),
        headers=_OPTIONAL_ATTRIBUTES,
    ),
    Route(
        "ListObjects",
        "GET",
        "bucket",
        takes=_LISTING | _names("marker"),
        headers=_OPTIONAL_ATTRIBUTES,
    ),
    Route("DeleteObjects", "POST", "bucket", needs=_names("delete"), checks_body=True),
    Route(
        "UploadPartCopy",
        "PUT",
        "object",
        needs=_PART,
        needs_header="x-amz-copy-source",
        headers=_COPY | _names("x-amz-copy-source-range"),
    ),
    Route("UploadPart", "PUT", "object", needs=_PART, checks_body=True),
    Route(
        "CopyObject",
        "PUT",
        "object",
        needs_header="x-amz-copy-source",
        headers=_COPY | _names("x-amz-metadata-directive"),
        metadata=True,
    ),
    Route("PutObject", "PUT", "object", metadata=True, checks_body=True),
    Route(
        "ListParts",
        "GET",
        "object",
        needs=_MULTIPART,
        takes=_names("max-parts", "part-number-marker"),
    ),
    Route("GetObject", "GET", "object", takes=_RESPONSE, headers=_names("x-amz-checksum-mode")),
    Route("HeadObject", "HEAD", "object", takes=_RESPONSE, headers=_names("x-amz-checksum-mode")),
    Route("AbortMultipartUpload", "DELETE", "object", needs=_MULTIPART),
    Route("DeleteObject", "DELETE", "object"),
    Route(
        "CreateMultipartUpload",
        "POST",
        "object",
        needs=_names("uploads"),
        headers=_names("x-amz-checksum-algorithm", "x-amz-checksum-type"),
        metadata=True,
    ),
    Route(
        "CompleteMultipartUpload",
        "POST",
        "object",
        needs=_MULTIPART,
        headers=_names(
            "x-amz-checksum-crc32",
            "x-amz-checksum-sha1",
            "x-amz-checksum-sha256",
            "x-amz-checksum-type",
            "x-amz-mp-object-size",
        ),
    ),
)

_BY_PLACE: dict[tuple[str, str], list[Route]] = {}
for _route in ROUTES:
    _BY_PLACE.setdefault((_route.level, _route.method), []).append(_route)


def find_route(
    level: Level, method: str, query: Mapping[str, str], headers: Mapping[str, str]
) -> Route | None:
    for route in _BY_PLACE.get((level, method), ()):
        if route.fits(query, headers):
            return route
    return None
