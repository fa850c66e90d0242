"""The S3 edge served on loopback from a thread of its own, boto3 clients of it, raw requests."""

import hashlib
import http.client
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

import uvicorn
import uvloop
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from aws_clients import aws_client
from freehold.adapters.blobs.filesystem import FilesystemBlobs
from freehold.edges.pipeline import Pipeline
from freehold.edges.s3.app import S3Edge
from freehold.kernel.arns import Arn
from freehold.kernel.caller import Caller
from freehold.kernel.errors import AccessDenied, NotFound
from freehold.ports.authorizer import AccessKey
from freehold.ports.blobs import Blobs

REGION = "eu-central-1"
OBJECT_BYTES_MAX = 32 << 20


class Keys:
    """Makes a key for each tenant that is asked for."""

    def __init__(self) -> None:
        self.by_id: dict[str, AccessKey] = {}

    def make(self, tenant: str) -> AccessKey:
        key = AccessKey(id=f"FHIA{secrets.token_hex(8)}", tenant=tenant, secret=secrets.token_hex())
        self.by_id[key.id] = key
        return key

    async def active(self, access_key_id: str) -> AccessKey | None:
        return self.by_id.get(access_key_id)


class TenantAuthorizer:
    """Everything of one's own tenant. Remembers what was asked; refuses `refused`."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self.refused = ""

    async def authorize(self, caller: Caller, operation: str, resource_arn: str | None) -> None:
        self.asked.append((operation, resource_arn))
        arn = Arn.parse(resource_arn) if resource_arn else None
        if arn and arn.tenant != caller.tenant:
            raise NotFound("there is no such resource")
        if operation == self.refused:
            raise AccessDenied("a policy forbids it")


@dataclass
class Served:
    """An edge that is listening. `store` lives on the server's loop."""

    port: int
    keys: Keys
    authorizer: TenantAuthorizer
    directory: Path
    certificate: str | None = None

    @property
    def endpoint(self) -> str:
        scheme = "https" if self.certificate else "http"
        return f"{scheme}://127.0.0.1:{self.port}/_s3"

    def client(self, key: AccessKey, **config: Any) -> Any:
        return aws_client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=key.id,
            aws_secret_access_key=key.secret,
            verify=self.certificate,
            config=Config(**{"retries": {"total_max_attempts": 1}} | config),
        )

    def client_of(self, tenant: str, **config: Any) -> Any:
        return self.client(self.keys.make(tenant), **config)


@contextmanager
def served(
    directory: Path,
    *,
    tls: tuple[str, str] | None = None,
    store: Callable[[FilesystemBlobs], Blobs] | None = None,
    **options: Any,
) -> Iterator[Served]:
    """`tls`: files with a certificate for 127.0.0.1 and its key. `store` may wrap the blobs."""
    certificate, private_key = tls or (None, None)
    listening = socket.create_server(("127.0.0.1", 0))
    running = Served(listening.getsockname()[1], Keys(), TenantAuthorizer(), directory, certificate)
    blobs = FilesystemBlobs(directory)
    parts: dict[str, Any] = {
        "pipeline": Pipeline(authorizer=running.authorizer, calls_in_flight_max=100),
        "keys": running.keys,
        "region": REGION,
        "object_bytes_max": OBJECT_BYTES_MAX,
    }
    edge = S3Edge(store(blobs) if store else blobs, **(parts | options))
    config = uvicorn.Config(
        edge,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        timeout_graceful_shutdown=2,  # a test may have left a request half said
        ssl_certfile=certificate,
        ssl_keyfile=private_key,
    )
    server = uvicorn.Server(config)

    async def serve() -> None:
        await blobs.start()
        await server.serve(sockets=[listening])
        await blobs.close()

    thread = threading.Thread(target=uvloop.run, args=(serve(),))
    thread.start()
    try:
        yield running
    finally:
        server.should_exit = True
        thread.join(120)
        assert not thread.is_alive()
        listening.close()


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str | None:
        return ElementTree.fromstring(self.body).findtext("Code") if self.body else None


def send(
    running: Served,
    method: str,
    path: str,
    headers: dict[str, str],
    body: bytes | list[bytes] = b"",
) -> Answer:
    """A request as given. A list of chunks is sent with chunked transfer encoding."""
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
    try:
        chunked = isinstance(body, list)
        connection.request(
            method, path, iter(body) if chunked else body, headers, encode_chunked=chunked
        )
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read())
    finally:
        connection.close()


@dataclass
class Signed:
    path: str
    headers: dict[str, str]

    @property
    def signature(self) -> str:
        return self.headers["Authorization"].rpartition("Signature=")[2]


class _Auth(S3SigV4Auth):
    """Signs for the payload that it is told."""

    def __init__(self, key: AccessKey, payload: str) -> None:
        super().__init__(Credentials(key.id, key.secret), "s3", REGION)
        self._payload = payload

    def payload(self, request: Any) -> str:
        return self._payload


def sign(
    running: Served,
    key: AccessKey,
    method: str,
    path: str,
    headers: dict[str, str] | None = None,
    *,
    payload: str | bytes = b"",
) -> Signed:
    """`path` is below the mount, with its query. `payload`: the body, or a literal to declare."""
    declared = hashlib.sha256(payload).hexdigest() if isinstance(payload, bytes) else payload
    request = AWSRequest(
        method=method, url=f"{running.endpoint}{path}", headers=headers or {}, data=b""
    )
    _Auth(key, declared).add_auth(request)
    url = urlsplit(request.url)
    target = url.path + (f"?{url.query}" if url.query else "")
    return Signed(target, dict(request.headers.items()))


def ask(
    running: Served,
    key: AccessKey,
    method: str,
    path: str,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
) -> Answer:
    """A well-signed request, for what boto3 would not send."""
    signed = sign(running, key, method, path, headers, payload=body)
    return send(running, method, signed.path, signed.headers, body)
