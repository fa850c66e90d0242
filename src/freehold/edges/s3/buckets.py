"""Operations on buckets, and the lists of what is in them."""

from collections.abc import Callable

from freehold.edges.s3.documents import (
    document,
    group,
    owner,
    parse,
    read_bounded,
    text,
    timestamp,
)
from freehold.edges.s3.errors import S3Error
from freehold.edges.s3.listing import Listing, behind, list_keys
from freehold.edges.s3.request import RESERVED_BUCKET_PREFIX, Answer, Request, xml
from freehold.edges.s3.uploads import Uploads
from freehold.kernel.errors import Conflict, ValidationFailed
from freehold.kernel.pages import decode_token, encode_token
from freehold.ports.blobs import Blob, Blobs

_KEYS_MAX = 1000
# S3 keeps these beginnings and ends for itself.
_RESERVED_BEGINNINGS = (RESERVED_BUCKET_PREFIX, "sthree-", "amzn-s3-demo-")
_RESERVED_ENDS = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")


class Buckets:
    def __init__(self, blobs: Blobs, uploads: Uploads, *, region: str) -> None:
        self._blobs = blobs
        self._uploads = uploads
        self._region = region

    async def list_buckets(self, request: Request) -> Answer:
        buckets = [
            group("Bucket", text("Name", name), timestamp("CreationDate", created))
            for name, created in await self._blobs.buckets(request.tenant)
            if not name.startswith(RESERVED_BUCKET_PREFIX)
        ]
        parts = [owner("Owner", request.tenant), group("Buckets", *buckets)]
        return xml(document("ListAllMyBucketsResult", *parts))

    async def create(self, request: Request) -> Answer:
        await self._check_location(request)
        name = request.bucket
        if name.startswith(_RESERVED_BEGINNINGS) or name.endswith(_RESERVED_ENDS):
            raise S3Error("InvalidBucketName", "this bucket name is reserved")
        try:
            await self._blobs.create_bucket(request.tenant, name)
        except ValidationFailed as error:
            raise S3Error("InvalidBucketName", error.message) from error
        return Answer(headers={"location": f"/{name}"})

    async def head(self, request: Request) -> Answer:
        await self._blobs.list(request.tenant, request.bucket, limit=1)
        return Answer(headers={"x-amz-bucket-region": self._region})

    async def delete(self, request: Request) -> Answer:
        try:
            await self._blobs.delete_bucket(request.tenant, request.bucket)
        except Conflict as error:
            raise S3Error("BucketNotEmpty", error.message) from error
        await self._uploads.forget_bucket(request.tenant, request.bucket)
        return Answer(204)

    async def location(self, request: Request) -> Answer:
        await self._blobs.list(request.tenant, request.bucket, limit=1)
        # S3's first region is written as no name at all.
        name = "" if self._region == "us-east-1" else self._region
        return xml(text("LocationConstraint", name).encode())

    async def list_objects(self, request: Request) -> Answer:
        """The older list: a marker is a key, and a common prefix that it names is over."""
        marker = request.query.get("marker", "")
        delimiter = request.query.get("delimiter", "")
        rolled_up = delimiter and marker.endswith(delimiter)
        listing = await self._list(request, behind(marker) if rolled_up else marker)
        encode = request.written
        parts = [text("Marker", encode(marker))]
        if listing.position is not None:
            last = max(
                [*(blob.key for blob in listing.blobs[-1:]), *listing.prefixes[-1:]],
                key=lambda name: name.encode(),
                default=marker,
            )
            parts.append(text("NextMarker", encode(last)))
        return self._listed(request, listing, parts, with_owner=True)

    async def list_objects_v2(self, request: Request) -> Answer:
        query = request.query
        if query["list-type"] != "2":
            raise S3Error("InvalidArgument", "list-type must be 2")
        token, start_after = query.get("continuation-token"), query.get("start-after", "")
        position = start_after
        if token is not None:
            match decode_token(token):
                case [str(position)]:
                    pass
                case _:
                    raise S3Error("InvalidArgument", "the continuation token is not one of ours")
        listing = await self._list(request, position)
        parts = [text("KeyCount", len(listing))]
        if start_after:
            parts.append(text("StartAfter", request.written(start_after)))
        if token is not None:
            parts.append(text("ContinuationToken", token))
        if listing.position is not None:
            parts.append(text("NextContinuationToken", encode_token(listing.position)))
        return self._listed(
            request, listing, parts, with_owner=query.get("fetch-owner", "").lower() == "true"
        )

    async def _list(self, request: Request, after: str) -> Listing:
        items_max = request.number("max-keys", default=_KEYS_MAX, most=_KEYS_MAX)
        if items_max == 0:
            await self._blobs.list(request.tenant, request.bucket, limit=1)
            return Listing()
        return await list_keys(
            self._blobs,
            request.tenant,
            request.bucket,
            prefix=request.query.get("prefix", ""),
            delimiter=request.query.get("delimiter", ""),
            after=after,
            items_max=items_max,
        )

    def _listed(
        self, request: Request, listing: Listing, parts: list[str], *, with_owner: bool
    ) -> Answer:
        encode = request.written
        owners = [owner("Owner", request.tenant)] if with_owner else []
        head = [
            text("Name", request.bucket),
            text("Prefix", encode(request.query.get("prefix", ""))),
            text("MaxKeys", request.number("max-keys", default=_KEYS_MAX, most=_KEYS_MAX)),
            text("IsTruncated", "false" if listing.position is None else "true"),
        ]
        head += [
            text(member, encode(request.query[name]))
            for name, member in (("delimiter", "Delimiter"), ("encoding-type", "EncodingType"))
            if name in request.query
        ]
        contents = [_contents(blob, encode, owners) for blob in listing.blobs]
        prefixes = [
            group("CommonPrefixes", text("Prefix", encode(prefix))) for prefix in listing.prefixes
        ]
        return xml(document("ListBucketResult", *head, *parts, *contents, *prefixes))

    async def _check_location(self, request: Request) -> None:
        data = await read_bounded(request.upload)
        wanted = parse(data, "CreateBucketConfiguration").get("LocationConstraint") if data else ""
        if wanted and wanted != self._region:
            raise S3Error(
                "IllegalLocationConstraintException",
                f"this is region {self._region}; it has no other location",
            )


def _contents(blob: Blob, encode: Callable[[str], str], owners: list[str]) -> str:
    return group(
        "Contents",
        text("Key", encode(blob.key)),
        timestamp("LastModified", blob.modified_at),
        text("ETag", f'"{blob.etag}"'),
        text("Size", blob.size_bytes),
        *owners,
        text("StorageClass", "STANDARD"),
    )
