"""Who gets in, and what those are told who do not."""

import asyncio
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from mcp_ground import (
    ACCEPT,
    REGION,
    Everybody,
    MakeWorker,
    Worker,
    begun,
    call,
    door,
    initialize,
    serving,
)

from freehold.edges.pipeline import Pipeline
from freehold.kernel.errors import NotFound, Throttled, Unavailable
from freehold.kernel.session import SESSION_STATE, DoorwaySession

PING = b'{"jsonrpc":"2.0","id":7,"method":"tools/list"}'
HEADERS = {"accept": ACCEPT, "content-type": "application/json"}


def bearer(token: str) -> dict[str, str]:
    return {**HEADERS, "authorization": f"Bearer {token}"}


def signed(
    url: str,
    secret: str = "secret",
    service: str = "bedrock-agentcore",
    *,
    method: str = "POST",
    body: bytes = PING,
    **more: str,
) -> dict[str, str]:
    request = AWSRequest(method, url, headers={**HEADERS, **more}, data=body)
    SigV4Auth(Credentials("FHIAEXAMPLE", secret), service, REGION).add_auth(request)
    return dict(request.headers)


async def test_without_a_token_a_client_learns_where_to_get_one(
    new_worker: MakeWorker, http: httpx.AsyncClient, tenant: str
) -> None:
    guarded = door(tenant, authorizer="CUSTOM_JWT", scopes=("read", "write"))
    async with new_worker(guarded) as worker:
        for url in (worker.at(), f"{worker.url}/mcp/open-abcdefghij"):
            answer = await http.post(url, content=PING, headers=HEADERS)
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == -32001
            challenge = answer.headers["www-authenticate"]
            assert challenge.startswith('Bearer scope="read write", resource_metadata="')
            metadata = challenge.split('"')[-2]
            document = (await http.get(metadata)).json()
            assert document["resource"] == url
            assert document["authorization_servers"] == ["https://issuer"]
            assert document["scopes_supported"] == ["read", "write"]
            behind = await http.get(f"{url}/.well-known/oauth-protected-resource")
            assert behind.json() == document
        wrong = await http.post(worker.at(), content=PING, headers=bearer("forged"))
        assert wrong.status_code == 401
        assert 'error="invalid_token"' in wrong.headers["www-authenticate"]
        assert worker.gateway.heard == []
        assert (
            await http.post(worker.at(), content=PING, headers=bearer("alice-token"))
        ).is_success
        assert worker.gateway.requests[0].caller.user == "https://issuer|alice"


async def test_a_token_with_too_few_scopes_is_told_all_of_them(
    new_worker: MakeWorker, http: httpx.AsyncClient, tenant: str
) -> None:
    doors = [
        door(tenant, "wide", authorizer="CUSTOM_JWT", scopes=("read", "write")),
        door(tenant, "closed-wide", authorizer="CUSTOM_JWT", scopes=("read", "write")),
        door(tenant, "closed", authorizer="CUSTOM_JWT", scopes=("read",)),
    ]
    async with new_worker(*doors) as worker:
        for id, token in (("wide", "narrow-token"), ("closed-wide", "bob-token")):
            answer = await http.post(worker.at(id), content=PING, headers=bearer(token))
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, -32002)
            assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
            assert 'scope="read write"' in answer.headers["www-authenticate"]
        # With all the scopes that there are, another token would not help.
        answer = await http.post(worker.at("closed"), content=PING, headers=bearer("bob-token"))
        assert (answer.status_code, answer.json()["id"]) == (403, 7)
        assert "www-authenticate" not in answer.headers


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", "Basic YTpi")],
        [("authorization", "Bearer")],
        [("authorization", "Bearer a b")],
        [("authorization", "Bearer alice-token"), ("authorization", "Bearer bob-token")],
        [("authorization", "alice-token")],
        [("x-authorization", "Bearer alice-token")],
    ],
)
async def test_what_is_no_single_bearer_token_opens_nothing(
    headers: list[tuple[str, str]], new_worker: MakeWorker, http: httpx.AsyncClient, tenant: str
) -> None:
    async with new_worker(door(tenant, authorizer="CUSTOM_JWT")) as worker:
        given = [*HEADERS.items(), *headers]
        url = worker.at() + "?access_token=alice-token"
        answer = await http.post(url, content=PING, headers=given)
        assert answer.status_code == 401
        signed_too = await http.post(worker.at(), content=PING, headers=signed(worker.at()))
        assert signed_too.status_code == 401
        assert worker.gateway.heard == []


@pytest.mark.parametrize("authorizer", ["AWS_IAM", "AUTHENTICATE_ONLY"])
async def test_signatures_open_what_asks_for_them(
    authorizer: str, new_worker: MakeWorker, http: httpx.AsyncClient, tenant: str
) -> None:
    async with new_worker(door(tenant, authorizer=authorizer)) as worker:
        url = worker.at()
        answer = await http.post(url, content=PING, headers=signed(url))
        assert answer.status_code == 200, answer.text
        assert worker.gateway.requests[0].caller.tenant == tenant
        for headers in (
            HEADERS,
            bearer("alice-token"),
            signed(url, "wrong"),
            signed(url, service="s3"),
        ):
            answer = await http.post(url, content=PING, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, -32002)
            assert "www-authenticate" not in answer.headers
        changed = await http.post(url, content=PING + b" ", headers=signed(url))
        assert changed.status_code == 403
        assert len(worker.gateway.heard) == 1


async def test_a_session_of_signed_requests(
    new_worker: MakeWorker, http: httpx.AsyncClient, tenant: str
) -> None:
    async with new_worker(door(tenant, authorizer="AWS_IAM")) as worker:
        url = worker.at()
        body = msgspec.json.encode(initialize())
        answer = await http.post(url, content=body, headers=signed(url, body=body))
        session = {"mcp-session-id": answer.headers["mcp-session-id"]}
        get = signed(url, method="GET", body=b"", **session)
        async with asyncio.timeout(10), http.stream("GET", url, headers=get) as stream:
            assert stream.headers["content-type"] == "text/event-stream"
            while not worker.gateway.listeners:
                await asyncio.sleep(0.01)
            worker.gateway.change("notifications/tools/list_changed")
            assert await anext(stream.aiter_lines()) == "event: message"
        delete = signed(url, method="DELETE", body=b"", **session)
        assert (await http.delete(url, headers=delete)).status_code == 204
        answer = await http.post(url, content=PING, headers=signed(url, **session))
        assert answer.status_code == 404


async def test_code_in_a_sandbox_is_known_by_its_connection(
    new_worker: MakeWorker, http: httpx.AsyncClient, tenant: str
) -> None:
    arn = f"arn:aws:bedrock-agentcore:{REGION}:{tenant}:runtime/agent"
    doors = [door(tenant, kind, authorizer=kind) for kind in ("AWS_IAM", "NONE", "CUSTOM_JWT")] + [
        door("999999999999", "foreign")
    ]
    session = DoorwaySession(
        tenant=tenant, runtime_id="agent", runtime_arn=arn, endpoint="DEFAULT",
        session_id="s1", sandbox_id="b1",
    )  # fmt: skip
    async with new_worker(*doors) as worker:

        async def inside(scope: Any, receive: Any, send: Any) -> None:
            await worker.edge({**scope, "state": {SESSION_STATE: session}}, receive, send)

        async with serving(inside) as url:
            for id, status in {"AWS_IAM": 200, "NONE": 200, "CUSTOM_JWT": 401}.items():
                answer = await http.post(f"{url}/gateway/{id}/mcp", content=PING, headers=HEADERS)
                assert answer.status_code == status
            answer = await http.post(f"{url}/gateway/foreign/mcp", content=PING, headers=HEADERS)
        principals = [request.caller.principal for request in worker.gateway.requests]
        assert principals == [f"{arn}/session/s1", f"{arn}/session/s1", "anonymous"]


async def test_anybody_is_anonymous_in_the_gateways_tenant(
    worker: Worker, http: httpx.AsyncClient, tenant: str
) -> None:
    answer = await http.post(worker.at(), content=PING, headers=bearer("alice-token"))
    assert answer.status_code == 200
    caller = worker.gateway.requests[0].caller
    assert (caller.kind, caller.principal, caller.tenant) == ("anonymous", "anonymous", tenant)
    assert caller.token is None


async def test_a_gateway_that_is_not_there_or_not_ready(
    new_worker: MakeWorker, http: httpx.AsyncClient, tenant: str
) -> None:
    async with new_worker(door(tenant, "making", ready=False)) as worker:
        texts = set()
        for path in ("/gateway/none/mcp", "/mcp/none", "/mcp/other"):
            answer = await http.post(worker.url + path, content=PING, headers=HEADERS)
            assert answer.status_code == 404
            texts.add(answer.json()["error"]["message"])
        assert len(texts) == 1
        answer = await http.post(worker.at("making"), content=PING, headers=HEADERS)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert answer.json()["error"]["code"] == -32053


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (Throttled("too many", retry_after=7), 429, -32029),
        (Unavailable("not now"), 503, -32053),
        (NotFound("no such target"), 404, -32004),
        (ValueError("a secret"), 500, -32603),
    ],
)
async def test_errors_of_the_platform_have_their_status_and_the_requests_id(
    failure: Exception, status: int, code: int, *, worker: Worker, http: httpx.AsyncClient
) -> None:
    worker.gateway.failure = failure
    answer = await http.post(worker.at(), content=PING, headers=HEADERS)
    assert answer.status_code == status
    assert (answer.json()["id"], answer.json()["error"]["code"]) == (7, code)
    assert "secret" not in answer.text
    if status == 429:
        assert answer.headers["retry-after"] == "7"


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("localhost:1", None, 200),
        ("127.0.0.1", "http://localhost:6274", 200),
        ("[::1]:8400", "http://127.0.0.1:1", 200),
        ("freehold:8400", "http://freehold:8400", 200),
        ("freehold:8400", "http://localhost:3000", 403),
        ("10.1.2.3", "https://agents.example.com", 200),
        ("agents.example.com", "https://agents.example.com", 200),
        ("agents.example.com", "http://agents.example.com", 200),
        ("agents.example.com", "https://agents.example.com.evil.com", 403),
        ("other.example.com", None, 200),
        ("evil.com", "http://evil.com", 421),
        ("127.0.0.1.evil.com", None, 421),
        ("127.0.0.1", "http://evil.com", 403),
        ("127.0.0.1", "file://", 403),
    ],
)
async def test_dns_rebinding_is_refused(
    host: str, origin: str | None, status: int, *, new_worker: MakeWorker, http: httpx.AsyncClient
) -> None:
    options = {"public_url": "https://agents.example.com", "hosts": ("other.example.com",)}
    async with new_worker(**options) as worker:
        headers = {**HEADERS, "host": host} | ({"origin": origin} if origin else {})
        answer = await http.post(worker.at(), content=PING, headers=headers)
        assert answer.status_code == status


async def test_metadata_names_the_public_address(
    new_worker: MakeWorker, http: httpx.AsyncClient, tenant: str
) -> None:
    guarded = door(tenant, authorizer="CUSTOM_JWT")
    async with new_worker(guarded, public_url="https://agents.example.com/") as worker:
        answer = await http.post(worker.at(), content=PING, headers=HEADERS)
        address = answer.headers["www-authenticate"].split('"')[1]
        path = "/.well-known/oauth-protected-resource/gateway/open-abcdefghij/mcp"
        assert address == f"https://agents.example.com{path}"
        document = (await http.get(worker.url + urlsplit(address).path)).json()
        assert document["resource"] == "https://agents.example.com/gateway/open-abcdefghij/mcp"


async def test_gateways_that_take_no_tokens_have_no_metadata(
    worker: Worker, http: httpx.AsyncClient
) -> None:
    for path in ("/gateway/open-abcdefghij/mcp", "/gateway/none/mcp"):
        answer = await http.get(f"{worker.url}/.well-known/oauth-protected-resource{path}")
        assert answer.status_code == 404


async def test_other_paths_are_somebody_elses(worker: Worker, http: httpx.AsyncClient) -> None:
    for path in ("/gateway/x/inference/v1/models", "/gateway/x", "/gateway/x/mcp/y", "/mcp", "/"):
        assert (await http.get(worker.url + path)).status_code == 418


async def test_standing_streams_are_bounded(
    new_worker: MakeWorker, http: httpx.AsyncClient
) -> None:
    async with new_worker(streams_max=1) as worker:
        headers = await begun(http, worker.at())
        async with asyncio.timeout(10), http.stream("GET", worker.at(), headers=headers) as first:
            assert first.status_code == 200
            answer = await http.get(worker.at(), headers=headers)
            assert answer.status_code == 429
        async with asyncio.timeout(10):
            while worker.gateway.listeners:
                await asyncio.sleep(0.01)
        async with asyncio.timeout(10), http.stream("GET", worker.at(), headers=headers) as again:
            assert again.status_code == 200


async def test_the_audit_learns_the_method_and_the_tool(
    new_worker: MakeWorker, http: httpx.AsyncClient, tenant: str
) -> None:
    lines: list[Any] = []

    class Audit:
        async def write(self, event: Any) -> None:
            lines.append(event)

        def note(self, event: Any) -> None:
            lines.append(event)

    async with new_worker() as worker:
        worker.edge.pipeline = Pipeline(
            authorizer=Everybody(), calls_in_flight_max=10, audit=Audit()
        )
        await http.post(worker.at(), json=call("test_tool_with_logging"))
        await http.post(worker.at(), json={"jsonrpc": "2.0", "id": 1, "method": "no/such"})
    arn = door(tenant).arn
    assert [(line.phase, line.resource, line.operation) for line in lines] == [
        ("intent", arn, "bedrock-agentcore:InvokeGateway"),
        ("outcome", arn, "bedrock-agentcore:InvokeGateway"),
    ] * 2
    assert lines[1].detail["method"] == "tools/call"
    assert lines[1].detail["tool"] == "test_tool_with_logging"
    assert lines[1].status == 200


async def test_what_cannot_be_audited_is_not_answered(
    new_worker: MakeWorker, http: httpx.AsyncClient
) -> None:
    class Broken:
        async def write(self, event: Any) -> None:
            if event.phase == "outcome":
                raise Unavailable("the audit cannot be written")

        def note(self, event: Any) -> None:
            pass

    async with new_worker() as worker:
        worker.edge.pipeline = Pipeline(
            authorizer=Everybody(), calls_in_flight_max=10, audit=Broken()
        )
        for tool in ("test_simple_text", "test_tool_with_logging"):
            answer = await http.post(worker.at(), json=call(tool))
            assert answer.status_code == 503
            assert "result" not in answer.text
