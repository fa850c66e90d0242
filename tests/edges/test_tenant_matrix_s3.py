"""Another tenant's buckets: 404 on every operation of S3's that there is, as in the matrix of the
others beside this one."""

from typing import Any

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError

from freehold.edges.s3.routes import ROUTES
from running import RunningPlatform

pytestmark = pytest.mark.timeout(300)

S3_MEMBERS: dict[str, Any] = {
    "Bucket": "tests",
    "Key": "key",
    "UploadId": "upload",
    "PartNumber": 1,
    "Delete": {"Objects": [{"Key": "key"}]},
    "MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": f'"{"0" * 32}"'}]},
    "CopySource": "strangers-own/key",
}
S3_LISTS = {"ListBuckets"}
S3_AT_HOME = {"CreateBucket"}
# Without its parts it is no request.
S3_PARTS = {"CompleteMultipartUpload"}


@pytest.fixture(scope="module")
def s3(stranger: RunningPlatform) -> Any:
    client = stranger.client("s3", config={"s3": {"addressing_style": "path"}})
    client.create_bucket(Bucket="strangers-own")
    client.put_object(Bucket="strangers-own", Key="key", Body=b"mine")
    return client


@pytest.fixture(scope="module")
def their_object(platform: RunningPlatform) -> str:
    """The bucket of code bundles, with an object at the key that is asked for."""
    client = platform.client("s3")
    client.create_bucket(Bucket="tests")
    client.put_object(Bucket="tests", Key="key", Body=b"canary-of-the-first-tenant")
    return "tests"


def s3_params(client: Any, operation: str, **more: Any) -> dict[str, Any]:
    shape = client.meta.service_model.operation_model(operation).input_shape
    required = shape.required_members if shape else []
    missing = set(required) - S3_MEMBERS.keys()
    assert not missing, f"say in S3_MEMBERS what {operation} takes for {missing}"
    return {name: S3_MEMBERS[name] for name in required} | more


@pytest.mark.parametrize(
    ("operation", "more"),
    [
        *((r.operation, {}) for r in ROUTES if r.operation not in S3_LISTS | S3_AT_HOME | S3_PARTS),
        ("CompleteMultipartUpload", {"MultipartUpload": S3_MEMBERS["MultipartUpload"]}),
        ("CopyObject", {"Bucket": "strangers-own", "CopySource": "tests/key"}),
        ("PutObject", {"Body": b"x"}),
    ],
)
def test_another_tenants_bucket_is_not_there(
    operation: str, more: dict[str, Any], s3: Any, their_object: str
) -> None:
    with pytest.raises(ClientError) as refused:
        getattr(s3, xform_name(operation))(**s3_params(s3, operation, **more))
    response = refused.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 404
    assert response["Error"]["Code"] in ("NoSuchBucket", "NoSuchUpload", "404")


def test_buckets_of_one_name_are_two(s3: Any, platform: RunningPlatform, their_object: str) -> None:
    assert [b["Name"] for b in s3.list_buckets()["Buckets"]] == ["strangers-own"]
    s3.create_bucket(Bucket=their_object)
    try:
        assert s3.list_objects_v2(Bucket=their_object)["KeyCount"] == 0
        mine = platform.client("s3").get_object(Bucket=their_object, Key="key")
        assert mine["Body"].read() == b"canary-of-the-first-tenant"
    finally:
        s3.delete_bucket(Bucket=their_object)
