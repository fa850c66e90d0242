"""Answers that take long, and bodies that are large."""

import asyncio
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError
from s3_edge_driver import REGION, served

from freehold.adapters.blobs.filesystem import FilesystemBlobs
from freehold.kernel.errors import Unavailable
from freehold.ports.blobs import Blob

BUCKET = "things"
MIB = 1 << 20


class SlowDisk(FilesystemBlobs):
    """Stores what is named `slow` late, and what is named `broken` late and not at all."""

    async def put(self, tenant: str, bucket: str, key: str, *args: Any, **options: Any) -> Blob:
        if key in ("slow", "broken"):
            await asyncio.sleep(0.5)
        if key == "broken":
            raise Unavailable("the disk is full")
        return await super().put(tenant, bucket, key, *args, **options)


def test_a_slow_copy_or_completion_is_answered_in_time(tmp_path: Path, tenant: str) -> None:
    slow = SlowDisk(tmp_path)
    with served(tmp_path, store=lambda _: slow, patience_seconds=0.1) as running:
        # Anything later than this the client gives up on.
        s3 = running.client_of(tenant, read_timeout=0.4)
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        s3.put_object(Bucket=BUCKET, Key="source", Body=b"x")
        source = {"Bucket": BUCKET, "Key": "source"}
        copied = s3.copy_object(Bucket=BUCKET, Key="slow", CopySource=source)
        assert copied["CopyObjectResult"]["ETag"] == f'"{hashlib.md5(b"x").hexdigest()}"'
        with pytest.raises(ClientError) as caught:
            s3.copy_object(Bucket=BUCKET, Key="broken", CopySource=source)
        assert caught.value.response["Error"]["Code"] == "ServiceUnavailable"
        upload = s3.create_multipart_upload(Bucket=BUCKET, Key="slow")["UploadId"]
        place = {"Bucket": BUCKET, "Key": "slow", "UploadId": upload}
        etag = s3.upload_part(**place, PartNumber=1, Body=b"part")["ETag"]
        parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
        assert s3.complete_multipart_upload(**place, MultipartUpload=parts)["Key"] == "slow"
        assert s3.get_object(Bucket=BUCKET, Key="slow")["Body"].read() == b"part"


# The edge in a process of its own, whose memory can be watched. Says its port.
SERVER = """
import asyncio, socket, sys, uvicorn
from freehold.adapters.blobs.filesystem import FilesystemBlobs
from freehold.edges.pipeline import Pipeline
from freehold.edges.s3.app import S3Edge
from freehold.ports.authorizer import AccessKey

class Keys:
    async def active(self, access_key_id):
        return AccessKey(id=access_key_id, tenant="123456789012", secret="secret")

class Anyone:
    async def authorize(self, caller, operation, resource_arn):
        return None

edge = S3Edge(
    FilesystemBlobs(sys.argv[1]),
    pipeline=Pipeline(authorizer=Anyone(), calls_in_flight_max=100),
    keys=Keys(),
    region=sys.argv[2],
    object_bytes_max=1 << 30,
)
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
config = uvicorn.Config(edge, http="httptools", ws="none", lifespan="off", log_config=None)
asyncio.run(uvicorn.Server(config).serve(sockets=[listening]))
"""


@contextmanager
def server_process(directory: Path) -> Iterator[tuple[int, int]]:
    """Its port and process id."""
    arguments = [sys.executable, "-c", SERVER, str(directory), REGION]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline()), process.pid
    finally:
        process.terminate()
        process.communicate(timeout=20)


def peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@pytest.mark.parametrize("mib", [120, pytest.param(300, marks=pytest.mark.slow)])
@pytest.mark.parametrize("in_parts", [False, True])
def test_what_is_large_passes_in_flat_memory(tmp_path: Path, in_parts: bool, mib: int) -> None:
    source = tmp_path / "source"
    with source.open("wb") as file:
        for number in range(mib):
            file.write(number.to_bytes(8, "big") * (MIB // 8))
    with server_process(tmp_path / "blobs") as (port, pid):
        s3 = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}/_s3",
            region_name=REGION,
            aws_access_key_id="FHIAANYKEY",
            aws_secret_access_key="secret",
            config=Config(retries={"total_max_attempts": 1}),
        )
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        s3.put_object(Bucket=BUCKET, Key="warm", Body=bytes(MIB))
        before = peak_bytes(pid)
        threshold = 64 * MIB if in_parts else 1 << 40
        config = TransferConfig(
            multipart_threshold=threshold, multipart_chunksize=64 * MIB, use_threads=False
        )
        s3.upload_file(str(source), BUCKET, "large", Config=config)
        with source.open("rb") as expected:
            body = s3.get_object(Bucket=BUCKET, Key="large")["Body"]
            for chunk in body.iter_chunks(4 * MIB):
                assert chunk == expected.read(len(chunk))
            assert not expected.read(1)
        assert peak_bytes(pid) - before < 40 * MIB
    os.truncate(source, 0)
