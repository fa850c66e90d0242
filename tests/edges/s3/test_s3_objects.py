"""Objects through a real boto3: whole, in ranges, under conditions, copied, presigned, removed."""

import hashlib
import http.client
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from s3_edge_driver import OBJECT_BYTES_MAX, Served, ask

from freehold.ports.authorizer import AccessKey

BUCKET = "things"


def code_of(caught: pytest.ExceptionInfo[ClientError]) -> str:
    code: str = caught.value.response["Error"]["Code"]
    return code


def status_of(caught: pytest.ExceptionInfo[ClientError]) -> int:
    status: int = caught.value.response["ResponseMetadata"]["HTTPStatusCode"]
    return status


def read(s3: Any, key: str, **options: Any) -> bytes:
    data: bytes = s3.get_object(Bucket=BUCKET, Key=key, **options)["Body"].read()
    return data


@pytest.mark.parametrize("size", [0, 1, 100_000, 3_000_000])
def test_an_object_comes_back_as_it_was_put(s3: Any, size: int) -> None:
    data = hashlib.shake_128(b"object").digest(size)
    put = s3.put_object(
        Bucket=BUCKET,
        Key="a/b",
        Body=data,
        ContentType="text/x-thing",
        CacheControl="no-store",
        ContentEncoding="identity",
        ContentDisposition="attachment",
        Metadata={"colour": "blue", "shape": "round"},
    )
    etag = f'"{hashlib.md5(data).hexdigest()}"'
    got = s3.get_object(Bucket=BUCKET, Key="a/b")
    assert got["Body"].read() == data
    # Asked by default; boto3 has verified the body of `got` against its checksum.
    head = s3.head_object(Bucket=BUCKET, Key="a/b", ChecksumMode="ENABLED")
    for answer in (got, head):
        assert answer["ContentLength"] == size
        assert answer["ContentType"] == "text/x-thing"
        assert answer["CacheControl"] == "no-store"
        assert answer["ContentEncoding"] == "identity"
        assert answer["ContentDisposition"] == "attachment"
        assert answer["Metadata"] == {"colour": "blue", "shape": "round"}
        assert answer["ETag"] == put["ETag"] == etag
        assert abs(answer["LastModified"] - datetime.now(UTC)) < timedelta(minutes=1)
        assert answer["ChecksumCRC32"] == put["ChecksumCRC32"]
    assert got["ResponseMetadata"]["RequestId"]


def test_an_object_has_s3s_default_type(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="k")
    assert s3.head_object(Bucket=BUCKET, Key="k")["ContentType"] == "binary/octet-stream"


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=2-5", 2, 5),
        ("bytes=8-", 8, 9),
        ("bytes=-3", 7, 9),
        ("bytes=-99", 0, 9),
        ("bytes=5-99", 5, 9),
    ],
)
def test_a_range_is_answered_with_206(s3: Any, wanted: str, first: int, last: int) -> None:
    s3.put_object(Bucket=BUCKET, Key="digits", Body=b"0123456789")
    got = s3.get_object(Bucket=BUCKET, Key="digits", Range=wanted)
    assert got["Body"].read() == b"0123456789"[first : last + 1]
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert got["ContentRange"] == f"bytes {first}-{last}/10"
    assert s3.head_object(Bucket=BUCKET, Key="digits", Range=wanted)["ContentLength"] == (
        last - first + 1
    )


@pytest.mark.parametrize("wanted", ["bytes=5-2", "bytes=0-1,3-4", "lines=1-2", "bytes=-"])
def test_a_range_that_cannot_be_read_is_ignored(s3: Any, wanted: str) -> None:
    s3.put_object(Bucket=BUCKET, Key="digits", Body=b"0123456789")
    assert read(s3, "digits", Range=wanted) == b"0123456789"


@pytest.mark.parametrize("wanted", ["bytes=10-", "bytes=10-12", "bytes=-0"])
def test_a_range_behind_the_end_is_416(s3: Any, wanted: str) -> None:
    s3.put_object(Bucket=BUCKET, Key="digits", Body=b"0123456789")
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket=BUCKET, Key="digits", Range=wanted)
    assert (code_of(caught), status_of(caught)) == ("InvalidRange", 416)
    headers = caught.value.response["ResponseMetadata"]["HTTPHeaders"]
    assert headers["content-range"] == "bytes */10"


def test_reads_are_conditional(s3: Any) -> None:
    etag = s3.put_object(Bucket=BUCKET, Key="k", Body=b"x")["ETag"]
    past, future = (datetime.now(UTC) + timedelta(hours=hours) for hours in (-1, 1))
    for held in (
        {"IfMatch": etag},
        {"IfMatch": "*"},
        {"IfNoneMatch": '"other"'},
        {"IfModifiedSince": past},
        {"IfUnmodifiedSince": future},
        # RFC 9110: a tag outweighs a date.
        {"IfMatch": etag, "IfUnmodifiedSince": past},
        {"IfNoneMatch": '"other"', "IfModifiedSince": datetime.now(UTC)},
    ):
        assert read(s3, "k", **held) == b"x"
    for failed, status in (
        ({"IfMatch": '"other"'}, 412),
        ({"IfUnmodifiedSince": past}, 412),
        ({"IfNoneMatch": etag}, 304),
        ({"IfNoneMatch": f'"other", {etag}'}, 304),
        ({"IfModifiedSince": datetime.now(UTC)}, 304),
    ):
        for operation in (s3.get_object, s3.head_object):
            with pytest.raises(ClientError) as caught:
                operation(Bucket=BUCKET, Key="k", **failed)
            assert status_of(caught) == status


def test_if_none_match_star_keeps_what_is_there(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="k", Body=b"first", IfNoneMatch="*")
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=BUCKET, Key="k", Body=b"second", IfNoneMatch="*")
    assert (code_of(caught), status_of(caught)) == ("PreconditionFailed", 412)
    assert read(s3, "k") == b"first"


def test_a_condition_on_a_write_that_would_be_ignored_is_refused(s3: Any) -> None:
    etag = s3.put_object(Bucket=BUCKET, Key="k", Body=b"first")["ETag"]
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=BUCKET, Key="k", Body=b"second", IfMatch=etag)
    assert (code_of(caught), status_of(caught)) == ("NotImplemented", 501)
    with pytest.raises(ClientError):
        s3.delete_object(Bucket=BUCKET, Key="k", IfMatch=etag)
    assert read(s3, "k") == b"first"


def test_absent_things_have_s3s_names(s3: Any) -> None:
    for operation, parameters, code in (
        (s3.get_object, {"Bucket": BUCKET, "Key": "none"}, "NoSuchKey"),
        (s3.get_object, {"Bucket": "no-bucket", "Key": "none"}, "NoSuchBucket"),
        (s3.put_object, {"Bucket": "no-bucket", "Key": "k", "Body": b"x"}, "NoSuchBucket"),
        (s3.delete_object, {"Bucket": "no-bucket", "Key": "k"}, "NoSuchBucket"),
        (s3.head_object, {"Bucket": BUCKET, "Key": "none"}, "404"),
        (s3.list_objects_v2, {"Bucket": "no-bucket"}, "NoSuchBucket"),
    ):
        with pytest.raises(ClientError) as caught:
            operation(**parameters)
        assert (code_of(caught), status_of(caught)) == (code, 404)


def test_another_tenants_bucket_is_no_such_bucket(s3: Any, running: Served, tenant: str) -> None:
    s3.put_object(Bucket=BUCKET, Key="k", Body=b"mine")
    stranger = running.client_of(str(int(tenant) ^ 1))
    for operation, parameters in (
        (stranger.get_object, {"Key": "k"}),
        (stranger.put_object, {"Key": "k", "Body": b"theirs"}),
        (stranger.delete_object, {"Key": "k"}),
        (stranger.list_objects_v2, {}),
        (stranger.delete_bucket, {}),
        (stranger.copy_object, {"Key": "c", "CopySource": f"{BUCKET}/k"}),
        (stranger.create_multipart_upload, {"Key": "k"}),
    ):
        with pytest.raises(ClientError) as caught:
            operation(Bucket=BUCKET, **parameters)
        assert (code_of(caught), status_of(caught)) == ("NoSuchBucket", 404)
    # The same name is theirs to take, and is another bucket.
    stranger.create_bucket(
        Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    with pytest.raises(ClientError) as caught:
        stranger.copy_object(Bucket=BUCKET, Key="c", CopySource=f"{BUCKET}/k")
    assert code_of(caught) == "NoSuchKey"
    stranger.put_object(Bucket=BUCKET, Key="k", Body=b"theirs")
    assert read(s3, "k") == b"mine"


def test_a_copy_takes_the_metadata_along_or_gets_its_own(s3: Any) -> None:
    s3.put_object(
        Bucket=BUCKET, Key="a b+ü", Body=b"x", ContentType="text/x", Metadata={"one": "1"}
    )
    source = {"Bucket": BUCKET, "Key": "a b+ü"}
    copied = s3.copy_object(Bucket=BUCKET, Key="copy", CopySource=source)
    assert copied["CopyObjectResult"]["ETag"] == f'"{hashlib.md5(b"x").hexdigest()}"'
    head = s3.head_object(Bucket=BUCKET, Key="copy")
    assert (head["ContentType"], head["Metadata"]) == ("text/x", {"one": "1"})
    s3.copy_object(
        Bucket=BUCKET,
        Key="copy",
        CopySource={"Bucket": BUCKET, "Key": "copy"},
        MetadataDirective="REPLACE",
        Metadata={"two": "2"},
    )
    head = s3.head_object(Bucket=BUCKET, Key="copy")
    assert (head["ContentType"], head["Metadata"]) == ("binary/octet-stream", {"two": "2"})
    assert read(s3, "copy") == b"x"
    with pytest.raises(ClientError) as caught:
        s3.copy_object(Bucket=BUCKET, Key="copy", CopySource=f"{BUCKET}/copy")
    assert code_of(caught) == "InvalidRequest"
    with pytest.raises(ClientError) as caught:
        s3.copy_object(Bucket=BUCKET, Key="c", CopySource=source, CopySourceIfMatch='"other"')
    assert code_of(caught) == "PreconditionFailed"


def test_deleting_is_silent_about_what_is_absent(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="k")
    for _ in range(2):
        assert s3.delete_object(Bucket=BUCKET, Key="k")["ResponseMetadata"]["HTTPStatusCode"] == 204


def test_many_objects_are_deleted_at_once(s3: Any) -> None:
    keys = ["a", "b/c", "d<&>'\"", "ü 🗝", " lead", "x" * 900]
    for key in keys:
        s3.put_object(Bucket=BUCKET, Key=key)
    objects = [{"Key": key} for key in [*keys, "absent"]]
    answer = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": objects})
    assert {one["Key"] for one in answer["Deleted"]} == {*keys, "absent"}
    assert s3.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 0


def test_a_quiet_delete_tells_only_what_failed(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="k")
    objects = [{"Key": "k"}, {"Key": "k", "VersionId": "v1"}]
    answer = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": objects, "Quiet": True})
    assert "Deleted" not in answer
    assert [(one["Key"], one["Code"]) for one in answer["Errors"]] == [("k", "NotImplemented")]


def test_presigned_urls_work_without_a_key(s3: Any, running: Served) -> None:
    put_url = s3.generate_presigned_url("put_object", Params={"Bucket": BUCKET, "Key": "a b/ü"})
    assert fetch(put_url, "PUT", b"by url") == (200, b"")
    parameters = {"Bucket": BUCKET, "Key": "a b/ü", "ResponseContentType": "text/x-other"}
    get_url = s3.generate_presigned_url("get_object", Params=parameters)
    assert fetch(get_url, "GET") == (200, b"by url")
    # Signed for one method, one key, one set of parameters.
    assert fetch(put_url, "GET")[0] == 403
    assert fetch(get_url.replace("a%20b", "a%20c"), "GET")[0] == 403
    assert fetch(get_url.replace("x-other", "html"), "GET")[0] == 403


def test_a_presigned_url_ends(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = {"Bucket": BUCKET, "Key": "k"}
    s3.put_object(**parameters, Body=b"x")
    monkeypatch.setattr(
        "botocore.auth.get_current_datetime", lambda: datetime.now(UTC) - timedelta(hours=2)
    )
    for seconds, status in ((2 * 3600 + 60, 200), (2 * 3600 - 1, 403), (604_801, 403)):
        url = s3.generate_presigned_url("get_object", Params=parameters, ExpiresIn=seconds)
        assert fetch(url, "GET")[0] == status
    # So does the signature of a request.
    with pytest.raises(ClientError) as caught:
        s3.get_object(**parameters)
    assert code_of(caught) == "RequestTimeTooSkewed"


def test_an_answer_that_a_browser_shows_runs_nothing(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="k", Body=b"<script>", ContentType="text/html")
    headers = s3.get_object(Bucket=BUCKET, Key="k")["ResponseMetadata"]["HTTPHeaders"]
    assert headers["content-security-policy"] == "sandbox"
    assert headers["x-content-type-options"] == "nosniff"


def test_an_object_over_the_limit_is_refused(s3: Any) -> None:
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=BUCKET, Key="k", Body=bytes(OBJECT_BYTES_MAX + 1))
    assert code_of(caught) == "EntityTooLarge"
    assert s3.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 0


def test_metadata_has_a_limit_and_no_reserved_names(s3: Any) -> None:
    for metadata, code in (
        ({"k": "v" * 2048}, "MetadataTooLarge"),
        ({"freehold.content-encoding": "gzip"}, "InvalidArgument"),
    ):
        with pytest.raises(ClientError) as caught:
            s3.put_object(Bucket=BUCKET, Key="k", Metadata=metadata)
        assert code_of(caught) == code


def test_a_key_over_1024_bytes_is_refused(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="ü" * 512, Body=b"x")
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=BUCKET, Key="ü" * 513, Body=b"x")
    assert code_of(caught) == "KeyTooLongError"


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(name=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60))
@example(name="../../etc/passwd")
@example(name="/leading//and/trailing/")
@example(name="a/../b/./c")
@example(name="%2e%2e%2f%")
@example(name="a b+c&d=e?f#g;h")
@example(name="\0\r\n\t")
@example(name="\U0010ffff")
def test_any_text_is_a_key(s3: Any, name: str) -> None:
    s3.put_object(Bucket=BUCKET, Key=name, Body=name.encode())
    assert read(s3, name) == name.encode()
    assert [one["Key"] for one in s3.list_objects_v2(Bucket=BUCKET)["Contents"]] == [name]
    copy = f"copy/{name}"
    s3.copy_object(Bucket=BUCKET, Key=copy, CopySource={"Bucket": BUCKET, "Key": name})
    assert read(s3, copy) == name.encode()
    for key in (name, copy):
        s3.delete_object(Bucket=BUCKET, Key=key)
    assert s3.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 0


def test_a_key_that_is_not_utf8_is_refused(running: Served, key: AccessKey, s3: Any) -> None:
    assert ask(running, key, "GET", f"/{BUCKET}/%ff%fe").code == "InvalidURI"


def test_the_governed_path_sees_operation_and_resource(
    running: Served, s3: Any, tenant: str
) -> None:
    running.authorizer.asked.clear()
    s3.put_object(Bucket=BUCKET, Key="a:b/c", Body=b"x")
    s3.list_objects_v2(Bucket=BUCKET)
    assert running.authorizer.asked == [
        ("s3:PutObject", f"arn:aws:s3:eu-central-1:{tenant}:{BUCKET}/a:b/c"),
        ("s3:ListObjectsV2", f"arn:aws:s3:eu-central-1:{tenant}:{BUCKET}"),
    ]


def test_a_policy_can_refuse(running: Served, s3: Any) -> None:
    running.authorizer.refused = "s3:PutObject"
    try:
        with pytest.raises(ClientError) as caught:
            s3.put_object(Bucket=BUCKET, Key="k", Body=b"x")
    finally:
        running.authorizer.refused = ""
    assert (code_of(caught), status_of(caught)) == ("AccessDenied", 403)
    assert s3.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 0


def fetch(url: str, method: str, body: bytes = b"") -> tuple[int, bytes]:
    """As a browser or curl would: nothing but the URL."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=20)
    try:
        connection.request(method, f"{parts.path}?{parts.query}", body or None)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
