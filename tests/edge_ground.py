"""What a ground with edges in this process stands on: resources and jobs over a real Postgres, keys
of any account, boto3 in threads, and signed requests of our own API."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvicorn
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from botocore.httpsession import URLLib3Session
from botocore.validate import ParamValidator

from aws_clients import aws_client
from freehold.adapters.jobs.postgres import PostgresJobs
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.postgres.resources import PostgresResources
from freehold.edges.aws.app import AwsEdge
from freehold.edges.native.app import NativeEdge
from freehold.edges.pipeline import Pipeline
from freehold.edges.serving import Root
from freehold.kernel.arns import Arn
from freehold.kernel.caller import Caller
from freehold.kernel.errors import NotFound, Unavailable
from freehold.kernel.operation import Operation
from freehold.kernel.request import Handler
from freehold.ports.audit import AuditEvent
from freehold.ports.authorizer import AccessKey, Authorizer

REGION = "us-east-1"
CONTROL, DATA = "bedrock-agentcore-control", "bedrock-agentcore"


class Keys:
    """One access key of each account."""

    def __init__(self) -> None:
        self.by_id: dict[str, AccessKey] = {}

    def of(self, tenant: str) -> AccessKey:
        key = AccessKey(id=f"FHIA{tenant}AAAA", tenant=tenant, secret=f"secret-of-{tenant}")
        self.by_id[key.id] = key
        return key

    async def active(self, access_key_id: str) -> AccessKey | None:
        return self.by_id.get(access_key_id)


class OwnTenant:
    """Everybody may do everything in the own account, and sees no other."""

    async def authorize(self, caller: Caller, operation: str, resource_arn: str | None) -> str:
        arn = Arn.parse(resource_arn) if resource_arn else None
        if arn and arn.tenant != caller.tenant:
            raise NotFound("there is no such resource")
        return caller.tenant


class Audited:
    """`ports.audit.Audit`, in memory; by turns it is `away`."""

    def __init__(self) -> None:
        self.events: list[AuditEvent] = []
        self.away = False

    async def write(self, event: AuditEvent) -> None:
        if self.away:
            raise Unavailable("the audit cannot be written")
        self.events.append(event)

    def of(self, tenant: str, operation: str) -> list[dict[str, str]]:
        return [
            {"outcome": each.outcome, "resource": each.resource or "", **each.detail}
            for each in self.events
            if each.tenant == tenant and each.operation == operation
        ]


class EdgeGround:
    """One worker of a platform, as far as its edges: a service's own ground is one, and serves its
    parts. `answers_checked`: boto3's answers are held against the model, which botocore itself does
    only with what it sends."""

    answers_checked = False

    def __init__(
        self,
        database: PostgresDatabase,
        state: Path,
        *,
        executor: str = "one",
        authorizer: Authorizer | None = None,
    ) -> None:
        self.database, self.state = database, state
        self.resources = PostgresResources(database, region=REGION)
        self.jobs = PostgresJobs(database, executor=executor, lease_seconds=2, backoff_seconds=0.05)
        self.access_keys, self.audit = Keys(), Audited()
        self._authorizer = authorizer or OwnTenant()
        self.endpoint = ""

    @asynccontextmanager
    async def served(
        self,
        handlers: Mapping[str, Handler],
        operations: Sequence[Operation] = (),
        **limits: Any,
    ) -> AsyncIterator[None]:
        """AWS's API and our own at `endpoint`. `limits` are the AWS edge's own."""
        common: dict[str, Any] = {
            "pipeline": Pipeline(authorizer=self._authorizer, calls_in_flight_max=200),
            "keys": self.access_keys, "region": REGION,
        }  # fmt: skip
        aws = AwsEdge(
            handlers, spool_directory=str(self.state), **{"payload_bytes_max": 8 << 20, **limits},
            **common,
        )  # fmt: skip
        own = NativeEdge(operations, version="0", **common)
        async with _listening(Root({b"/freehold": own, b"": aws}, otherwise=aws)) as self.endpoint:
            yield

    # -- what tests do again and again

    def control(self, tenant: str) -> "Client":
        return self.client(tenant, CONTROL)

    def client(self, tenant: str, service: str = DATA) -> "Client":
        return Client(self.aws(tenant, service), checked=self.answers_checked)

    def aws(self, tenant: str, service: str = DATA) -> Any:
        """boto3's own client, for threads."""
        key = self.access_keys.of(tenant)
        return aws_client(
            service, endpoint_url=self.endpoint, region_name=REGION,
            aws_access_key_id=key.id, aws_secret_access_key=key.secret,
            config=Config(retries={"max_attempts": 1}, read_timeout=20, max_pool_connections=30),
        )  # fmt: skip

    async def own(self, tenant: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """A signed request of our own API; JSON lines are a list."""
        key = self.access_keys.of(tenant)
        request = AWSRequest(
            method=method, url=f"{self.endpoint}/freehold/v1{path}",
            data=b"" if body is None else msgspec.json.encode(body),
            headers={"content-type": "application/json"},
        )  # fmt: skip
        SigV4Auth(Credentials(key.id, key.secret), "freehold", REGION).add_auth(request)

        def ask() -> tuple[int, bytes, str]:
            session = URLLib3Session()
            try:
                answer = session.send(request.prepare())
                return answer.status_code, answer.content, answer.headers.get("content-type", "")
            finally:
                session.close()

        status, content, kind = await asyncio.to_thread(ask)
        if kind == "application/x-ndjson":
            return status, [msgspec.json.decode(line) for line in content.splitlines()]
        return status, msgspec.json.decode(content) if content else None

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(60):
            while not await holds():
                await asyncio.sleep(0.01)


class Client:
    """boto3's client of one account, in threads; its methods are awaited."""

    def __init__(self, client: Any, *, checked: bool) -> None:
        self.boto3 = client
        self._checked = checked

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def act(**parameters: Any) -> Any:
            try:
                answer = await asyncio.to_thread(getattr(self.boto3, name), **parameters)
            finally:
                await asyncio.to_thread(self.boto3.close)
            if self._checked:
                self._check(name, answer)
            return answer

        return act

    def _check(self, name: str, answer: dict[str, Any]) -> None:
        answer.pop("ResponseMetadata")
        operation = self.boto3.meta.method_to_api_mapping[name]
        shape = self.boto3.meta.service_model.operation_model(operation).output_shape
        report = ParamValidator().validate(answer, shape)
        assert not report.has_errors(), report.generate_report()


async def refused(awaited: Any, code: str = "ValidationException") -> str:
    """What boto3 is told."""
    with pytest.raises(ClientError) as error:
        await awaited
    assert error.value.response["Error"]["Code"] == code, error.value
    return str(error.value.response["Error"]["Message"])


@asynccontextmanager
async def _listening(app: Any) -> AsyncIterator[str]:
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(30):
            while not server.started:
                await asyncio.sleep(0.005)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        async with asyncio.timeout(30):
            await task
