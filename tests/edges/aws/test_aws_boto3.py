"""Unmodified boto3 clients against the edge behind a real server."""

import asyncio
import hashlib
import io
import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aws_edge_driver import KEY, REGION, RUNTIME_ARN, TENANT, make_edge, served
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError

from aws_clients import aws_client
from freehold.kernel.body import Body
from freehold.kernel.errors import Conflict, NotFound, RuntimeClientFailed, Throttled
from freehold.kernel.request import Request

SERVER = Path(__file__).with_name("aws_edge_server.py")


def client_of(service: str, endpoint: str, **options: Any) -> Any:
    return aws_client(
        service,
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=options.pop("key", KEY.id),
        aws_secret_access_key=options.pop("secret", KEY.secret),
        config=Config(retries={"total_max_attempts": 1}, read_timeout=30),
    )


async def invoke(request: Request, params: dict[str, Any]) -> Any:
    body: Body = params["payload"]
    told = await body.read()
    if told == b"missing":
        raise NotFound("there is no such runtime")
    if told == b"crash":
        raise RuntimeClientFailed("the agent exited with status 1")

    async def answer() -> AsyncIterator[bytes]:
        for n in range(3):
            yield b"data: %d %s\n\n" % (n, told)

    return {
        "contentType": "text/event-stream",
        "runtimeSessionId": params["runtimeSessionId"],
        "response": answer(),
        "statusCode": 200,
    }


async def interpret(request: Request, params: dict[str, Any]) -> Any:
    async def events() -> AsyncIterator[Any]:
        yield {"result": {"content": [{"type": "text", "text": params["arguments"]["code"]}]}}
        if params["name"] == "executeCommand":
            raise Throttled("slow down")

    return {"stream": events(), "sessionId": params["sessionId"]}


async def create_runtime(request: Request, params: dict[str, Any]) -> Any:
    raise Conflict("the name is taken")


async def list_tags(request: Request, params: dict[str, Any]) -> Any:
    return {"tags": {"arn": params["resourceArn"], "tenant": request.caller.tenant}}


HANDLERS = {
    "bedrock-agentcore:InvokeAgentRuntime": invoke,
    "bedrock-agentcore:InvokeCodeInterpreter": interpret,
    "bedrock-agentcore-control:CreateAgentRuntime": create_runtime,
    "bedrock-agentcore-control:ListTagsForResource": list_tags,
    "agent-registry-control:ListTagsForResource": list_tags,
}


@pytest.fixture(scope="module")
async def endpoint(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    async with served(make_edge(HANDLERS, tmp_path_factory.mktemp("spool"))) as address:
        yield address


async def test_invoke_streams_its_answer(endpoint: str) -> None:
    def use() -> Any:
        client = client_of("bedrock-agentcore", endpoint)
        answer = client.invoke_agent_runtime(agentRuntimeArn=RUNTIME_ARN, payload="grüß".encode())
        return answer, answer["response"].read()

    answer, body = await asyncio.to_thread(use)
    assert body.decode() == "data: 0 grüß\n\ndata: 1 grüß\n\ndata: 2 grüß\n\n"
    assert answer["contentType"] == "text/event-stream"
    assert answer["statusCode"] == 200
    assert len(answer["runtimeSessionId"]) >= 33
    assert answer["ResponseMetadata"]["RequestId"]


@pytest.mark.parametrize(
    ("payload", "error", "status"),
    [(b"missing", "ResourceNotFoundException", 404), (b"crash", "RuntimeClientError", 424)],
)
async def test_an_error_is_the_clients_own_class(
    endpoint: str, payload: bytes, error: str, status: int
) -> None:
    client = client_of("bedrock-agentcore", endpoint)
    with pytest.raises(getattr(client.exceptions, error)) as raised:
        await asyncio.to_thread(
            client.invoke_agent_runtime, agentRuntimeArn=RUNTIME_ARN, payload=payload
        )
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == status


async def test_a_conflict_and_a_violation_reach_the_control_client(endpoint: str) -> None:
    client = client_of("bedrock-agentcore-control", endpoint)
    params: dict[str, Any] = {
        "agentRuntimeName": "demo",
        "roleArn": f"arn:aws:iam::{TENANT}:role/x",
        "networkConfiguration": {"networkMode": "PUBLIC"},
        "agentRuntimeArtifact": {"containerConfiguration": {"containerUri": "an image"}},
    }
    with pytest.raises(client.exceptions.ValidationException) as invalid:
        await asyncio.to_thread(client.create_agent_runtime, **params)
    fields = invalid.value.response["fieldList"]
    assert [field["name"] for field in fields] == [
        "agentRuntimeArtifact.containerConfiguration.containerUri"
    ]
    uri = f"{TENANT}.dkr.ecr.{REGION}.amazonaws.com/x:1"
    params["agentRuntimeArtifact"]["containerConfiguration"]["containerUri"] = uri
    with pytest.raises(client.exceptions.ConflictException, match="taken"):
        await asyncio.to_thread(client.create_agent_runtime, **params)


async def test_what_is_not_implemented_is_named(endpoint: str) -> None:
    client = client_of("bedrock-agentcore-control", endpoint)
    with pytest.raises(ClientError, match="ListGateways is not implemented") as raised:
        await asyncio.to_thread(client.list_gateways)
    assert raised.value.response["Error"]["Code"] == "NotImplemented"
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501


@pytest.mark.parametrize("options", [{"secret": "wrong"}, {"key": "FHIAUNKNOWN"}])
async def test_a_wrong_key_is_refused(endpoint: str, options: dict[str, str]) -> None:
    client = client_of("bedrock-agentcore-control", endpoint, **options)
    with pytest.raises(ClientError) as raised:
        await asyncio.to_thread(client.list_gateways)
    assert raised.value.response["Error"]["Code"] == "InvalidSignatureException"
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


async def test_an_event_stream_and_an_error_in_it(endpoint: str) -> None:
    client = client_of("bedrock-agentcore", endpoint)

    def use(name: str) -> Any:
        return client.invoke_code_interpreter(
            codeInterpreterIdentifier="aws.codeinterpreter.v1",
            sessionId="abc",
            name=name,
            arguments={"code": "2+2"},
        )["stream"]

    event = {"result": {"content": [{"type": "text", "text": "2+2"}]}}
    stream = await asyncio.to_thread(use, "executeCode")
    assert await asyncio.to_thread(list, stream) == [event]
    stream = await asyncio.to_thread(use, "executeCommand")
    with pytest.raises(EventStreamError, match="slow down"):
        await asyncio.to_thread(list, stream)


@pytest.mark.parametrize("service", ["bedrock-agentcore-control", "agent-registry-control"])
async def test_arns_with_slashes_and_unicode_arrive_whole(endpoint: str, service: str) -> None:
    host = service.removesuffix("-control")
    arn = f"arn:aws:{host}:{REGION}:{TENANT}:runtime/demo-abcdefghij"
    client = client_of(service, endpoint)
    answer = await asyncio.to_thread(client.list_tags_for_resource, resourceArn=arn)
    assert answer["tags"] == {"arn": arn, "tenant": TENANT}


async def test_a_presigned_url_works_until_it_is_changed(endpoint: str) -> None:
    client = client_of("bedrock-agentcore-control", endpoint)
    arn = f"arn:aws:bedrock-agentcore:{REGION}:{TENANT}:runtime/demo-abcdefghij"
    url = client.generate_presigned_url(
        "list_tags_for_resource", Params={"resourceArn": arn}, ExpiresIn=60
    )

    def fetch(address: str) -> int:
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    assert await asyncio.to_thread(fetch, url) == 200
    assert await asyncio.to_thread(fetch, url.replace("demo-", "dem0-")) == 403
    assert await asyncio.to_thread(fetch, url.replace("Expires=60", "Expires=61")) == 403


@pytest.mark.parametrize("waits_for_leave", [False, True])
async def test_a_body_beyond_the_limit_is_a_modelled_error(
    tmp_path: Path, waits_for_leave: bool
) -> None:
    """botocore sends a file's bytes only once the server tells it to continue."""
    data = b"x" * 5_000_000
    edge = make_edge(HANDLERS, tmp_path, payload_bytes_max=1_000_000)
    async with served(edge) as address:
        client = client_of("bedrock-agentcore", address)
        with pytest.raises(client.exceptions.ValidationException, match="1000000 bytes"):
            await asyncio.to_thread(
                client.invoke_agent_runtime,
                agentRuntimeArn=RUNTIME_ARN,
                payload=io.BytesIO(data) if waits_for_leave else data,
            )


@pytest.fixture(scope="module")
async def process() -> AsyncIterator[tuple[str, int]]:
    """The edge in a process of its own: its endpoint and process id."""
    environment = {**os.environ, "PYTHONPATH": str(SERVER.parent)}
    child = await asyncio.create_subprocess_exec(
        sys.executable, str(SERVER), "--uvloop", stdout=asyncio.subprocess.PIPE, env=environment
    )
    assert child.stdout is not None
    async with asyncio.timeout(20):
        port = int(await child.stdout.readline())
    yield f"http://127.0.0.1:{port}", child.pid
    child.send_signal(signal.SIGTERM)
    async with asyncio.timeout(10):
        await child.wait()


async def test_a_hundred_megabytes_in_and_out_take_flat_memory(process: tuple[str, int]) -> None:
    address, _ = process
    payload = os.urandom(1_000_000) * 100

    def use(data: bytes, qualifier: str) -> tuple[int, str, int, int]:
        client = client_of("bedrock-agentcore", address)
        answer = client.invoke_agent_runtime(
            agentRuntimeArn=RUNTIME_ARN, payload=io.BytesIO(data), qualifier=qualifier
        )
        lines = answer["response"].iter_lines(chunk_size=64)
        size, digest, peak = next(iter(lines)).split()
        rest = 0
        while chunk := answer["response"].read(1_000_000):
            rest += len(chunk)
        return int(size), digest.decode(), int(peak), rest

    *_, before, _ = await asyncio.to_thread(use, b"small", "x")
    size, digest, peak, _ = await asyncio.to_thread(use, payload, "x")
    assert (size, digest) == (100_000_000, hashlib.sha256(payload).hexdigest())
    assert peak - before < 16 * 1024 * 1024, f"{(peak - before) / 1e6:.0f} MB more"
    *_, rest = await asyncio.to_thread(use, b"small", "large")
    assert rest > 100_000_000 - 1024
    *_, peak, _ = await asyncio.to_thread(use, b"small", "x")
    assert peak - before < 16 * 1024 * 1024, f"{(peak - before) / 1e6:.0f} MB more"


async def test_a_client_that_hangs_up_is_noticed_by_the_agents_stream(tmp_path: Path) -> None:
    closed, streaming = asyncio.Event(), asyncio.Event()

    async def endless(request: Request, params: dict[str, Any]) -> Any:
        async def chunks() -> AsyncIterator[bytes]:
            try:
                yield b"first\n"
                streaming.set()
                await asyncio.Event().wait()
            finally:
                closed.set()

        return {"contentType": "text/plain", "response": chunks()}

    edge = make_edge({"bedrock-agentcore:InvokeAgentRuntime": endless}, tmp_path)
    async with served(edge) as address:
        client = client_of("bedrock-agentcore", address)
        answer = await asyncio.to_thread(
            client.invoke_agent_runtime, agentRuntimeArn=RUNTIME_ARN, payload=b"x"
        )
        async with asyncio.timeout(5):
            await streaming.wait()
        answer["response"].close()
        async with asyncio.timeout(5):
            await closed.wait()
