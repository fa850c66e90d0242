"""Multipart uploads through a real boto3, and what survives a restart of the server."""

import hashlib
import io
from pathlib import Path
from typing import Any

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError
from s3_edge_driver import served

from freehold.adapters.blobs.filesystem import FilesystemBlobs
from freehold.kernel.body import BytesBody
from freehold.ports.blobs import Blob

BUCKET = "things"
MIB = 1 << 20
PART = hashlib.shake_128(b"part").digest(5 * MIB)
IN_PARTS = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)


def code_of(caught: pytest.ExceptionInfo[ClientError]) -> str:
    code: str = caught.value.response["Error"]["Code"]
    return code


def begin(s3: Any, key: str = "k", **options: Any) -> dict[str, str]:
    """The parameters that name the upload."""
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key=key, **options)
    return {"Bucket": BUCKET, "Key": key, "UploadId": upload["UploadId"]}


def send_part(s3: Any, upload: dict[str, str], number: int, body: bytes) -> dict[str, Any]:
    answer = s3.upload_part(**upload, PartNumber=number, Body=body)
    return {"PartNumber": number, "ETag": answer["ETag"]}


def etag_of(*parts: bytes) -> str:
    md5s = b"".join(hashlib.md5(part).digest() for part in parts)
    return f'"{hashlib.md5(md5s).hexdigest()}-{len(parts)}"'


def test_a_file_goes_up_in_parts_and_comes_down_whole(s3: Any, tmp_path: Path) -> None:
    data = hashlib.shake_128(b"file").digest(12 * MIB + 5)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(data)
    s3.upload_file(
        str(source),
        BUCKET,
        "file",
        ExtraArgs={"Metadata": {"a": "1"}, "ContentType": "text/x"},
        Config=IN_PARTS,
    )
    s3.download_file(BUCKET, "file", str(target), Config=IN_PARTS)
    assert target.read_bytes() == data
    head = s3.head_object(Bucket=BUCKET, Key="file")
    parts = [data[at : at + 5 * MIB] for at in range(0, len(data), 5 * MIB)]
    assert head["ETag"] == etag_of(*parts)
    assert (head["Metadata"], head["ContentType"]) == ({"a": "1"}, "text/x")
    assert s3.list_objects_v2(Bucket=BUCKET)["Contents"][0]["ETag"] == etag_of(*parts)
    # Of the upload nothing is left, and the bucket that held it cannot be seen.
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET)
    assert [one["Name"] for one in s3.list_buckets()["Buckets"]] == [BUCKET]


def test_a_large_object_is_copied_in_parts(s3: Any) -> None:
    data = hashlib.shake_128(b"copy").digest(11 * MIB)
    s3.upload_fileobj(io.BytesIO(data), BUCKET, "source", Config=IN_PARTS)
    s3.copy({"Bucket": BUCKET, "Key": "source"}, BUCKET, "copy", Config=IN_PARTS)
    assert s3.get_object(Bucket=BUCKET, Key="copy")["Body"].read() == data


def test_parts_may_come_in_any_order_and_twice(s3: Any) -> None:
    upload = begin(s3)
    last = send_part(s3, upload, 7, b"end")
    send_part(s3, upload, 2, b"wrong")
    first = send_part(s3, upload, 2, PART)
    listed = s3.list_parts(**upload)
    assert [(one["PartNumber"], one["Size"]) for one in listed["Parts"]] == [(2, 5 * MIB), (7, 3)]
    done = s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": [first, last]})
    assert done["ETag"] == etag_of(PART, b"end")
    assert s3.get_object(Bucket=BUCKET, Key="k")["Body"].read() == PART + b"end"


def test_a_part_that_is_not_named_is_left_out(s3: Any) -> None:
    upload = begin(s3)
    send_part(s3, upload, 1, b"left out")
    named = send_part(s3, upload, 2, b"named")
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": [named]})
    assert s3.get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"named"


def test_a_retried_completion_succeeds_again(s3: Any) -> None:
    upload = begin(s3)
    parts = {"Parts": [send_part(s3, upload, 1, b"only")]}
    first = s3.complete_multipart_upload(**upload, MultipartUpload=parts)
    again = s3.complete_multipart_upload(**upload, MultipartUpload=parts)
    assert again["ETag"] == first["ETag"]
    s3.put_object(Bucket=BUCKET, Key="k", Body=b"something else")
    with pytest.raises(ClientError) as caught:
        s3.complete_multipart_upload(**upload, MultipartUpload=parts)
    assert code_of(caught) == "NoSuchUpload"


def test_an_aborted_upload_is_gone(s3: Any) -> None:
    upload = begin(s3)
    part = send_part(s3, upload, 1, b"x")
    s3.abort_multipart_upload(**upload)
    for operation, more in (
        (s3.list_parts, {}),
        (s3.abort_multipart_upload, {}),
        (s3.upload_part, {"PartNumber": 1, "Body": b"x"}),
        (s3.complete_multipart_upload, {"MultipartUpload": {"Parts": [part]}}),
    ):
        with pytest.raises(ClientError) as caught:
            operation(**upload, **more)
        assert code_of(caught) == "NoSuchUpload"
    assert s3.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 0


def test_an_upload_is_of_its_own_key_only(s3: Any) -> None:
    upload = begin(s3) | {"Key": "other"}
    with pytest.raises(ClientError) as caught:
        s3.upload_part(**upload, PartNumber=1, Body=b"x")
    assert code_of(caught) == "NoSuchUpload"


def test_uploads_under_way_are_listed(s3: Any) -> None:
    ours = {name: begin(s3, name)["UploadId"] for name in ("b", "a/1", "ü")}
    listed = s3.list_multipart_uploads(Bucket=BUCKET)["Uploads"]
    assert [(one["Key"], one["UploadId"]) for one in listed] == [
        (name, ours[name]) for name in ("a/1", "b", "ü")
    ]
    listed = s3.list_multipart_uploads(Bucket=BUCKET, Prefix="a/")["Uploads"]
    assert [one["Key"] for one in listed] == ["a/1"]


def test_uploads_end_with_their_bucket(s3: Any) -> None:
    place = {"CreateBucketConfiguration": {"LocationConstraint": "eu-central-1"}}
    upload = begin(s3)
    send_part(s3, upload, 1, b"x")
    s3.delete_bucket(Bucket=BUCKET)
    s3.create_bucket(Bucket=BUCKET, **place)
    with pytest.raises(ClientError) as caught:
        s3.list_parts(**upload)
    assert code_of(caught) == "NoSuchUpload"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda one, two: [two, one], "InvalidPartOrder"),
        (lambda one, two: [one, one], "InvalidPartOrder"),
        (lambda one, two: [one, two | {"PartNumber": 3}], "InvalidPart"),
        (lambda one, two: [one, two | {"ETag": one["ETag"]}], "InvalidPart"),
        (lambda one, two: [one, two | {"ETag": "nonsense"}], "InvalidPart"),
        (lambda one, two: [one, two | {"ChecksumCRC32": "AAAAAA=="}], "InvalidPart"),
    ],
)
def test_a_completion_that_names_other_parts_is_refused(s3: Any, change: Any, code: str) -> None:
    upload = begin(s3)
    one, two = send_part(s3, upload, 1, PART), send_part(s3, upload, 2, b"end")
    with pytest.raises(ClientError) as caught:
        s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": change(one, two)})
    assert code_of(caught) == code
    # The upload itself is as it was.
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": [one, two]})


class ReplacesAPart(FilesystemBlobs):
    """Replaces the first part of an upload at the moment at which `raced` is being put together."""

    async def put(self, tenant: str, bucket: str, key: str, *args: Any, **options: Any) -> Blob:
        if key == "raced":
            hidden = "xn--freehold-multipart"
            (part,) = (await self.list(tenant, hidden, prefix="parts/")).items
            await super().put(tenant, hidden, part.key, BytesBody(b"other").chunks())
        return await super().put(tenant, bucket, key, *args, **options)


def test_a_part_replaced_during_the_completion_is_noticed(tmp_path: Path, tenant: str) -> None:
    store = ReplacesAPart(tmp_path)
    with served(tmp_path, store=lambda _: store) as running:
        s3 = running.client_of(tenant)
        s3.create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )
        upload = begin(s3, "raced")
        part = send_part(s3, upload, 1, b"first")
        with pytest.raises(ClientError) as caught:
            s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": [part]})
        assert code_of(caught) == "InvalidPart"
        assert s3.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 0


def test_small_parts_are_for_the_end(s3: Any) -> None:
    upload = begin(s3)
    parts = [send_part(s3, upload, number, b"small") for number in (1, 2)]
    with pytest.raises(ClientError) as caught:
        s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    assert code_of(caught) == "EntityTooSmall"


def test_parts_may_not_be_more_together_than_an_object(s3: Any) -> None:
    upload = begin(s3)
    parts = [send_part(s3, upload, number, bytes(11 * MIB)) for number in (1, 2, 3)]
    with pytest.raises(ClientError) as caught:
        s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    assert code_of(caught) == "EntityTooLarge"


def test_a_completion_can_be_kept_from_replacing(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="k", Body=b"first")
    upload = begin(s3)
    parts = {"Parts": [send_part(s3, upload, 1, b"second")]}
    with pytest.raises(ClientError) as caught:
        s3.complete_multipart_upload(**upload, MultipartUpload=parts, IfNoneMatch="*")
    assert code_of(caught) == "PreconditionFailed"
    assert s3.get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"first"


def test_a_checksum_of_the_whole_is_verified(s3: Any) -> None:
    upload = begin(s3)
    parts = {"Parts": [send_part(s3, upload, 1, b"123456789")]}
    with pytest.raises(ClientError) as caught:
        s3.complete_multipart_upload(**upload, MultipartUpload=parts, ChecksumCRC32="AAAAAA==")
    assert code_of(caught) == "BadDigest"
    # The check value of CRC-32: cbf43926.
    s3.complete_multipart_upload(**upload, MultipartUpload=parts, ChecksumCRC32="y/Q5Jg==")


@pytest.mark.parametrize("number", [0, 10_001])
def test_a_part_has_a_number_from_1_to_10000(s3: Any, number: int) -> None:
    with pytest.raises(ClientError) as caught:
        s3.upload_part(**begin(s3), PartNumber=number, Body=b"x")
    assert code_of(caught) == "InvalidArgument"


def test_parts_are_listed_in_pages(s3: Any) -> None:
    upload = begin(s3)
    for number in (1, 2, 3, 10):
        send_part(s3, upload, number, b"x")
    pages = s3.get_paginator("list_parts").paginate(**upload, PaginationConfig={"PageSize": 2})
    numbers = [[one["PartNumber"] for one in page["Parts"]] for page in pages]
    assert numbers == [[1, 2], [3, 10]]


def test_an_upload_survives_a_restart(tmp_path: Path, tenant: str) -> None:
    with served(tmp_path) as before:
        s3 = before.client_of(tenant)
        s3.create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )
        upload = begin(s3, Metadata={"a": "1"})
        first = send_part(s3, upload, 1, PART)
    with served(tmp_path) as after:
        s3 = after.client_of(tenant)
        parts = [first, send_part(s3, upload, 2, b"end")]
        s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        got = s3.get_object(Bucket=BUCKET, Key="k")
        assert (got["Body"].read(), got["Metadata"]) == (PART + b"end", {"a": "1"})
