"""One POST: messages in, their answers out, in either era."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from freehold import __version__
from freehold.edges.mcp import modern
from freehold.edges.mcp.interruption import Interruption
from freehold.edges.mcp.modern import STATUS_OF_CODE, VERSION_HEADER, Declared
from freehold.edges.mcp.streams import Stream
from freehold.edges.mcp.talk import ClientTalk
from freehold.edges.mcp.wire import (
    BATCHES,
    CANCELLED,
    CAPABILITY_MISSING,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    LEGACY,
    LEVELS,
    MODERN,
    RESUMES_FROM,
    VERSION_UNSUPPORTED,
    WITHOUT_HEADER,
    Incoming,
    Json,
    Refused,
    error_message,
    parse,
    result_message,
)
from freehold.edges.pipeline import Call
from freehold.edges.spool import ClientDisconnected, StreamingBody
from freehold.kernel.errors import FreeholdError
from freehold.ports.mcp import REFUSED, Client, Message, Session
from freehold.ports.targets import CannotAsk, RpcRefused, TargetFailed

if TYPE_CHECKING:
    from freehold.edges.mcp.app import Visit

_ATTENDED_AFTER_SECONDS = 0.05
"""Most calls are over by then, and cost neither a task that watches their client nor a timer that
keeps its connection alive."""
CLIENT_BYTES_MAX = 64 * 1024
"""What a client may say of itself in `initialize`: it is stored."""
ROUNDS_MAX = 10
_OF_MODERN_RESULTS = ("resultType", "ttlMs", "cacheScope")


class Post:
    def __init__(self, visit: "Visit") -> None:
        self._visit, self._edge = visit, visit.edge
        self._door, self._answer = visit.door, visit.answer
        self._messages: list[Incoming] = []
        self._batch = False
        self._modern: Declared | None = None
        self._session: Session | None = None
        self._version = ""
        self._stop = Interruption()
        self._watching: asyncio.Task[None] | None = None

    async def prepare(self, call: Call) -> None:
        """All that can be wrong with the request itself."""
        inbound, bytes_max = self._answer.inbound, self._edge.payload_bytes_max
        body = call.body or StreamingBody(inbound, bytes_max=bytes_max)
        self._messages, self._batch = parse(await body.read())
        first = self._messages[0]
        if not self._batch:
            self._visit.message_id = first.id
        self._note(call, first)
        if modern.is_modern(self._visit.headers, self._messages):
            self._prepare_modern(first)
        else:
            await self._prepare_legacy(first)

    def _prepare_modern(self, message: Incoming) -> None:
        if self._batch or message.kind == "response":
            text = "The body must be one request or notification."
            raise Refused(400, INVALID_REQUEST, text, id=message.id)
        if message.kind == "request":
            self._modern = modern.declared(self._visit.headers, message, self._visit.supported)
            self._version = self._modern.version
            if message.method == "subscriptions/listen" and not self._visit.accepts.events:
                raise Refused(406, INVALID_REQUEST, "The answer is a stream.", id=message.id)
        else:
            self._version = self._visit.headers.get(VERSION_HEADER, "")
            modern.check_version(self._version, self._visit.supported, None)

    async def _prepare_legacy(self, message: Incoming) -> None:
        headers, legacy = self._visit.headers, self._legacy_versions()
        named = headers.get(VERSION_HEADER)
        if named is not None and named not in legacy:
            data = {"supported": list(self._visit.supported), "requested": named[:64]}
            text = "This protocol version is not supported."
            raise Refused(400, VERSION_UNSUPPORTED, text, data=data, id=message.id)
        if any(each.method == "initialize" for each in self._messages):
            if self._batch or message.kind != "request":
                raise Refused(400, INVALID_REQUEST, "initialize is a request of its own.")
            return
        self._session = await self._visit.session()
        self._version = self._session.version if self._session else named or WITHOUT_HEADER
        if self._batch and self._version > BATCHES:
            text = f"There are no batches in {self._version}."
            raise Refused(400, INVALID_REQUEST, text, id=message.id)

    def _note(self, call: Call, message: Incoming) -> None:
        method = call.noted["method"] = "batch" if self._batch else message.method or "response"
        if call.span is not None:
            call.span.name = f"mcp {method[:100]}"
            # Not as the conventions name it: the tool's call is a span of its own below this one.
            call.span.attributes["freehold.mcp.method"] = method[:100]
            call.span.attributes["freehold.gateway.id"] = self._door.gateway_id
        named = message.params.get("name") or message.params.get("uri")
        if isinstance(named, str):
            kind = "tool" if message.method == "tools/call" else "name"
            call.noted[kind] = named[:256]

    async def act(self) -> None:
        first = self._messages[0]
        if not self._batch and first.kind == "request":
            await self._act_on(first)
            return
        requests = [each for each in self._messages if each.kind == "request"]
        for message in self._messages:
            if message.kind != "request":
                await self._take(message)
        if not requests:
            self._visit.call.status = 202
            await self._answer.whole(202)
            return
        answers = []
        async with self._interruptible():
            for message in requests:
                answers.append((await self._outcome(message))[1])
        self._check_left()
        await self._finish(200, b"[" + b",".join(answers) + b"]")

    async def _act_on(self, message: Incoming) -> None:
        if message.method == "subscriptions/listen" and self._modern is not None:
            await self._visit.listen(message, self._client())
            return
        if self._modern is None and message.method == "initialize":
            await self._finish(200, await self._initialize(message))
            return
        status, body = 200, b""
        async with self._interruptible(message):
            status, body = await self._outcome(message)
        self._check_left()
        if not body:
            body = error_message(message.id, CANCELLED, "The request was cancelled.")
        await self._finish(status, body)

    async def _finish(self, status: int, body: bytes) -> None:
        self._visit.call.status = status
        if not self._visit.accepts.json and self._answer.stream is None:
            await self._begin()  # it takes nothing but events
        await self._answer.whole(status, body)

    def _check_left(self) -> None:
        if self._stop.why == "left":
            raise ClientDisconnected

    async def _take(self, message: Incoming) -> None:
        """A notification, or the response to a question of ours."""
        session = self._session
        if message.kind == "response":
            if session is not None:
                await self._edge.underway.questions.answered(session.id, message.outcome)
        elif self._version in MODERN or message.method == "notifications/initialized":
            pass  # the modern era has none: to cancel is to leave
        elif message.method == "notifications/cancelled":
            id = message.params.get("requestId")
            if session is not None and isinstance(id, str | int):
                await self._edge.underway.cancel(session.id, id)
        else:
            told = Message(method=message.method, params=message.params)
            await self._edge.gateways.tell(
                self._visit.request(), self._door, self._client(silent=True), told
            )

    async def _outcome(self, message: Incoming) -> tuple[int, bytes]:
        try:
            result = await self._result(message)
        except RpcRefused as error:
            status = STATUS_OF_CODE.get(error.code, 200) if self._modern else 200
            return status, error_message(message.id, error.code, error.message, error.data)
        except CannotAsk as error:
            text = f"This needs something of the client that it does not offer: {error}."
            status, code = (400, CAPABILITY_MISSING) if self._modern else (200, INTERNAL_ERROR)
            return status, error_message(message.id, code, text)
        except TargetFailed as error:
            return 200, error_message(message.id, INTERNAL_ERROR, error.message)
        except FreeholdError as error:
            if not self._batch:
                raise
            return 200, error_message(message.id, INTERNAL_ERROR, error.message)
        if message.method == "tools/call":
            self._note_refusal(result)
        if self._modern is not None:
            result = modern.shaped(message.method, result, self._server())
        else:
            result = {k: v for k, v in result.items() if k not in _OF_MODERN_RESULTS}
        return 200, result_message(message.id, result)

    def _note_refusal(self, result: Json) -> None:
        meta = result.get("_meta")
        refused = meta.get(REFUSED) if isinstance(meta, dict) else None
        if isinstance(refused, str):
            self._visit.call.noted["refused"] = refused

    async def _result(self, message: Incoming) -> Json:
        """Of what is the edge's own; the rest is the gateway's."""
        if self._modern is not None:
            if message.method == "server/discover":
                return await self._discover()
            return await self._answered(message, self._client())
        if message.method == "ping":
            return {}
        if message.method == "logging/setLevel":
            return await self._set_level(message)
        client = self._client()
        result = await self._answered(message, client)
        for _ in range(ROUNDS_MAX):
            if result.get("resultType") != "input_required":
                return result
            # The target speaks the modern era, the client the one before: asked for one by one.
            asked: Json = result.get("inputRequests") or {}
            given = {
                key: await client.talk.ask(one["method"], one.get("params") or {})
                for key, one in asked.items()
            }
            params = {**message.params, "inputResponses": given}
            if "requestState" in result:
                params["requestState"] = result["requestState"]
            message = msgspec.structs.replace(message, params=params)
            result = await self._answered(message, client)
        raise RpcRefused(INTERNAL_ERROR, "The target asks for input again and again.")

    async def _answered(self, message: Incoming, client: Client) -> Json:
        asked = Message(method=message.method, params=message.params, id=message.id)
        return await self._edge.gateways.answer(self._visit.request(), self._door, client, asked)

    async def _discover(self) -> Json:
        served = [each for each in self._visit.supported if each in MODERN]
        found: Json = {
            "supportedVersions": served,
            "capabilities": await self._edge.gateways.capabilities(self._door),
        }
        if self._door.instructions:
            found["instructions"] = self._door.instructions
        return found

    async def _initialize(self, message: Incoming) -> bytes:
        params, legacy = message.params, self._legacy_versions()
        wanted = params.get("protocolVersion")
        capabilities, info = params.get("capabilities", {}), params.get("clientInfo", {})
        if type(wanted) is not str or type(capabilities) is not dict or type(info) is not dict:
            text = "initialize needs protocolVersion, capabilities and clientInfo."
            raise Refused(400, INVALID_PARAMS, text)
        if len(msgspec.json.encode([capabilities, info])) > CLIENT_BYTES_MAX:
            text = f"What a client says of itself must not exceed {CLIENT_BYTES_MAX} bytes."
            raise Refused(400, INVALID_PARAMS, text)
        if not legacy:
            data = {"supported": list(self._visit.supported), "requested": wanted[:64]}
            raise Refused(
                400, VERSION_UNSUPPORTED, "This gateway has no sessions; see server/discover.",
                data=data,
            )  # fmt: skip
        version = wanted if wanted in legacy else legacy[0]
        session = await self._edge.sessions.begin(
            self._door, self._visit.caller, version=version, capabilities=capabilities, info=info
        )
        self._answer.headers.append((b"mcp-session-id", session.id.encode("ascii")))
        result: Json = {
            "protocolVersion": version,
            "capabilities": await self._edge.gateways.capabilities(self._door),
            "serverInfo": self._server(),
        }
        if self._door.instructions:
            result["instructions"] = self._door.instructions
        return result_message(message.id, result)

    async def _set_level(self, message: Incoming) -> Json:
        level = message.params.get("level")
        if level not in LEVELS:
            raise RpcRefused(INVALID_PARAMS, f"level must be one of {', '.join(LEVELS)}.")
        if self._session is not None:
            await self._edge.sessions.set_log_level(self._session, level)
        return {}

    def _client(self, *, silent: bool = False) -> Client:
        declared, session = self._modern, self._session
        can_send = self._visit.accepts.events and self._door.streaming and not silent
        begin = self._begin if can_send else None
        if declared is not None:
            talk = ClientTalk(begin, log_level=declared.log_level, logs_unasked=False)
            return Client(
                era="modern", version=declared.version, talk=talk,
                capabilities=declared.capabilities, info=declared.info,
                log_level=declared.log_level,
            )  # fmt: skip
        if session is None:
            era_talk = ClientTalk(begin, log_level="", logs_unasked=True)
            return Client(era="legacy", version=self._version, talk=era_talk)
        talk = ClientTalk(
            begin, log_level=session.log_level, logs_unasked=True, session=session,
            questions=self._edge.underway.questions,
        )  # fmt: skip
        return Client(
            era="legacy", version=session.version, talk=talk, session=session.id,
            capabilities=session.capabilities, info=session.info, log_level=session.log_level,
        )  # fmt: skip

    def _server(self) -> Json:
        return {"name": self._door.name, "version": __version__}

    def _legacy_versions(self) -> list[str]:
        return [each for each in LEGACY if each in self._visit.supported]

    async def _begin(self) -> Stream | None:
        if self._answer.stream is not None:
            return self._answer.stream
        session = self._session.id if self._session is not None else ""
        primed = self._version >= RESUMES_FROM
        keeping = self._edge.underway.keeping
        stream = await self._answer.streaming(session, primed=primed, keeping=keeping)
        if stream is not None and session:
            self._edge.underway.keep(stream)
        return stream

    @asynccontextmanager
    async def _interruptible(self, message: Incoming | None = None) -> AsyncIterator[None]:
        """While it lasts, the client may leave, or cancel the message by its id."""
        session, id = self._session, message.id if message is not None else None
        attending = asyncio.get_running_loop().call_later(_ATTENDED_AFTER_SECONDS, self._attend)
        try:
            async with self._stop:
                if session is not None and id is not None:
                    self._edge.underway.call_begins(session.id, id, self._stop)
                yield
        finally:
            attending.cancel()
            if self._watching is not None:
                self._watching.cancel()
            if session is not None and id is not None:
                self._edge.underway.call_ends(session.id, id, self._stop)

    def _attend(self) -> None:
        if self._visit.accepts.events and self._door.streaming:
            self._answer.keep_alive(self._begin)
        self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        """The call ends with its client; one that has begun to stream waits for it to come back,
        where there is a session that it can come back to."""
        await self._answer.inbound.disconnected()
        stream = self._answer.stream
        if stream is not None and stream.session:
            stream.detach(self._answer.sink)
            await stream.abandoned(self._edge.underway.grace_seconds)
        self._stop.interrupt("left")
