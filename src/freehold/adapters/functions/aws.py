"""AWS Lambda's Invoke, as its HTTP API has it, for the ARNs that are not this platform's own.

Source: Lambda's API reference, Invoke; botocore's model of the service.
"""

import base64
import re
from typing import Any
from urllib.parse import quote

import msgspec

from freehold.kernel.errors import NotFound, ValidationFailed
from freehold.ports.functions import FunctionFailed, Invoked
from freehold.ports.outbound import AwsRoles
from freehold.ports.web import Unreachable, Web, WebAnswer

ARN = re.compile(
    r"arn:(?P<partition>aws[a-zA-Z-]*):lambda:(?P<region>[a-z]{2}(?:-[a-z]+)+-\d):(?P<account>\d{12})"
    r":function:(?P<name>[a-zA-Z0-9-_.]+)(?::(?P<qualifier>\$LATEST|[a-zA-Z0-9-_]+))?"
)
PAYLOAD_BYTES_MAX = 6 << 20
_CLIENT_CONTEXT_BYTES_MAX = 3583
_TEXT_MAX = 2000
_NOT_REACHED = frozenset(
    {
        "TooManyRequestsException", "ResourceNotReadyException", "ResourceConflictException",
        "EC2ThrottledException", "ServiceException",
    }
)  # fmt: skip


class AwsLambda:
    """`ports.functions.Functions` for AWS's. `endpoint` stands in the place of AWS's own, with
    `{region}` in it filled in."""

    def __init__(self, web: Web, roles: AwsRoles, *, endpoint: str = "") -> None:
        self._web, self._roles, self._endpoint = web, roles, endpoint

    def may_call(self, tenant: str, role: str) -> bool:
        return self._roles.has(tenant, role)

    async def invoke(self, invoked: Invoked) -> Any:
        arn = ARN.fullmatch(invoked.arn)
        if arn is None:
            raise ValidationFailed(f"{invoked.arn} is not the ARN of a function")
        body = msgspec.json.encode(invoked.event)
        if len(body) > PAYLOAD_BYTES_MAX:
            raise ValidationFailed(f"an event has at most {PAYLOAD_BYTES_MAX} bytes")
        region = arn["region"]
        sign = await self._roles.signer(
            invoked.tenant, invoked.role, service="lambda", region=region
        )
        url = (
            f"{self._base(arn['partition'], region)}/2015-03-31/functions/"
            f"{quote(invoked.arn, safe='')}/invocations"
        )
        headers = {
            "Content-Type": "application/json",
            "X-Amz-Invocation-Type": "RequestResponse",
            "X-Amz-Client-Context": _client_context(invoked.context),
        }
        try:
            answer = await self._web.ask(
                "POST", url, headers=sign("POST", url, headers, body), body=body,
                bytes_max=PAYLOAD_BYTES_MAX, seconds_max=invoked.seconds_max,
            )  # fmt: skip
        except Unreachable as error:
            kind = "Timeout" if error.timed_out else "Unreachable"
            raise FunctionFailed(str(error), type=kind, unreached=not error.sent) from None
        return _returned(answer, invoked.arn)

    def _base(self, partition: str, region: str) -> str:
        if self._endpoint:
            return self._endpoint.replace("{region}", region).rstrip("/")
        domain = "amazonaws.com.cn" if partition == "aws-cn" else "amazonaws.com"
        return f"https://lambda.{region}.{domain}"


def _client_context(context: dict[str, Any]) -> str:
    text = base64.b64encode(msgspec.json.encode({"custom": context})).decode()
    if len(text) > _CLIENT_CONTEXT_BYTES_MAX:
        raise ValidationFailed(
            f"what a function of AWS's is told of a call has at most {_CLIENT_CONTEXT_BYTES_MAX} "
            "bytes: let fewer headers pass, or shorter ones"
        )
    return text


def _returned(answer: WebAnswer, arn: str) -> Any:
    if answer.status >= 300:
        raise _refused(answer, arn)
    value = _json(answer.body)
    if "x-amz-function-error" in answer.headers:
        raise _failed(value)
    return value


def _json(body: bytes) -> Any:
    if not body:
        return None
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        raise FunctionFailed(
            "the function answered what is no JSON", type="Runtime.MarshalError"
        ) from None


def _failed(value: Any) -> FunctionFailed:
    said = value if isinstance(value, dict) else {}
    kind = str(said.get("errorType") or "Unhandled")
    message = str(said.get("errorMessage") or "the function failed, and did not say why")
    if "Task timed out after" in message:  # Lambda's words; older runtimes give no errorType
        kind = "Timeout"
    return FunctionFailed(message[:_TEXT_MAX], type=kind[:200])


def _refused(answer: WebAnswer, arn: str) -> Exception:
    """By its code alone: AWS's words name whose keys these are, and what they may do."""
    code = answer.headers.get("x-amzn-errortype", "").partition(":")[0]
    if not re.fullmatch(r"[A-Za-z0-9]{1,80}", code):
        code = f"HTTP {answer.status}"
    if code == "ResourceNotFoundException":
        return NotFound(f"AWS Lambda has no function {arn}")
    if code == "RequestTooLargeException":
        return ValidationFailed(f"an event has at most {PAYLOAD_BYTES_MAX} bytes")
    return FunctionFailed(
        f"AWS Lambda does not run {arn}: {code}",
        type=code,
        unreached=answer.status < 500 or code in _NOT_REACHED,
    )
