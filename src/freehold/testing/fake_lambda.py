"""A fake of AWS Lambda: Invoke of its HTTP API, on loopback, with functions that are Python.

It checks signatures as AWS does, by having botocore sign the request again, and it answers errors
in Lambda's shapes. What it does not do: versions, asynchronous invocations, logs, throttling of its
own.

    async with FakeLambda(access_key_id="AKIA...", secret_access_key="...") as fake:
        arn = fake.add("greet", lambda event, context: {"hello": event["name"]})
        client = boto3.client("lambda", endpoint_url=fake.endpoint, ...)
"""

import asyncio
import base64
import hmac
import json
import traceback
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from aiohttp import web
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from freehold.testing.lambda_context import LambdaContext

Handler = Callable[[Any, LambdaContext], Any]

_PAYLOAD_BYTES_MAX = 6 << 20
_PATH = "/2015-03-31/functions/"


class FakeLambda:
    """`invoked` are the (name, event, client context) of all that ran. `refusal` is answered in
    place of all of them: (status, error code, message)."""

    def __init__(
        self,
        *,
        access_key_id: str,
        secret_access_key: str,
        session_token: str | None = None,
        region: str = "us-east-1",
        account: str = "444455556666",
    ) -> None:
        self._credentials = Credentials(access_key_id, secret_access_key, session_token)
        self._region, self._account = region, account
        self._handlers: dict[str, Handler] = {}
        self.invoked: list[tuple[str, Any, dict[str, Any]]] = []
        self.refusal: tuple[int, str, str] | None = None
        self.released = asyncio.Event()
        """Answers wait for it; clear it, and nothing is answered."""
        self.released.set()
        self.endpoint = ""

    async def __aenter__(self) -> "FakeLambda":
        app = web.Application(client_max_size=_PAYLOAD_BYTES_MAX + (1 << 20))
        app.router.add_post("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.endpoint = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.released.set()
        await self._runner.cleanup()

    def add(self, name: str, handler: Handler) -> str:
        """Its ARN."""
        self._handlers[name] = handler
        return f"arn:aws:lambda:{self._region}:{self._account}:function:{name}"

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        await self.released.wait()
        if not self._signed(request, body):
            return _refused(403, "InvalidSignatureException", "The signature does not match.")
        if self.refusal is not None:
            return _refused(*self.refusal)
        path = unquote(request.raw_path.partition("?")[0])
        if not path.startswith(_PATH) or not path.endswith("/invocations"):
            return _refused(404, "ResourceNotFoundException", f"no such path {path}")
        if len(body) > _PAYLOAD_BYTES_MAX:
            return _refused(413, "RequestTooLargeException", "Request must be smaller")
        name = path.removeprefix(_PATH).removesuffix("/invocations").rpartition(":function:")[2]
        handler = self._handlers.get(name)
        if handler is None:
            return _refused(404, "ResourceNotFoundException", f"Function not found: {name}")
        given = json.loads(base64.b64decode(request.headers.get("X-Amz-Client-Context", "e30=")))
        event = json.loads(body) if body else {}
        self.invoked.append((name, event, given))
        return _run(handler, event, LambdaContext(name, given))

    def _signed(self, request: web.Request, body: bytes) -> bool:
        """Whether the same keys sign the same headers of the same request the same way."""
        given = request.headers.get("Authorization", "")
        names = given.partition("SignedHeaders=")[2].partition(",")[0].split(";")
        again = AWSRequest(
            method=request.method,
            url=f"{self.endpoint}{request.raw_path}",
            data=body,
            headers={name: request.headers[name] for name in names if name in request.headers},
        )
        again.context["timestamp"] = request.headers.get("X-Amz-Date", "")
        signer = SigV4Auth(self._credentials, "lambda", self._region)
        signature = signer.signature(
            signer.string_to_sign(again, signer.canonical_request(again)), again
        )
        return (
            f"Credential={signer.scope(again)}, " in given
            and request.headers.get("X-Amz-Security-Token") == self._credentials.token
            and hmac.compare_digest(given.rpartition("=")[2], signature)
        )


def _run(handler: Handler, event: Any, context: LambdaContext) -> web.Response:
    headers = {"X-Amz-Executed-Version": "$LATEST", "x-amzn-RequestId": context.aws_request_id}
    try:
        value = handler(event, context)
    except Exception as error:  # noqa: BLE001 - whatever a handler raises is its answer
        failed = {
            "errorMessage": str(error),
            "errorType": type(error).__name__,
            "requestId": context.aws_request_id,
            "stackTrace": traceback.format_tb(error.__traceback__),
        }
        return web.json_response(failed, headers={**headers, "X-Amz-Function-Error": "Unhandled"})
    return web.json_response(value, headers=headers)


def _refused(status: int, code: str, message: str) -> web.Response:
    return web.json_response(
        {"Type": "User", "Message": message},
        status=status,
        headers={"x-amzn-ErrorType": code, "x-amzn-RequestId": str(uuid.uuid4())},
    )
