"""Interceptors around calls that are no MCP.

What they see is gathered first: nothing of such a call streams through one, as in AgentCore."""

from collections.abc import Mapping

import msgspec

from freehold.kernel.body import BytesBody
from freehold.kernel.errors import NotFound
from freehold.ports.passages import Passages, Passed, Passing
from freehold.services.gateway.catalogs import LoadedCatalogs
from freehold.services.gateway.flow import Flow, TargetError
from freehold.services.gateway.interceptors import Answer, Interception, Interceptors, configured
from freehold.services.gateway.model import PAYLOAD_BYTES_MAX
from freehold.services.gateway.passage import whole

_FRAMING = frozenset({"content-length", "transfer-encoding", "content-encoding"})


class InterceptedPassages:
    """`ports.passages.Passages` around `inner`, which answers alone where nothing intercepts."""

    def __init__(
        self, inner: Passages, *, catalogs: LoadedCatalogs, interceptors: Interceptors
    ) -> None:
        self._inner, self._catalogs, self._interceptors = inner, catalogs, interceptors

    async def answer(self, passing: Passing) -> Passed:
        catalog = await self._catalogs.get(passing.door.gateway_id)
        if catalog is None:
            raise NotFound("There is no such gateway.")
        if not catalog.interceptors:
            return await self._inner.answer(passing)
        raw = await whole(passing.body)
        interception = Interception(
            tenant=passing.door.tenant,
            gateway_arn=passing.door.arn,
            role=catalog.role_arn,
            configurations=catalog.interceptors,
            request_id=passing.request.request_id,
            path=passing.path,
            method=passing.method,
            headers=passing.request.headers,
            raw=raw,
            source=passing.request.source,
            debug=passing.door.debug,
        )
        passed = await self._interceptors.before_http(interception, raw)
        answer = passed.answer
        if answer is None:
            request = msgspec.structs.replace(
                passing.request, headers=_changed(passing.request.headers, passed.headers)
            )
            changed = msgspec.structs.replace(passing, request=request, body=BytesBody(passed.body))
            flow = await self._inner.answer(changed)
            if configured(catalog.interceptors, "RESPONSE") is None:
                return flow
            answer = await _gathered(flow)
        return _flow(await self._interceptors.after_http(interception, answer))


def _changed(headers: Mapping[str, str], given: Mapping[str, str]) -> Mapping[str, str]:
    """The body may be another one, of another length."""
    kept = {k: v for k, v in headers.items() if k not in _FRAMING}
    return {**kept, **{k: v for k, v in given.items() if k not in _FRAMING}}


async def _gathered(flow: Passed) -> Answer:
    gathered = bytearray()
    try:
        async for chunk in flow.chunks():
            gathered += chunk
            if len(gathered) > PAYLOAD_BYTES_MAX:
                raise TargetError("the target", "it answers more than an interceptor can be shown")
    finally:
        await flow.close()
    headers = {k: v for k, v in flow.headers.items() if k not in _FRAMING}
    return Answer(
        body=bytes(gathered),
        status=flow.status,
        headers=headers,
        content_type=headers.get("content-type", ""),
    )


def _flow(answer: Answer) -> Flow:
    headers = {k: v for k, v in answer.headers.items() if k not in _FRAMING}
    if answer.content_type:
        headers["content-type"] = answer.content_type
    headers["content-length"] = str(len(answer.body))
    return Flow(answer.status, headers, answer.body)
