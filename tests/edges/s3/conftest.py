"""One served edge for all tests here; each has a tenant, and so all buckets, of its own."""

from collections.abc import Iterator
from typing import Any

import pytest
from s3_edge_driver import Served, served

from freehold.ports.authorizer import AccessKey

BUCKET = "things"


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("s3-edge")) as running:
        yield running


@pytest.fixture
def key(running: Served, tenant: str) -> AccessKey:
    return running.keys.make(tenant)


@pytest.fixture
def s3(running: Served, key: AccessKey) -> Iterator[Any]:
    """A boto3 client whose tenant has the bucket `things`, empty."""
    client = running.client(key)
    client.create_bucket(
        Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    yield client
    client.close()
