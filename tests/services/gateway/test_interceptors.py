"""Interceptors see, change and answer what goes through a gateway; a faulty one ends the call."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from interceptor_ground import PREFIX, PythonFunctions

from freehold.kernel.errors import ValidationFailed
from freehold.ports.targets import RpcRefused
from freehold.services.gateway.interceptors import (
    Answer,
    Interception,
    InterceptorFailed,
    Interceptors,
    check_interceptors,
    rpc_result,
)

GATEWAY = "arn:aws:bedrock-agentcore:us-east-1:111122223333:gateway/g-1"
CALL = {
    "jsonrpc": "2.0", "id": 7, "method": "tools/call",
    "params": {"name": "t___pay", "arguments": {"amount": 3}},
}  # fmt: skip
RESULT = {"jsonrpc": "2.0", "id": 7, "result": {"content": [{"type": "text", "text": "12-34"}]}}
BEARER = "Bearer canary-of-caller"


def configuration(*points: str, headers: bool = False, name: str = "guard", **more: Any) -> Any:
    return {
        "interceptor": {"lambda": {"arn": PREFIX + name}},
        "interceptionPoints": list(points),
        "inputConfiguration": {"passRequestHeaders": headers, **more},
    }


def interception(*configurations: Any, **more: Any) -> Interception:
    values: dict[str, Any] = {
        "tenant": "111122223333", "gateway_arn": GATEWAY, "role": "arn:aws:iam::1:role/r",
        "configurations": configurations, "request_id": "call-1",
        "headers": {"authorization": BEARER, "x-team": "red"}, "raw": json.dumps(CALL).encode(),
        "source": "192.0.2.7",
    }  # fmt: skip
    return Interception(**{**values, **more})


def saying(protocol: str = "mcp", **said: Any) -> Callable[[Any], Any]:
    return lambda _: {"interceptorOutputVersion": "1.0", protocol: said}


def b64(text: bytes) -> str:
    return base64.b64encode(text).decode()


async def test_a_request_interceptor_gets_the_event_that_aws_describes() -> None:
    functions = PythonFunctions(guard=saying())
    passed = await Interceptors(functions).before(interception(configuration("REQUEST")), CALL)
    assert passed.body == CALL
    assert passed.answer is None
    (call,) = functions.calls
    assert call.event == {
        "interceptorInputVersion": "1.0",
        "mcp": {
            "rawGatewayRequest": {"body": json.dumps(CALL)},
            "gatewayRequest": {"path": "/mcp", "httpMethod": "POST", "body": CALL},
        },
    }
    assert call.context == {
        "GATEWAY_ARN": GATEWAY, "GATEWAY_ACCOUNT_ID": "111122223333", "REQUEST_ID": "call-1",
        "SOURCE_IP": "192.0.2.7",
    }  # fmt: skip
    assert call.role == "arn:aws:iam::1:role/r"


async def test_headers_are_passed_only_where_the_configuration_says_so() -> None:
    functions = PythonFunctions(guard=saying())
    interceptors = Interceptors(functions)
    await interceptors.before(interception(configuration("REQUEST", headers=True)), CALL)
    await interceptors.before(interception(configuration("REQUEST")), CALL)
    given, without = (call.event["mcp"]["gatewayRequest"] for call in functions.calls)
    assert given["headers"] == {"authorization": BEARER, "x-team": "red"}
    assert "headers" not in without


async def test_nothing_is_asked_where_nothing_is_configured() -> None:
    functions = PythonFunctions()
    interceptors = Interceptors(functions)
    answer = Answer(body=RESULT)
    assert (await interceptors.before(interception(configuration("RESPONSE")), CALL)).body is CALL
    assert await interceptors.after(interception(configuration("REQUEST")), CALL, answer) is answer
    assert (await interceptors.before_http(interception(), b"x")).body == b"x"
    assert functions.calls == []


async def test_it_changes_arguments_and_adds_headers() -> None:
    changed = {**CALL, "params": {"name": "t___pay", "arguments": {"amount": 3, "tenant": "red"}}}
    said = {"body": changed, "headers": {"X-Tenant": "red"}}
    functions = PythonFunctions(guard=saying(transformedGatewayRequest=said))
    passed = await Interceptors(functions).before(interception(configuration("REQUEST")), CALL)
    assert passed.body == changed
    assert passed.headers == {"x-tenant": "red"}


async def test_its_answer_stands_in_the_place_of_the_targets() -> None:
    refusal = {"jsonrpc": "2.0", "id": 7, "error": {"code": -32003, "message": "not on Sundays"}}
    functions = PythonFunctions(
        guard=saying(
            transformedGatewayRequest={"body": {"of": "no interest now"}},
            transformedGatewayResponse={"statusCode": 403, "body": refusal},
        )
    )
    passed = await Interceptors(functions).before(interception(configuration("REQUEST")), CALL)
    assert passed.answer is not None
    assert passed.answer.status == 403
    with pytest.raises(RpcRefused, match="not on Sundays") as refused:
        rpc_result(passed.answer)
    assert refused.value.code == -32003


async def test_a_response_interceptor_sees_request_and_answer_and_changes_the_answer() -> None:
    redacted = {"jsonrpc": "2.0", "id": "lost", "result": {"content": []}}
    functions = PythonFunctions(
        guard=saying(transformedGatewayResponse={"statusCode": 200, "body": redacted})
    )
    answer = await Interceptors(functions).after(
        interception(configuration("RESPONSE")), CALL, Answer(body=RESULT)
    )
    assert rpc_result(answer) == {"content": []}
    assert answer.body["id"] == 7
    event = functions.calls[0].event["mcp"]
    assert event["gatewayRequest"]["body"] == CALL
    assert event["gatewayResponse"] == {"statusCode": 200, "body": RESULT}


@pytest.mark.parametrize("body", [{"error": "denied by rule 4"}, "denied by rule 4"])
def test_a_refusal_in_words_of_its_own_is_a_refusal(body: Any) -> None:
    with pytest.raises(RpcRefused, match="denied by rule 4") as refused:
        rpc_result(Answer(body=body, status=403))
    assert refused.value.data == {"status": 403}


def _raises(event: Any) -> Any:
    raise ValueError("canary: the database's password is x")


@pytest.mark.parametrize(
    ("guard", "why"),
    [
        (_raises, r"it failed \(ValueError\)"),
        (lambda _: None, "interceptorOutputVersion"),
        (lambda _: {"mcp": {}}, "interceptorOutputVersion"),
        (lambda _: {"interceptorOutputVersion": "2.0", "mcp": {}}, "interceptorOutputVersion"),
        (lambda _: {"interceptorOutputVersion": "1.0"}, "no `mcp`"),
        (saying("http"), "no `mcp`"),
        (saying(transformedGatewayRequest="x"), "is no object"),
        (saying(transformedGatewayRequest={"body": "x"}), "no JSON-RPC request"),
        (saying(transformedGatewayRequest={"body": {**CALL, "method": "ping"}}), "same method"),
        (saying(transformedGatewayRequest={"body": {**CALL, "id": 8}}), "same method and id"),
        (saying(transformedGatewayRequest={"headers": {"a b": "c"}}), "`headers`"),
        (saying(transformedGatewayRequest={"headers": {"a": "b\r\nc: d"}}), "cannot be sent"),
        (saying(transformedGatewayResponse={"statusCode": "200", "body": {}}), "no HTTP status"),
    ],
)
async def test_a_faulty_interceptor_ends_the_call(guard: Any, why: str) -> None:
    interceptors = Interceptors(PythonFunctions(guard=guard))
    with pytest.raises(InterceptorFailed, match=why) as failed:
        await interceptors.before(interception(configuration("REQUEST")), CALL)
    assert "nothing was called" in failed.value.message
    assert "canary" not in failed.value.message


async def test_a_faulty_response_interceptor_withholds_the_answer() -> None:
    interceptors = Interceptors(PythonFunctions(guard=_raises))
    with pytest.raises(InterceptorFailed, match="withheld"):
        await interceptors.after(interception(configuration("RESPONSE")), CALL, Answer(body=RESULT))


async def test_a_gateway_in_debug_tells_what_the_function_said() -> None:
    interceptors = Interceptors(PythonFunctions(guard=_raises))
    with pytest.raises(InterceptorFailed, match="password is x"):
        await interceptors.before(interception(configuration("REQUEST"), debug=True), CALL)


def test_there_is_one_interceptor_for_a_point() -> None:
    check_interceptors([configuration("REQUEST"), configuration("RESPONSE")])
    check_interceptors([configuration("REQUEST", "RESPONSE")])
    with pytest.raises(ValidationFailed, match="more than one for RESPONSE"):
        check_interceptors([configuration("REQUEST", "RESPONSE"), configuration("RESPONSE")])


def test_no_header_of_the_caller_is_in_a_repr() -> None:
    assert "canary" not in repr(interception(configuration("REQUEST")))


# -- plain HTTP


async def test_http_bodies_travel_as_base64() -> None:
    functions = PythonFunctions(
        guard=saying("http", transformedGatewayRequest={"body": b64(b'{"a": 2}')})
    )
    seen = interception(configuration("REQUEST"), path="/chat/v1", method="PUT")
    passed = await Interceptors(functions).before_http(seen, b"\x00\xff")
    assert passed.body == b'{"a": 2}'
    assert functions.calls[0].event["http"] == {
        "gatewayRequest": {"path": "/chat/v1", "httpMethod": "PUT", "body": b64(b"\x00\xff")}
    }


async def test_an_http_answer_is_changed_in_parts() -> None:
    functions = PythonFunctions(
        guard=saying(
            "http", transformedGatewayResponse={"headers": {"X-Seen": "yes"}, "statusCode": 202}
        )
    )
    before = Answer(body=b"ok", headers={"etag": "1"}, content_type="text/plain")
    answer = await Interceptors(functions).after_http(
        interception(configuration("RESPONSE")), before
    )
    assert answer == Answer(
        body=b"ok", status=202, headers={"etag": "1", "x-seen": "yes"}, content_type="text/plain"
    )
    assert functions.calls[0].event["http"] == {
        "gatewayResponse": {
            "statusCode": 200, "contentType": "text/plain", "headers": {"etag": "1"},
            "body": b64(b"ok"),
        }
    }  # fmt: skip


async def test_a_body_that_is_filtered_out_stays_as_it_is() -> None:
    functions = PythonFunctions(
        guard=saying("http", transformedGatewayResponse={"body": None, "statusCode": 200})
    )
    filtered = configuration("RESPONSE", payloadFilter={"exclude": [{"field": "RESPONSE_BODY"}]})
    answer = await Interceptors(functions).after_http(
        interception(filtered), Answer(body=b"large", content_type="text/plain")
    )
    assert answer.body == b"large"
    assert functions.calls[0].event["http"]["gatewayResponse"]["body"] is None


async def test_an_http_request_is_answered_in_the_targets_place() -> None:
    said = {"statusCode": 403, "contentType": "application/json", "body": b64(b"{}")}
    functions = PythonFunctions(guard=saying("http", transformedGatewayResponse=said))
    passed = await Interceptors(functions).before_http(interception(configuration("REQUEST")), b"")
    assert passed.answer == Answer(body=b"{}", status=403, content_type="application/json")


async def test_a_body_that_is_not_base64_ends_the_call() -> None:
    functions = PythonFunctions(guard=saying("http", transformedGatewayRequest={"body": "{}"}))
    with pytest.raises(InterceptorFailed, match="not base64"):
        await Interceptors(functions).before_http(interception(configuration("REQUEST")), b"x")
