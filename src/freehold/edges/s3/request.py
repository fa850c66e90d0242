"""One S3 request as its handler sees it, and the answer that it gives back."""

from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote_to_bytes

from starlette.types import Scope

from freehold.edges.pipeline import Call
from freehold.edges.s3.errors import S3Error
from freehold.edges.s3.routes import Level
from freehold.edges.s3.upload import Upload
from freehold.edges.sigv4 import header_text

MOUNT = "/_s3"
# S3 lets nobody name a bucket so: what begins like this is the edge's own (multipart.py).
RESERVED_BUCKET_PREFIX = "xn--"

_QUERY_FIELDS_MAX = 64
_AUTHENTICATION = frozenset(
    {
        "x-amz-algorithm",
        "x-amz-credential",
        "x-amz-date",
        "x-amz-expires",
        "x-amz-security-token",
        "x-amz-signature",
        "x-amz-signedheaders",
    }
)


@dataclass(slots=True)
class Target:
    """What a request names and says, decoded. `key` is "" for a bucket, both for the service."""

    bucket: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]

    @property
    def level(self) -> Level:
        if not self.bucket and not self.key:
            return "service"
        return "object" if self.key else "bucket"


def read_target(scope: Scope) -> Target:
    headers = _headers(scope)
    query = _query(scope["query_string"])
    for name in [name for name in query if name.lower().startswith("x-amz-")]:
        # A presigned URL carries as parameters what would be headers: signed there too.
        value = query.pop(name)
        if name.lower() not in _AUTHENTICATION:
            headers.setdefault(name.lower(), value)
    path = scope["raw_path"].removeprefix(MOUNT.encode()).removeprefix(b"/")
    bucket, _, key = path.partition(b"/")
    return Target(_decoded(bucket), _decoded(key), query, headers)


def _headers(scope: Scope) -> dict[str, str]:
    """Lower-case names; repeated ones joined by commas, as HTTP has it."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), header_text(raw_value)
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def _query(raw: bytes) -> dict[str, str]:
    query: dict[str, str] = {}
    for pair in filter(None, raw.split(b"&", _QUERY_FIELDS_MAX)):
        name, _, value = pair.partition(b"=")
        decoded = _decoded(name)
        if decoded in query or len(query) >= _QUERY_FIELDS_MAX:
            raise S3Error("InvalidArgument", "a parameter is repeated, or there are too many")
        query[decoded] = _decoded(value.replace(b"+", b" "))
    return query


def _decoded(raw: bytes) -> str:
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError as error:
        raise S3Error("InvalidURI", "the URL is not UTF-8") from error


@dataclass(slots=True)
class Request:
    call: Call
    target: Target

    @property
    def tenant(self) -> str:
        return self.call.known_caller.tenant

    @property
    def bucket(self) -> str:
        return self.target.bucket

    @property
    def key(self) -> str:
        return self.target.key

    @property
    def query(self) -> Mapping[str, str]:
        return self.target.query

    @property
    def headers(self) -> Mapping[str, str]:
        return self.target.headers

    @property
    def upload(self) -> Upload:
        assert isinstance(self.call.body, Upload), "authentication makes the body an Upload"
        return self.call.body

    def written(self, name: str) -> str:
        """A key as this list writes it: percent-encoded where the client asked so."""
        match self.query.get("encoding-type"):
            case None:
                return name
            case "url":
                return quote(name)
            case _:
                raise S3Error("InvalidArgument", "encoding-type can only be url")

    def number(self, name: str, *, default: int, most: int) -> int:
        """A parameter from 0 up. More than `most` is `most`, as in S3's lists."""
        text = self.query.get(name, "")
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and len(text) <= 10):
            raise S3Error("InvalidArgument", f"{name} must be a number from 0 to 2147483647")
        return min(int(text), most)


@dataclass(slots=True)
class Answer:
    """`body` streams when it is an iterator; `headers` then has its content-length."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | AsyncIterator[bytes] = b""


@dataclass(slots=True)
class LateAnswer:
    """A document that may take longer than clients wait for the first byte of an answer."""

    document: Awaitable[bytes]


def xml(body: bytes, *, status: int = 200) -> Answer:
    return Answer(status, {"content-type": "application/xml"}, body)


def check_bucket(bucket: str) -> None:
    """The edge's own buckets look absent."""
    if bucket.startswith(RESERVED_BUCKET_PREFIX):
        raise S3Error("NoSuchBucket", "no such bucket")
