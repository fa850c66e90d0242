"""Interceptors of a gateway around calls that are no MCP."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from freehold.kernel.body import BytesBody
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.request import Request
from freehold.ports.functions import FunctionFailed, Invoked
from freehold.ports.mcp import Door
from freehold.ports.passages import Passing
from freehold.services.gateway.catalog import Catalog
from freehold.services.gateway.flow import Flow, TargetError
from freehold.services.gateway.http_interception import InterceptedPassages
from freehold.services.gateway.interceptors import InterceptorFailed, Interceptors
from freehold.services.gateway.model import PAYLOAD_BYTES_MAX

TENANT = "123456789012"
ARN = f"arn:aws:bedrock-agentcore:us-west-2:{TENANT}:gateway/web-1234567890"
FUNCTION = f"arn:aws:lambda:us-west-2:{TENANT}:function:guard"
DOOR = Door(tenant=TENANT, gateway_id="web-1234567890", arn=ARN, name="web", authorizer="AWS_IAM")


class Guard:
    """`ports.functions.Functions`: the interceptor's author."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.answers: dict[str, Any] = {}

    async def invoke(self, invoked: Invoked) -> Any:
        self.events.append(invoked.event["http"])
        point = "RESPONSE" if "gatewayResponse" in invoked.event["http"] else "REQUEST"
        answer = self.answers.get(point, {})
        if isinstance(answer, Exception):
            raise answer
        return {"interceptorOutputVersion": "1.0", "http": answer}


class Target:
    """`ports.passages.Passages`: what stands behind."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, dict[str, str]]] = []
        self.answer_bytes = b'{"temperature": 21}'
        self.closed = 0

    async def answer(self, passing: Passing) -> Flow:
        self.asked.append((await passing.body.read(), dict(passing.request.headers)))

        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, len(self.answer_bytes), 1 << 20):
                yield self.answer_bytes[start : start + (1 << 20)]

        headers = {"content-type": "application/json", "x-from": "target"}
        return Flow(200, headers, chunks(), drop=self._dropped)

    def _dropped(self) -> None:
        self.closed += 1


class Of:
    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def get(self, gateway_id: str) -> Catalog | None:
        return self._catalog if gateway_id == DOOR.gateway_id else None


def passages(guard: Guard, target: Target, *points: str) -> InterceptedPassages:
    configurations: Any = [
        {
            "interceptor": {"lambda": {"arn": FUNCTION}},
            "interceptionPoints": list(points),
            "inputConfiguration": {"passRequestHeaders": True},
        }
    ]
    catalog = Catalog(DOOR, [], [], interceptors=tuple(configurations) if points else ())
    catalogs: Any = Of(catalog)
    return InterceptedPassages(target, catalogs=catalogs, interceptors=Interceptors(guard))


def call(body: bytes = b'{"city": "Paris"}') -> Passing:
    caller = Caller(tenant=TENANT, principal="someone", kind=CallerKind.ACCESS_KEY)
    headers = {"content-type": "application/json", "content-length": str(len(body))}
    return Passing(
        request=Request(caller=caller, request_id="r-1", headers=headers),
        door=DOOR, method="POST", path="/weather/today", body=BytesBody(body), noted={},
    )  # fmt: skip


async def whole(flow: Any) -> bytes:
    return b"".join([chunk async for chunk in flow.chunks()])


def encoded(text: bytes) -> str:
    return base64.b64encode(text).decode()


async def test_where_nothing_intercepts_the_answer_streams_as_it_is() -> None:
    guard, target = Guard(), Target()
    flow = await passages(guard, target).answer(call())
    assert await whole(flow) == target.answer_bytes
    assert guard.events == []


async def test_an_interceptor_changes_the_request_and_the_answer() -> None:
    guard, target = Guard(), Target()
    guard.answers = {
        "REQUEST": {
            "transformedGatewayRequest": {
                "body": encoded(b'{"city": "London!"}'), "headers": {"X-Checked": "yes"},
            }
        },
        "RESPONSE": {"transformedGatewayResponse": {"body": encoded(b"hidden"), "statusCode": 203}},
    }  # fmt: skip
    flow = await passages(guard, target, "REQUEST", "RESPONSE").answer(call())
    [(body, headers)] = target.asked
    assert body == b'{"city": "London!"}'
    assert headers["x-checked"] == "yes"
    assert "content-length" not in headers, "the body is another one"
    assert (flow.status, await whole(flow)) == (203, b"hidden")
    assert flow.headers["content-length"] == "6"
    assert flow.headers["x-from"] == "target"
    request, response = guard.events
    assert base64.b64decode(request["gatewayRequest"]["body"]) == b'{"city": "Paris"}'
    assert base64.b64decode(response["gatewayResponse"]["body"]) == target.answer_bytes


async def test_an_interceptor_that_answers_keeps_the_target_out_of_it() -> None:
    guard, target = Guard(), Target()
    refusal = {"statusCode": 403, "body": encoded(b"no"), "contentType": "text/plain"}
    guard.answers = {"REQUEST": {"transformedGatewayResponse": refusal}}
    flow = await passages(guard, target, "REQUEST").answer(call())
    assert (flow.status, await whole(flow)) == (403, b"no")
    assert flow.headers["content-type"] == "text/plain"
    assert target.asked == []


@pytest.mark.parametrize("point", ["REQUEST", "RESPONSE"])
async def test_one_that_fails_ends_the_call(point: str) -> None:
    guard, target = Guard(), Target()
    guard.answers = {point: FunctionFailed("broken", type="ValueError")}
    with pytest.raises(InterceptorFailed, match=point):
        await passages(guard, target, point).answer(call())
    assert len(target.asked) == (point == "RESPONSE")


async def test_an_answer_too_large_to_be_shown_is_not_let_past() -> None:
    guard, target = Guard(), Target()
    target.answer_bytes = b"x" * (PAYLOAD_BYTES_MAX + 1)
    with pytest.raises(TargetError, match="more than an interceptor"):
        await passages(guard, target, "RESPONSE").answer(call())
    assert target.closed == 1
    assert guard.events == []


async def test_a_request_interceptor_alone_leaves_the_answer_streaming() -> None:
    guard, target = Guard(), Target()
    flow = await passages(guard, target, "REQUEST").answer(call())
    assert "content-length" not in flow.headers
    assert msgspec.json.decode(await whole(flow)) == {"temperature": 21}
