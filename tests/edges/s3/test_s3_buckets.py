"""Buckets, and the lists of what is in them, through a real boto3."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from s3_edge_driver import Served, ask

from freehold.ports.authorizer import AccessKey

BUCKET = "things"
TREE = ["a", "b/1", "b/2", "b/c/3", "b0", "d/4", "d/5", "e", "é/6", "\U0010ffff/7"]


@pytest.fixture
def tree(s3: Any) -> Any:
    for key in TREE:
        s3.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
    return s3


def entries(answer: dict[str, Any]) -> list[str]:
    """Keys and common prefixes of a page, as they are ordered."""
    found = [one["Key"] for one in answer.get("Contents", ())]
    found += [one["Prefix"] for one in answer.get("CommonPrefixes", ())]
    return sorted(found, key=lambda name: name.encode())


def test_buckets_come_and_go(running: Served, tenant: str) -> None:
    s3 = running.client_of(tenant)
    place = {"CreateBucketConfiguration": {"LocationConstraint": "eu-central-1"}}
    for _ in range(2):
        s3.create_bucket(Bucket="one", **place)
    s3.create_bucket(Bucket="two.parts", **place)
    listed = s3.list_buckets()
    assert [one["Name"] for one in listed["Buckets"]] == ["one", "two.parts"]
    made = listed["Buckets"][0]["CreationDate"]
    assert abs(made - datetime.now(UTC)) < timedelta(minutes=1)
    assert s3.head_bucket(Bucket="one")["BucketRegion"] == "eu-central-1"
    assert s3.get_bucket_location(Bucket="one")["LocationConstraint"] == "eu-central-1"
    s3.delete_bucket(Bucket="one")
    assert [one["Name"] for one in s3.list_buckets()["Buckets"]] == ["two.parts"]
    with pytest.raises(ClientError) as caught:
        s3.head_bucket(Bucket="one")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404


def test_a_bucket_with_something_in_it_stays(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="k")
    with pytest.raises(ClientError) as caught:
        s3.delete_bucket(Bucket=BUCKET)
    assert caught.value.response["Error"]["Code"] == "BucketNotEmpty"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 409


@pytest.mark.parametrize(
    "name", ["Upper", "under_score", "10.1.2.3", "xn--freehold-multipart", "thing-s3alias"]
)
def test_a_bucket_name_that_s3_refuses_is_refused(
    running: Served, key: AccessKey, name: str
) -> None:
    answer = ask(running, key, "PUT", f"/{name}")
    assert (answer.status, answer.code) == (400, "InvalidBucketName")


def test_a_bucket_is_here_or_nowhere(running: Served, tenant: str) -> None:
    s3 = running.client_of(tenant)
    with pytest.raises(ClientError) as caught:
        s3.create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "us-west-2"}
        )
    assert caught.value.response["Error"]["Code"] == "IllegalLocationConstraintException"
    assert s3.list_buckets()["Buckets"] == []


def test_pages_of_a_list_tile_it(tree: Any) -> None:
    ordered = sorted(TREE, key=lambda key: key.encode())
    for page_size in (1, 3, 1000):
        pages = tree.get_paginator("list_objects_v2").paginate(
            Bucket=BUCKET, PaginationConfig={"PageSize": page_size}
        )
        found = [one["Key"] for page in pages for one in page.get("Contents", ())]
        assert found == ordered
    everything = tree.list_objects_v2(Bucket=BUCKET)
    assert not everything["IsTruncated"]
    assert everything["KeyCount"] == len(TREE)
    one = everything["Contents"][0]
    assert (one["Key"], one["Size"], one["StorageClass"]) == ("a", 1, "STANDARD")
    assert "Owner" not in one


@pytest.mark.parametrize("page_size", [1, 2, 1000])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"Delimiter": "/"}, ["a", "b/", "b0", "d/", "e", "é/", "\U0010ffff/"]),
        ({"Delimiter": "/", "Prefix": "b/"}, ["b/1", "b/2", "b/c/"]),
        ({"Delimiter": "/", "Prefix": "b"}, ["b/", "b0"]),
        ({"Delimiter": "/", "Prefix": "b/c/"}, ["b/c/3"]),
        ({"Delimiter": "/", "StartAfter": "b/1"}, ["b/", "b0", "d/", "e", "é/", "\U0010ffff/"]),
        ({"Delimiter": "/c"}, ["a", "b/1", "b/2", "b/c", "b0", "d/4", "d/5", "e", "é/6"]),
        ({"Prefix": "d/"}, ["d/4", "d/5"]),
        ({"StartAfter": "d/4"}, ["d/5", "e", "é/6", "\U0010ffff/7"]),
        ({"Prefix": "none"}, []),
    ],
)
def test_a_list_rolls_up_at_a_delimiter(
    tree: Any, page_size: int, options: dict[str, str], expected: list[str]
) -> None:
    pages = tree.get_paginator("list_objects_v2").paginate(
        Bucket=BUCKET, **options, PaginationConfig={"PageSize": page_size}
    )
    found = []
    for page in pages:
        assert page["KeyCount"] == len(entries(page)) <= page_size
        found += entries(page)
    if options.get("Delimiter") == "/c":
        expected = [*expected, "\U0010ffff/7"]
    assert found == expected


@pytest.mark.parametrize("page_size", [1, 2, 1000])
def test_the_older_list_works_too(tree: Any, page_size: int) -> None:
    pages = tree.get_paginator("list_objects").paginate(
        Bucket=BUCKET, Delimiter="/", PaginationConfig={"PageSize": page_size}
    )
    found = [name for page in pages for name in entries(page)]
    assert found == ["a", "b/", "b0", "d/", "e", "é/", "\U0010ffff/"]
    assert tree.list_objects(Bucket=BUCKET, MaxKeys=1)["Contents"][0]["Owner"]["ID"]


def test_a_page_beyond_a_large_prefix_is_one_jump_away(s3: Any) -> None:
    for number in range(250):
        s3.put_object(Bucket=BUCKET, Key=f"many/{number:04}")
    s3.put_object(Bucket=BUCKET, Key="n")
    page = s3.list_objects_v2(Bucket=BUCKET, Delimiter="/", MaxKeys=1)
    assert (entries(page), page["IsTruncated"]) == (["many/"], True)
    page = s3.list_objects_v2(
        Bucket=BUCKET, Delimiter="/", ContinuationToken=page["NextContinuationToken"]
    )
    assert (entries(page), page["IsTruncated"]) == (["n"], False)


def test_no_keys_can_be_asked_for(tree: Any) -> None:
    page = tree.list_objects_v2(Bucket=BUCKET, MaxKeys=0)
    assert (page["KeyCount"], page["IsTruncated"]) == (0, False)


def test_owners_are_told_when_asked(tree: Any, tenant: str) -> None:
    page = tree.list_objects_v2(Bucket=BUCKET, MaxKeys=1, FetchOwner=True)
    assert page["Contents"][0]["Owner"]["ID"] == tenant


@pytest.mark.parametrize("token", ["x", "W10", "WyJhIiwiYiJd", "WzFd", "%"])
def test_a_token_that_is_not_ours_is_refused(s3: Any, token: str) -> None:
    with pytest.raises(ClientError) as caught:
        s3.list_objects_v2(Bucket=BUCKET, ContinuationToken=token)
    assert caught.value.response["Error"]["Code"] == "InvalidArgument"


def test_a_client_that_does_not_ask_for_encoded_keys_gets_them_plain(
    running: Served, key: AccessKey, tree: Any
) -> None:
    body = ask(running, key, "GET", f"/{BUCKET}?list-type=2&prefix=b%2F").body.decode()
    assert "<Key>b/c/3</Key>" in body
    body = ask(running, key, "GET", f"/{BUCKET}?list-type=2&encoding-type=url").body.decode()
    assert "<Key>%C3%A9/6</Key>" in body


@pytest.mark.parametrize(
    "query",
    ["max-keys=x", "max-keys=-1", "list-type=3", "encoding-type=base64", "prefix=a&prefix=b"],
)
def test_a_malformed_parameter_is_refused(
    running: Served, key: AccessKey, s3: Any, query: str
) -> None:
    separator = "" if query.startswith("list-type") else "list-type=2&"
    answer = ask(running, key, "GET", f"/{BUCKET}?{separator}{query}")
    assert (answer.status, answer.code) == (400, "InvalidArgument")
