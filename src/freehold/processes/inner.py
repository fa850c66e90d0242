"""What of the platform is called from within: its gateways call its agents and gateways."""

from collections.abc import AsyncIterator

from freehold.adapters.web.inner import Inside, Tickets
from freehold.kernel.own_addresses import OwnAddresses
from freehold.ports.web import Web, WebStream
from freehold.services.gateway.agent_cards import CARD_BYTES_MAX, CARD_PATH
from freehold.services.gateway.agent_sessions import (
    MCP_SESSION_HEADER,
    SESSION_HEADER,
    USER_HEADER,
)
from freehold.services.gateway.ports import RuntimeAnswer, RuntimeCall
from freehold.settings import Settings

_BEGIN_SECONDS_MAX = 900.0
_IDLE_SECONDS_MAX = 3600.0


def make_inside(settings: Settings) -> Inside:
    return Inside(OwnAddresses(settings.public_url), Tickets())


class InnerRuntimes:
    """`services.gateway.ports.Runtimes`, by the agents' own URLs here: the pipeline that every call
    goes through decides, and writes its audit."""

    def __init__(self, web: Web, own: OwnAddresses) -> None:
        self._web, self._own = web, own

    async def invoke(self, call: RuntimeCall) -> RuntimeAnswer:
        method, rest = ("GET", CARD_PATH) if call.card else ("POST", "")
        url = self._own.of_runtime(call.arn, call.qualifier, rest)
        headers = {**call.headers}
        named = (
            (SESSION_HEADER, call.session_id),
            (USER_HEADER, call.user),
            (MCP_SESSION_HEADER, call.mcp_session),
        )
        for name, value in named:
            headers.pop(name, None)
            if value:
                headers[name] = value
        headers |= {name.lower(): value for name, value in call.credential.headers.items()}
        if call.credential.signer is not None:
            headers = dict(call.credential.signer(method, url, headers, b""))
        size = call.body.size_bytes
        if size is not None:
            headers["content-length"] = str(size)
        stream = await self._web.open(
            method, url, headers=headers, body=None if call.card else call.body.chunks(),
            seconds_max=_BEGIN_SECONDS_MAX, idle_seconds_max=_IDLE_SECONDS_MAX,
        )  # fmt: skip
        body: bytes | _Answer = _Answer(stream)
        if call.card:
            try:
                body = await stream.read(CARD_BYTES_MAX)
            finally:
                stream.close()
        return RuntimeAnswer(
            status=stream.status,
            session_id=stream.headers.get(SESSION_HEADER, ""),
            content_type=stream.headers.get("content-type", "application/octet-stream"),
            headers=stream.headers,
            body=body,
            mcp_session=stream.headers.get(MCP_SESSION_HEADER),
        )


class _Answer:
    def __init__(self, stream: WebStream) -> None:
        self._stream, self._chunks = stream, stream.chunks()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._chunks)

    async def aclose(self) -> None:
        self._stream.close()
