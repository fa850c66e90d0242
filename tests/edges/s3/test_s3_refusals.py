"""What the edge does not do, it says so: in S3's words, with a request id, and without guessing."""

import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from botocore.exceptions import ClientError
from s3_edge_driver import Keys, Served, ask, send, served, sign

from freehold.ports.authorizer import AccessKey

BUCKET = "things"
PATH = f"/{BUCKET}/k"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/things?acl"),
        ("PUT", "/things?versioning"),
        ("GET", "/things?versions"),
        ("PUT", "/things?policy"),
        ("GET", "/things?list-type=2&allow-unordered=true"),
        ("GET", "/?max-buckets=10"),
        ("GET", "/things/k?tagging"),
        ("PUT", "/things/k?tagging"),
        ("GET", "/things/k?versionId=1"),
        ("DELETE", "/things/k?versionId=1"),
        ("GET", "/things/k?partNumber=1"),
        ("POST", "/things/k?restore"),
        ("POST", "/things/k?select&select-type=2"),
        ("POST", "/things"),
        ("POST", "/"),
        ("PATCH", "/things/k"),
        ("OPTIONS", "/things/k"),
    ],
)
def test_the_rest_of_s3_is_501(
    running: Served, key: AccessKey, s3: Any, method: str, path: str
) -> None:
    refused = ask(running, key, method, path)
    assert (refused.status, refused.code) == (501, "NotImplemented")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
        ("x-amz-acl", "public-read"),
        ("x-amz-grant-read", "id=1"),
        ("x-amz-tagging", "a=b"),
        ("x-amz-storage-class", "GLACIER"),
        ("x-amz-object-lock-mode", "COMPLIANCE"),
        ("x-amz-write-offset-bytes", "5"),
        ("x-amz-website-redirect-location", "/"),
        ("x-amz-not-yet-invented", "1"),
    ],
)
def test_a_header_that_would_be_ignored_is_501(
    running: Served, key: AccessKey, s3: Any, name: str, value: str
) -> None:
    refused = ask(running, key, "PUT", PATH, {name: value}, b"x")
    assert (refused.status, refused.code) == (501, "NotImplemented")
    assert s3.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 0


def test_a_header_that_asks_for_what_happens_anyway_is_fine(
    running: Served, key: AccessKey, s3: Any
) -> None:
    headers = {
        "x-amz-acl": "private",
        "x-amz-storage-class": "STANDARD",
        "x-amz-expected-bucket-owner": key.tenant,
    }
    assert ask(running, key, "PUT", f"{PATH}?x-id=PutObject", headers, b"x").status == 200


def test_another_expected_owner_is_refused(s3: Any) -> None:
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=BUCKET, Key="k", ExpectedBucketOwner="123123123123")
    assert caught.value.response["Error"]["Code"] == "AccessDenied"


def test_an_error_is_a_document_with_a_request_id(running: Served, key: AccessKey, s3: Any) -> None:
    refused = ask(running, key, "GET", f"/{BUCKET}/a%20b%3Cc%3E")
    assert refused.headers["content-type"] == "application/xml"
    root = ElementTree.fromstring(refused.body)
    assert root.tag == "Error"
    assert root.findtext("Code") == "NoSuchKey"
    assert root.findtext("Message")
    assert root.findtext("Resource") == f"/_s3/{BUCKET}/a%20b%3Cc%3E"
    assert root.findtext("RequestId") == refused.headers["x-amz-request-id"]


def test_the_answer_to_a_head_has_no_body(running: Served, key: AccessKey, s3: Any) -> None:
    refused = ask(running, key, "HEAD", PATH)
    assert (refused.status, refused.body) == (404, b"")


@pytest.mark.parametrize("path", ["/", "/things", "/things/k", "/things?acl", "/things?nonsense"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST"])
def test_who_is_not_authenticated_learns_nothing(
    running: Served, s3: Any, method: str, path: str
) -> None:
    refused = send(running, method, f"/_s3{path}", {})
    assert (refused.status, refused.code) == (403, "AccessDenied")


def test_the_edges_own_bucket_looks_absent(running: Served, key: AccessKey, s3: Any) -> None:
    s3.create_multipart_upload(Bucket=BUCKET, Key="k")
    for method, path in (
        ("GET", "/xn--freehold-multipart?list-type=2"),
        ("GET", "/xn--freehold-multipart/uploads/things/x"),
        ("PUT", "/xn--freehold-multipart/parts/x"),
        ("DELETE", "/xn--freehold-multipart"),
    ):
        assert ask(running, key, method, path).code == "NoSuchBucket"
    copy = {"x-amz-copy-source": "xn--freehold-multipart/uploads"}
    assert ask(running, key, "PUT", PATH, copy).code == "NoSuchBucket"


BOMB = b"""<?xml version="1.0"?><!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>
<Delete><Object><Key>&b;</Key></Object></Delete>"""


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"no xml",
        b"<Delete>",
        b"<Delete/>",
        b"<Other><Object><Key>k</Key></Object></Other>",
        BOMB,
        b'<!DOCTYPE d SYSTEM "file:///etc/passwd"><Delete><Object><Key>k</Key></Object></Delete>',
        b"<Delete>" + b"<a>" * 1000 + b"</a>" * 1000 + b"</Delete>",
        b"<Delete>" + b"<Object><Key>k</Key></Object>" * 1001 + b"</Delete>",
        b"<Delete>" + b"<a/>" * 200_000 + b"</Delete>",
        b"<Delete><Object><Key>" + b"k" * 5_000_000 + b"</Key></Object></Delete>",
        b"<Delete><Object><Key>\xff</Key></Object></Delete>",
        b"<Delete><Object><Key>&#1;</Key></Object></Delete>",
    ],
)
def test_a_malformed_document_is_refused_soon(
    running: Served, key: AccessKey, s3: Any, document: bytes
) -> None:
    s3.put_object(Bucket=BUCKET, Key="k")
    started = time.monotonic()
    refused = ask(running, key, "POST", f"/{BUCKET}?delete", {}, document)
    assert (refused.status, refused.code) == (400, "MalformedXML")
    assert time.monotonic() - started < 5
    assert s3.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 1


def test_a_document_may_have_any_namespace_and_spacing(
    running: Served, key: AccessKey, s3: Any
) -> None:
    for name in ("a", "b"):
        s3.put_object(Bucket=BUCKET, Key=name)
    for document in (
        b"<Delete><Object><Key>a</Key></Object></Delete>",
        b'<?xml version="1.0" encoding="UTF-8"?>\n<x:Delete xmlns:x="urn:any">\n  <x:Object>'
        b"<x:Key>b</x:Key>\n</x:Object></x:Delete>\n",
    ):
        answer = ask(running, key, "POST", f"/{BUCKET}?delete", {}, document)
        assert answer.status == 200
    assert s3.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 0


def test_damage_on_disk_is_an_error_without_details(
    running: Served, key: AccessKey, s3: Any
) -> None:
    s3.put_object(Bucket=BUCKET, Key="k", Body=b"x")
    (file,) = (p for p in (running.directory / key.tenant / "objects").rglob("*") if p.is_file())
    file.unlink()
    refused = ask(running, key, "GET", PATH)
    assert (refused.status, refused.code) == (500, "InternalError")
    assert str(running.directory).encode() not in refused.body


def test_an_error_inside_authentication_lets_nobody_in(tmp_path: Path, tenant: str) -> None:
    class Broken(Keys):
        async def active(self, access_key_id: str) -> AccessKey | None:
            raise RuntimeError("the database said something private")

    with served(tmp_path, keys=Broken()) as broken:
        refused = ask(broken, broken.keys.make(tenant), "GET", "/")
    assert (refused.status, refused.code) == (503, "ServiceUnavailable")
    assert b"private" not in refused.body


def test_an_early_refusal_can_be_read_and_the_connection_goes_on(
    running: Served, key: AccessKey, s3: Any
) -> None:
    signed = sign(running, key, "PUT", "/no-bucket/k", payload=bytes(4_000_000))
    refused = send(running, "PUT", signed.path, signed.headers, bytes(4_000_000))
    assert refused.code == "NoSuchBucket"
    for _ in range(3):
        with pytest.raises(ClientError) as caught:
            s3.put_object(Bucket="no-bucket", Key="k", Body=bytes(2_000_000))
        assert caught.value.response["Error"]["Code"] == "NoSuchBucket"
        s3.put_object(Bucket=BUCKET, Key="k", Body=b"x")
