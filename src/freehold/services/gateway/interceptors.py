"""Interceptors: functions of the tenant's that see, change or answer what goes through a gateway.

Source of the events and answers: AgentCore's developer guide, "Using interceptors with Gateway".
Whatever goes wrong with one ends the call: what an interceptor guards is never let past it.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from freehold.kernel.errors import FreeholdError, ValidationFailed
from freehold.ports.functions import FunctionFailed, Functions, Invoked
from freehold.ports.targets import Json, RpcRefused

Point = Literal["REQUEST", "RESPONSE"]
Protocol = Literal["mcp", "http"]

_VERSION = "1.0"
_POINTS: tuple[Point, ...] = ("REQUEST", "RESPONSE")
_HEADER_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
_HEADER_VALUE_MAX = 16 << 10  # a client's own come back, and a bearer token is long
_HEADERS_MAX = 100
_REFUSED = -32000
_STATUSES = range(100, 600)


class InterceptorFailed(FreeholdError):
    """The tenant's own function is at fault; nothing was called, or nothing is answered."""

    code = "InterceptorException"
    status = 502


class Interception(msgspec.Struct, frozen=True, kw_only=True):
    """What both interceptors are told of one request. `configurations` are the gateway's
    `interceptorConfigurations`, `headers` the client's, `raw` its body as it came. `debug` is the
    gateway's `exceptionLevel`: with it, a client reads what a failed interceptor said."""

    tenant: str
    gateway_arn: str
    role: str
    configurations: tuple[Json, ...]
    request_id: str
    path: str = "/mcp"
    method: str = "POST"
    headers: Mapping[str, str] = {}
    raw: bytes = b""
    source: str = ""
    debug: bool = False
    seconds_max: float = 30.0

    def __repr__(self) -> str:
        return f"Interception({self.gateway_arn}, {self.request_id})"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """`body` is a JSON-RPC response of MCP, or the bytes of an HTTP answer."""

    body: Any
    status: int = 200
    headers: Mapping[str, str] = {}
    content_type: str = ""


class Passed(msgspec.Struct, frozen=True, kw_only=True):
    """The request to go on with: authorize, validate and call *this* one. `headers` come before
    the client's, for targets that let them pass. With an `answer` nothing is called; the RESPONSE
    interceptor still sees it."""

    body: Any
    headers: Mapping[str, str] = {}
    answer: Answer | None = None


def check_interceptors(configurations: list[Json]) -> None:
    """Raises ValidationFailed: there may be one for each point."""
    seen: list[str] = [p for each in configurations for p in each["interceptionPoints"]]
    for point in _POINTS:
        if seen.count(point) > 1:
            raise ValidationFailed(f"interceptorConfigurations: more than one for {point}")


def rpc_result(answer: Answer) -> Json:
    """The `result` of a JSON-RPC response. Raises RpcRefused for its `error`, and for what is no
    JSON-RPC: interceptors refuse with whatever words they like."""
    body = answer.body
    if isinstance(body, dict) and isinstance(body.get("result"), dict):
        result: Json = body["result"]
        return result
    said = body.get("error") if isinstance(body, dict) else body
    if isinstance(said, dict) and isinstance(said.get("code"), int):
        raise RpcRefused(said["code"], str(said.get("message", "")), said.get("data"))
    if said is None and isinstance(body, dict):
        said = body.get("message")
    text = said if isinstance(said, str) else "refused by the gateway's interceptor"
    raise RpcRefused(_REFUSED, text, {"status": answer.status})


class Interceptors:
    def __init__(self, functions: Functions) -> None:
        self._functions = functions

    async def before(self, interception: Interception, body: Json) -> Passed:
        """`body`: a JSON-RPC request of MCP. Raises InterceptorFailed."""
        configuration = configured(interception.configurations, "REQUEST")
        if configuration is None:
            return Passed(body=body)
        said = await self._ask(
            interception, configuration, "REQUEST", "mcp", _mcp(interception, configuration, body)
        )
        answer = _answer(said, "REQUEST", _json_body)
        request = _member(said, "transformedGatewayRequest", "REQUEST")
        changed = request.get("body")
        if changed is None or answer is not None:
            changed = body
        elif not _is_same_call(changed, body):
            raise _wrong("REQUEST", "its `body` is no JSON-RPC request of the same method and id")
        return Passed(body=changed, headers=_headers(request, "REQUEST"), answer=answer)

    async def after(self, interception: Interception, body: Json, answer: Answer) -> Answer:
        """`body`: the request that was called, `answer`: its JSON-RPC response."""
        configuration = configured(interception.configurations, "RESPONSE")
        if configuration is None:
            return answer
        event = _mcp(interception, configuration, body)
        event["gatewayResponse"] = {
            "statusCode": answer.status,
            **({"headers": dict(answer.headers)} if answer.headers else {}),
            "body": answer.body,
        }
        said = await self._ask(interception, configuration, "RESPONSE", "mcp", event)
        changed = _answer(said, "RESPONSE", _json_body, otherwise=answer)
        if changed is None:
            return answer
        if isinstance(changed.body, dict) and "id" in body:
            changed = msgspec.structs.replace(changed, body={**changed.body, "id": body["id"]})
        return changed

    async def before_http(self, interception: Interception, body: bytes) -> Passed:
        """Of targets that speak plain HTTP, and of inference."""
        configuration = configured(interception.configurations, "REQUEST")
        if configuration is None:
            return Passed(body=body)
        event = {"gatewayRequest": _request(interception, configuration, _base64(body))}
        said = await self._ask(interception, configuration, "REQUEST", "http", event)
        answer = _answer(said, "REQUEST", _bytes_body)
        request = _member(said, "transformedGatewayRequest", "REQUEST")
        given = request.get("body")
        changed = body if given is None else _bytes_body(given, "REQUEST")
        return Passed(body=changed, headers=_headers(request, "REQUEST"), answer=answer)

    async def after_http(self, interception: Interception, answer: Answer) -> Answer:
        """The whole answer: what streams is to be gathered first."""
        configuration = configured(interception.configurations, "RESPONSE")
        if configuration is None:
            return answer
        hidden = _excludes_body(configuration)
        event = {
            "gatewayResponse": {
                "statusCode": answer.status,
                "contentType": answer.content_type,
                "headers": dict(answer.headers),
                "body": None if hidden else _base64(answer.body),
            }
        }
        said = await self._ask(interception, configuration, "RESPONSE", "http", event)
        return _answer(said, "RESPONSE", _bytes_body, otherwise=answer) or answer

    async def _ask(
        self,
        interception: Interception,
        configuration: Json,
        point: Point,
        protocol: Protocol,
        event: Json,
    ) -> Json:
        """What it answered for this protocol."""
        invoked = Invoked(
            tenant=interception.tenant,
            arn=configuration["interceptor"]["lambda"]["arn"],
            event={"interceptorInputVersion": _VERSION, protocol: event},
            context=_context(interception),
            request_id=interception.request_id,
            seconds_max=interception.seconds_max,
            role=interception.role,
        )
        try:
            value = await self._functions.invoke(invoked)
        except FunctionFailed as failed:
            more = f": {failed.message}" if interception.debug else ""
            raise _wrong(point, f"it failed ({failed.type or 'no type'}){more}") from failed
        except FreeholdError as error:
            more = f": {error.message}" if interception.debug else ""
            raise _wrong(point, f"it cannot be called ({error.code}){more}") from error
        if not isinstance(value, dict) or value.get("interceptorOutputVersion") != _VERSION:
            raise _wrong(
                point, f'its answer is no object with interceptorOutputVersion "{_VERSION}"'
            )
        said = value.get(protocol)
        if not isinstance(said, dict):
            raise _wrong(point, f"its answer has no `{protocol}`")
        return said


def configured(configurations: tuple[Json, ...], point: Point) -> Json | None:
    return next((each for each in configurations if point in each["interceptionPoints"]), None)


def _mcp(interception: Interception, configuration: Json, body: Json) -> Json:
    return {
        "rawGatewayRequest": {"body": interception.raw.decode(errors="replace")},
        "gatewayRequest": _request(interception, configuration, body),
    }


def _request(interception: Interception, configuration: Json, body: Any) -> Json:
    request: Json = {"path": interception.path, "httpMethod": interception.method}
    if (configuration.get("inputConfiguration") or {}).get("passRequestHeaders"):
        request["headers"] = dict(interception.headers)
    request["body"] = body
    return request


def _context(interception: Interception) -> Json:
    context = {
        "GATEWAY_ARN": interception.gateway_arn,
        "GATEWAY_ACCOUNT_ID": interception.tenant,
        "REQUEST_ID": interception.request_id,
    }
    if interception.source:
        context["SOURCE_IP"] = interception.source
    return context


def _excludes_body(configuration: Json) -> bool:
    given = (configuration.get("inputConfiguration") or {}).get("payloadFilter") or {}
    return any(each.get("field") == "RESPONSE_BODY" for each in given.get("exclude", ()))


def _member(said: Json, name: str, point: Point) -> Json:
    found = said.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise _wrong(point, f"its `{name}` is no object")
    return found


def _answer(
    said: Json, point: Point, read_body: Any, *, otherwise: Answer | None = None
) -> Answer | None:
    given = _member(said, "transformedGatewayResponse", point)
    if not given:
        return None
    status = given.get("statusCode", otherwise.status if otherwise else 200)
    if not isinstance(status, int) or isinstance(status, bool) or status not in _STATUSES:
        raise _wrong(point, "its `statusCode` is no HTTP status")
    headers = _headers(given, point)
    body = given.get("body")
    kept = otherwise if body is None else None
    content = kept.body if kept is not None else read_body(body, point)
    content_type = given.get("contentType") or (otherwise.content_type if otherwise else "")
    if not isinstance(content_type, str) or not content_type.isprintable():
        raise _wrong(point, "its `contentType` is no media type")
    return Answer(
        body=content,
        status=status,
        headers={**(otherwise.headers if otherwise else {}), **headers},
        content_type=content_type,
    )


def _json_body(given: Any, point: Point) -> Any:
    return given


def _bytes_body(given: Any, point: Point) -> bytes:
    if given is None:
        return b""
    try:
        return base64.b64decode(given, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise _wrong(point, "its `body` is not base64") from None


def _base64(body: bytes) -> str:
    return base64.b64encode(body).decode()


def _headers(given: Json, point: Point) -> dict[str, str]:
    headers = given.get("headers") or {}
    if not isinstance(headers, dict) or len(headers) > _HEADERS_MAX:
        raise _wrong(point, f"its `headers` are no object of at most {_HEADERS_MAX}")
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not isinstance(value, str):
            raise _wrong(point, "its `headers` have a name or a value that is none")
        if len(value) > _HEADER_VALUE_MAX or not value.isprintable() or not value.isascii():
            raise _wrong(point, f"its header {name} has a value that cannot be sent")
    return {name.lower(): value for name, value in headers.items()}


def _is_same_call(changed: Any, body: Json) -> bool:
    """It may change the tool and its arguments, which are judged after it; what kind of message it
    is was judged before."""
    return (
        isinstance(changed, dict)
        and changed.get("method") == body.get("method")
        and changed.get("id") == body.get("id")
        and isinstance(changed.get("params", {}), dict)
    )


def _wrong(point: Point, why: str) -> InterceptorFailed:
    done = "nothing was called" if point == "REQUEST" else "the answer is withheld"
    return InterceptorFailed(f"the gateway's {point} interceptor is at fault, so {done}: {why}")
