"""The AWS edge as a client meets it: who is let in, what comes back, what is refused."""

import asyncio
import logging
from typing import Any

import pytest
from aws_edge_driver import (
    INVOKE,
    INVOKE_PATH,
    KEY,
    RUNTIME_ARN,
    TENANT,
    Seen,
    TenantAuthorizer,
    ask,
    call,
    invoke_output,
    make_edge,
    scope_of,
    signed_scope,
)
from bearer_doubles import OneGoodToken

from freehold.edges.aws import coverage, model
from freehold.edges.pipeline import Pipeline
from freehold.kernel import errors
from freehold.kernel.request import Request

GET_MEMORY = "bedrock-agentcore-control:GetMemory"
DELETE_RUNTIME = "bedrock-agentcore-control:DeleteAgentRuntime"


async def test_a_handler_gets_the_caller_the_headers_and_the_input(tmp_path: Any) -> None:
    seen = Seen(invoke_output(b"hello"))
    edge = make_edge({INVOKE: seen}, tmp_path)
    headers = {"X-Amzn-Bedrock-AgentCore-Runtime-Session-Id": "s" * 33, "X-Extra": "ä"}
    answer = await call(edge, "POST", f"{INVOKE_PATH}?qualifier=a%20b", b"raw", headers)
    assert (answer.status, answer.body) == (200, b"hello")
    assert answer.headers["content-type"] == "text/plain"
    ((request, params),) = seen.calls
    assert request.caller.tenant == TENANT
    assert request.request_id == answer.headers["x-amzn-requestid"]
    assert request.headers["x-extra"] == "ä"
    assert params.pop("payload")
    assert params == {
        "agentRuntimeArn": RUNTIME_ARN,
        "qualifier": "a b",
        "runtimeSessionId": "s" * 33,
    }


async def test_a_payload_is_handed_on_as_a_body(tmp_path: Any) -> None:
    async def handler(request: Request, params: dict[str, Any]) -> Any:
        body = params["payload"]
        return invoke_output(b"%d %s" % (body.size_bytes, await body.read()))

    edge = make_edge({INVOKE: handler}, tmp_path)
    assert (await call(edge, "POST", INVOKE_PATH, b"\xff{")).body == b"2 \xff{"
    assert (await call(edge, "POST", INVOKE_PATH)).body == b"0 "


async def test_the_status_that_a_handler_gives_is_sent(tmp_path: Any) -> None:
    edge = make_edge({INVOKE: Seen(invoke_output() | {"statusCode": 202})}, tmp_path)
    assert (await call(edge, "POST", INVOKE_PATH)).status == 202


async def test_an_unsigned_request_is_refused_before_anything_else(tmp_path: Any) -> None:
    seen = Seen(invoke_output())
    edge = make_edge({INVOKE: seen}, tmp_path)
    bare = scope_of("POST", INVOKE_PATH.encode(), b"", [(b"host", b"edge.test")])
    answer = await ask(edge, bare, b"x")
    assert (answer.status, answer.code) == (403, "MissingAuthenticationTokenException")
    assert answer.json()["message"]
    assert not seen.calls


async def test_nothing_reaches_a_handler_when_the_signature_is_wrong(tmp_path: Any) -> None:
    seen = Seen(invoke_output())
    edge = make_edge({INVOKE: seen}, tmp_path)
    scope = signed_scope("POST", INVOKE_PATH, b"signed")
    answer = await ask(edge, scope, b"sig", b"NED")
    assert (answer.status, answer.code) == (403, "InvalidSignatureException")
    assert not seen.calls


@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS", "TRACE", "GET", "BREW"])
async def test_what_no_operation_has_is_a_404(tmp_path: Any, method: str) -> None:
    edge = make_edge({}, tmp_path)
    for path in ("/", "/nothing", f"{INVOKE_PATH}/x", "/runtimes//invocations", "/%72untimes"):
        answer = await call(edge, method, path)
        assert (answer.status, answer.code) == (404, "UnknownOperationException")
        assert answer.headers["x-amzn-requestid"]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_path_of_ours_by_another_method_is_a_405(tmp_path: Any, method: str) -> None:
    answer = await call(make_edge({}, tmp_path), method, INVOKE_PATH)
    assert (answer.status, answer.code) == (405, "UnknownOperationException")
    assert answer.headers["allow"] == "POST"


async def test_a_foreign_arn_beside_one_of_ours_does_not_exist(tmp_path: Any) -> None:
    seen = Seen({})
    edge = make_edge({"agent-registry-control:DeleteRegistryRecord": seen}, tmp_path)
    registry = "arn%3Aaws%3Aagent-registry%3Aus-east-1%3A{}%3Aregistry%2Fabcdefghijkl"
    record = registry + "%2Frecord%2Fabcdefghijkl"
    path = f"/registries/{registry.format(TENANT)}/records/{{}}"
    ours = signed_scope("DELETE", path.format(record.format(TENANT)), service="agent-registry")
    assert (await ask(edge, ours)).status == 200
    foreign = path.format(record.format("999999999999"))
    answer = await ask(edge, signed_scope("DELETE", foreign, service="agent-registry"))
    assert (answer.status, answer.code) == (404, "ResourceNotFoundException")
    assert len(seen.calls) == 1


async def test_what_has_no_handler_says_so_to_authenticated_callers_only(tmp_path: Any) -> None:
    edge = make_edge({}, tmp_path)
    answer = await call(edge, "GET", "/memories/demo-abcdefghij/details")
    assert (answer.status, answer.code) == (501, "NotImplemented")
    assert "GetMemory" in answer.json()["message"]
    bare = scope_of("GET", b"/memories/demo-abcdefghij/details", b"", [(b"host", b"edge.test")])
    assert (await ask(edge, bare)).status == 403


def test_a_handler_for_an_operation_that_no_model_has_is_a_mistake(tmp_path: Any) -> None:
    with pytest.raises(TypeError, match="bedrock-agentcore:Invent"):
        make_edge({"bedrock-agentcore:Invent": Seen()}, tmp_path)


async def test_the_signed_service_decides_between_the_two_registries(tmp_path: Any) -> None:
    old, new = Seen({"registryId": "r"}), Seen({"registryId": "r"})
    edge = make_edge(
        {
            "bedrock-agentcore-control:DeleteRegistry": old,
            "agent-registry-control:DeleteRegistry": new,
        },
        tmp_path,
    )
    path = "/registries/abcdefghijkl"
    await ask(edge, signed_scope("DELETE", path))
    assert (len(old.calls), len(new.calls)) == (1, 0)
    await ask(edge, signed_scope("DELETE", path, service="agent-registry"))
    assert (len(old.calls), len(new.calls)) == (1, 1)


async def test_a_signature_for_one_service_opens_no_other(tmp_path: Any) -> None:
    edge = make_edge({INVOKE: Seen(invoke_output())}, tmp_path)
    answer = await ask(edge, signed_scope("POST", INVOKE_PATH, service="agent-registry"))
    assert answer.status == 404
    answer = await ask(edge, signed_scope("POST", INVOKE_PATH, service="s3"))
    assert answer.status == 403


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (INVOKE_PATH.replace(TENANT, "999999999999"), b"x"),
        ("/runtimes/demo-abcdefghij/invocations?accountId=999999999999", b"x"),
        (f"{INVOKE_PATH}?accountId=999999999999", b"x"),
        ("/tags/arn%3Aaws%3Abedrock-agentcore%3Aus-east-1%3A999999999999%3Aruntime%2Fx-y", b""),
    ],
)
async def test_another_tenants_arn_does_not_exist(tmp_path: Any, path: str, body: bytes) -> None:
    seen = Seen(invoke_output())
    edge = make_edge(
        {INVOKE: seen, "bedrock-agentcore-control:ListTagsForResource": seen}, tmp_path
    )
    answer = await call(edge, "POST" if body else "GET", path, body)
    assert (answer.status, answer.code) == (404, "ResourceNotFoundException")
    assert not seen.calls


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.NotFound("gone"), 404, "ResourceNotFoundException"),
        (errors.Conflict("busy"), 409, "ConflictException"),
        (errors.QuotaExceeded("full"), 402, "ServiceQuotaExceededException"),
        (errors.Throttled("slow"), 429, "ThrottlingException"),
        (errors.RuntimeClientFailed("crashed"), 424, "RuntimeClientError"),
        (errors.Unavailable("later"), 503, "ServiceUnavailableException"),
        (errors.PlatformFailed("ours"), 500, "InternalServerException"),
        (errors.AccessDenied("no"), 403, "AccessDeniedException"),
    ],
)
async def test_a_domain_error_is_the_modelled_one(
    tmp_path: Any, error: errors.FreeholdError, status: int, code: str
) -> None:
    edge = make_edge({INVOKE: Seen(error)}, tmp_path)
    answer = await call(edge, "POST", INVOKE_PATH)
    assert (answer.status, answer.code) == (status, code)
    assert answer.json() == {"message": error.message}


async def test_an_operation_that_names_an_error_otherwise_gets_its_own_name(tmp_path: Any) -> None:
    for error, status, code in (
        (errors.Throttled("slow"), 429, "ThrottledException"),
        (errors.PlatformFailed("ours"), 500, "ServiceException"),
    ):
        edge = make_edge({GET_MEMORY: Seen(error)}, tmp_path)
        answer = await call(edge, "GET", "/memories/demo-abcdefghij/details")
        assert (answer.status, answer.code) == (status, code)


async def test_members_of_an_error_go_where_the_model_has_them(tmp_path: Any) -> None:
    error = errors.ValidationFailed("bad", reason="ResourceConflict", secret="never")
    edge = make_edge({GET_MEMORY: Seen(error)}, tmp_path)
    answer = await call(edge, "GET", "/memories/demo-abcdefghij/details")
    assert answer.json() == {"message": "bad", "reason": "ResourceConflict"}


async def test_a_defect_of_ours_leaks_nothing_and_is_logged(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    edge = make_edge({INVOKE: Seen(KeyError("password=hunter2"))}, tmp_path)
    answer = await call(edge, "POST", INVOKE_PATH)
    assert (answer.status, answer.code) == (500, "InternalServerException")
    assert b"hunter2" not in answer.body
    assert answer.headers["x-amzn-requestid"] in answer.json()["message"]
    assert "hunter2" in caplog.text


@pytest.mark.parametrize(
    "output",
    [
        {"contentType": "text/plain", "respnose": b""},
        {"contentType": "a\r\nset-cookie: b", "response": b""},
        {"contentType": "text/plain", "response": b"", "statusCode": 42},
    ],
)
async def test_an_output_that_the_model_does_not_have_is_a_defect_of_ours(
    tmp_path: Any, output: Any
) -> None:
    edge = make_edge({INVOKE: Seen(output)}, tmp_path)
    answer = await call(edge, "POST", INVOKE_PATH)
    assert answer.status == 500
    assert "set-cookie" not in answer.headers


class BrokenKeys:
    async def active(self, access_key_id: str) -> None:
        raise ConnectionError("the database is gone")


async def test_an_error_inside_authentication_lets_nobody_in(tmp_path: Any) -> None:
    seen = Seen(invoke_output())
    edge = make_edge({INVOKE: seen}, tmp_path, keys=BrokenKeys())
    answer = await call(edge, "POST", INVOKE_PATH)
    assert (answer.status, answer.code) == (503, "ServiceUnavailableException")
    assert b"database" not in answer.body
    assert not seen.calls


async def test_the_number_of_requests_at_once_is_bounded(tmp_path: Any) -> None:
    pipeline = Pipeline(authorizer=TenantAuthorizer(), calls_in_flight_max=1)
    entered, leave = asyncio.Event(), asyncio.Event()

    async def slow(request: Request, params: dict[str, Any]) -> Any:
        entered.set()
        await leave.wait()
        return invoke_output()

    edge = make_edge({INVOKE: slow}, tmp_path, pipeline=pipeline)
    first = asyncio.create_task(call(edge, "POST", INVOKE_PATH))
    async with asyncio.timeout(5):
        await entered.wait()
    second = await call(edge, "POST", INVOKE_PATH)
    assert (second.status, second.code) == (429, "ThrottlingException")
    leave.set()
    assert (await first).status == 200


async def test_a_bearer_request_streams_its_body_to_the_handler(tmp_path: Any) -> None:
    got: list[bytes] = []
    first = asyncio.Event()

    async def handler(request: Request, params: dict[str, Any]) -> Any:
        async for chunk in params["payload"].chunks():
            got.append(chunk)
            first.set()
        return invoke_output(request.caller.principal.encode())

    edge = make_edge({INVOKE: handler}, tmp_path, bearer=OneGoodToken())
    headers = [(b"host", b"x"), (b"authorization", b"Bearer good")]
    scope = scope_of("POST", INVOKE_PATH.encode(), b"", headers)
    sent: list[Any] = []

    async def receive() -> Any:
        if not got:
            return {"type": "http.request", "body": b"one", "more_body": True}
        if got == [b"one"]:
            await first.wait()
            return {"type": "http.request", "body": b"two", "more_body": False}
        return await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    async with asyncio.timeout(5):
        await edge(scope, receive, send)
    assert got == [b"one", b"two"]
    assert sent[1]["body"] == b"issuer|someone"


async def test_a_websocket_that_no_one_serves_is_closed(tmp_path: Any) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = scope_of("GET", b"/runtimes/x/ws", b"", []) | {"type": "websocket"}
    await make_edge({}, tmp_path)(scope, asyncio.Event().wait, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


def test_a_root_application_can_ask_what_is_ours(tmp_path: Any) -> None:
    edge = make_edge({}, tmp_path)
    assert edge.matches(scope_of("POST", INVOKE_PATH.encode(), b"", []))
    assert edge.matches(scope_of("POST", b"/discoverable-records-search", b"", []))
    assert not edge.matches(scope_of("GET", b"/console", b"", []))


def test_the_table_of_operations_says_what_has_a_handler() -> None:
    text = coverage.table({INVOKE})
    assert "## bedrock-agentcore: 1 of 75" in text
    assert "| InvokeAgentRuntime | yes |" in text
    assert text.count("| no |") == len(model.operations()) - 1


async def test_a_refusal_is_logged_without_the_secret(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    edge = make_edge({INVOKE: Seen(invoke_output())}, tmp_path)
    await call(edge, "POST", INVOKE_PATH)
    await ask(edge, signed_scope("POST", INVOKE_PATH, b"x"), b"y")
    assert KEY.secret not in caplog.text
