"""The S3 edge's ASGI application: route, let the governed path pass, act, answer."""

import logging
from collections.abc import Awaitable, Callable

from starlette.types import Receive, Scope, Send

from freehold.edges.pipeline import Call, Pipeline
from freehold.edges.s3 import checksums
from freehold.edges.s3.answering import Exchange
from freehold.edges.s3.authentication import S3Authenticator
from freehold.edges.s3.buckets import Buckets
from freehold.edges.s3.errors import S3Error, as_s3_error, not_implemented
from freehold.edges.s3.multipart import Multipart
from freehold.edges.s3.objects import Objects
from freehold.edges.s3.request import (
    Answer,
    LateAnswer,
    Request,
    Target,
    check_bucket,
    read_target,
)
from freehold.edges.s3.routes import ROUTES, Route, find_route
from freehold.edges.s3.uploads import Uploads
from freehold.edges.spool import ClientDisconnected
from freehold.kernel import ids
from freehold.kernel.caller import Caller
from freehold.kernel.errors import FreeholdError
from freehold.ports.authorizer import AccessKeys
from freehold.ports.blobs import Blobs

log = logging.getLogger(__name__)

_KEY_BYTES_MAX = 1024
# S3's own limit for what one request may carry.
_UPLOAD_BYTES_MAX = 5 << 30
# Clients wait for a minute by default; proxies for less.
_PATIENCE_SECONDS = 10.0

Handler = Callable[[Request], Awaitable[Answer | LateAnswer]]


class S3Edge:
    """Path-style S3 below `/_s3`, for boto3 and its kin.

    `unsigned_over_http` accepts unsigned bodies without TLS: for a TLS proxy that this process
    cannot see. `patience_seconds`: how long a copy or a completion may take before the answer
    begins.
    """

    def __init__(
        self,
        blobs: Blobs,
        *,
        pipeline: Pipeline,
        keys: AccessKeys,
        region: str,
        object_bytes_max: int,
        unsigned_over_http: bool = False,
        patience_seconds: float = _PATIENCE_SECONDS,
    ) -> None:
        self._pipeline = pipeline
        self._region = region
        self._patience_seconds = patience_seconds
        self._authenticator = S3Authenticator(
            keys,
            region=region,
            upload_bytes_max=min(object_bytes_max, _UPLOAD_BYTES_MAX),
            unsigned_over_http=unsigned_over_http,
        )
        self._handlers = _handlers(blobs, region=region, object_bytes_max=object_bytes_max)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", "the root application answers everything else"
        exchange = Exchange(scope, receive, send, patience_seconds=self._patience_seconds)
        try:
            target = read_target(scope)
        except S3Error as error:
            await exchange.refuse(error, ids.request_id())
            return
        try:
            await self._serve(exchange, scope, target)
        except ClientDisconnected:
            log.debug("a client went away")

    async def _serve(self, exchange: Exchange, scope: Scope, target: Target) -> None:
        route = find_route(target.level, scope["method"], target.query, target.headers)

        async def authenticate(call: Call) -> Caller:
            return await self._authenticator.authenticate(call, _about_body(target, route))

        async def prepare(call: Call) -> None:
            _check(route, target, call.known_caller)
            call.resource_arn = self._arn(target, call.known_caller)

        call = Call(
            edge="s3",
            operation=f"s3:{route.operation if route else 'Unknown'}",
            scope=scope,
            receive=exchange.inbound,
            authenticator=authenticate,
            prepare=prepare,
        )
        exchange.before_end = call.acknowledge
        try:
            async with self._pipeline.governed(call):
                assert route is not None, "prepare refuses what has no route"
                await self._act(exchange, Request(call, target), self._handlers[route.operation])
        except ClientDisconnected:
            raise
        except Exception as error:
            # The boundary: refused on the governed path, or broken off in mid-answer.
            if exchange.started:
                raise
            await self._refuse(exchange, call, error)

    async def _act(self, exchange: Exchange, request: Request, handler: Handler) -> None:
        call = request.call
        try:
            answer = await handler(request)
            call.status = answer.status if isinstance(answer, Answer) else 200
            await exchange.answer(answer, call.request_id)
        except ClientDisconnected:
            raise
        except Exception as error:
            # The boundary again, inside the governed path: the outcome is of this call.
            if exchange.started:
                raise
            await self._refuse(exchange, call, error)

    async def _refuse(self, exchange: Exchange, call: Call, error: Exception) -> None:
        if isinstance(error, FreeholdError):
            refused = as_s3_error(error)
        else:
            log.error("%s failed (%s)", call.operation, call.request_id, exc_info=error)
            # A caller whom nobody could authenticate is told to come again, never let in.
            code = "ServiceUnavailable" if call.caller is None else "InternalError"
            refused = S3Error(code, "an internal error; the request id says which")
        call.status = refused.status
        call.noted["error"] = refused.code
        await exchange.refuse(refused, call.request_id)

    def _arn(self, target: Target, caller: Caller) -> str:
        """With region and tenant, unlike S3's own: here a bucket's name is unique to its tenant."""
        resource = f"{target.bucket}/{target.key}" if target.key else target.bucket or "*"
        return f"arn:aws:s3:{self._region}:{caller.tenant}:{resource}"


def _handlers(blobs: Blobs, *, region: str, object_bytes_max: int) -> dict[str, Handler]:
    uploads = Uploads(blobs)
    buckets = Buckets(blobs, uploads, region=region)
    objects = Objects(blobs)
    multipart = Multipart(blobs, uploads, object_bytes_max=object_bytes_max)
    handlers: dict[str, Handler] = {
        "ListBuckets": buckets.list_buckets,
        "CreateBucket": buckets.create,
        "HeadBucket": buckets.head,
        "DeleteBucket": buckets.delete,
        "GetBucketLocation": buckets.location,
        "ListObjects": buckets.list_objects,
        "ListObjectsV2": buckets.list_objects_v2,
        "ListMultipartUploads": multipart.list_uploads,
        "PutObject": objects.put,
        "GetObject": objects.get,
        "HeadObject": objects.head,
        "DeleteObject": objects.delete,
        "DeleteObjects": objects.delete_many,
        "CopyObject": objects.copy,
        "CreateMultipartUpload": multipart.create,
        "UploadPart": multipart.upload_part,
        "UploadPartCopy": multipart.copy_part,
        "CompleteMultipartUpload": multipart.complete,
        "AbortMultipartUpload": multipart.abort,
        "ListParts": multipart.list_parts,
    }
    assert handlers.keys() == {route.operation for route in ROUTES}
    return handlers


def _about_body(target: Target, route: Route | None) -> dict[str, str]:
    """The headers that describe this request's body: in a CompleteMultipartUpload the checksums
    are of the object."""
    if route is None or route.checks_body:
        return target.headers
    return {
        name: value for name, value in target.headers.items() if not checksums.is_checksum(name)
    }


def _check(route: Route | None, target: Target, caller: Caller) -> None:
    if route is None:
        raise not_implemented("this operation")
    unknown = route.unknown(target.query, target.headers)
    if unknown is not None:
        raise not_implemented(unknown)
    for name in ("x-amz-expected-bucket-owner", "x-amz-source-expected-bucket-owner"):
        if target.headers.get(name, caller.tenant) != caller.tenant:
            raise S3Error("AccessDenied", "the bucket has another owner")
    if route.operation != "CreateBucket":
        check_bucket(target.bucket)
    if len(target.key.encode()) > _KEY_BYTES_MAX:
        raise S3Error("KeyTooLongError", f"a key has at most {_KEY_BYTES_MAX} bytes")
