"""The bucket that holds agents' code: one zip for each content, under the agent's name."""

from typing import IO, Any

from freehold.cli.platform import Platform

BUCKET = "freehold-code"
# Smaller bundles go up in one request.
_MULTIPART_BYTES = 32 << 20


def key(name: str, sha256: str) -> str:
    return f"{name}/{sha256}.zip"


def upload(platform: Platform, source: IO[bytes], key: str) -> None:
    """Nothing is sent when an object of that key, and so of that content, is there already."""
    from boto3.s3.transfer import TransferConfig
    from botocore.exceptions import ClientError

    objects = platform.objects
    try:
        objects.head_object(Bucket=BUCKET, Key=key)
        return
    except ClientError as error:
        if _status(error) != 404:
            raise
    _ensure(platform)
    objects.upload_fileobj(
        source,
        BUCKET,
        key,
        Config=TransferConfig(
            multipart_threshold=_MULTIPART_BYTES, multipart_chunksize=_MULTIPART_BYTES
        ),
    )


def remove(platform: Platform, name: str) -> None:
    """Every bundle of the agent of this name."""
    objects = platform.objects
    try:
        pages = objects.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{name}/")
        for row in [row for page in pages for row in page.get("Contents", ())]:
            objects.delete_object(Bucket=BUCKET, Key=row["Key"])
    except objects.exceptions.NoSuchBucket:
        return


def _ensure(platform: Platform) -> None:
    from botocore.exceptions import ClientError

    try:
        platform.objects.head_bucket(Bucket=BUCKET)
    except ClientError as error:
        if _status(error) != 404:
            raise
    else:
        return
    try:
        platform.objects.create_bucket(Bucket=BUCKET)
    except ClientError as error:
        if _status(error) != 409:  # somebody else was faster
            raise


def _status(error: Any) -> int:
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
