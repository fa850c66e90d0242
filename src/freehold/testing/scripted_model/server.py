"""The scripted model's HTTP server: every wire on one loopback port."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType

import msgspec
from aiohttp import web

from freehold.ports.models import ModelKind, ModelProvider
from freehold.testing.scripted_model.anthropic_wire import Messages
from freehold.testing.scripted_model.bedrock_wire import Converse, InvokeModel
from freehold.testing.scripted_model.gemini_wire import GenerateContent
from freehold.testing.scripted_model.mistral_wire import MistralChat
from freehold.testing.scripted_model.openai_wire import ChatCompletions, Responses
from freehold.testing.scripted_model.script import (
    DEFAULT_SCRIPT,
    MODEL_NAME,
    Answer,
    Script,
    answer,
)
from freehold.testing.scripted_model.wire import BadRequest, Document, Wire

BODY_BYTES_MAX = 32 << 20
REQUESTS_KEPT = 1000

_MISTRAL = "/mistral/v1"
# What a provider's own SDK takes for its base URL, after ours.
_BELOW = {ModelKind.OPENAI: "/v1", ModelKind.MISTRAL: _MISTRAL}
_WIRES: dict[str, Wire] = {
    "/chat/completions": ChatCompletions(),
    "/v1/chat/completions": ChatCompletions(),
    "/responses": Responses(),
    "/v1/responses": Responses(),
    "/v1/messages": Messages(),
    "/model/{model}/converse": Converse(stream=False),
    "/model/{model}/converse-stream": Converse(stream=True),
    "/model/{model}/invoke": InvokeModel(stream=False),
    "/model/{model}/invoke-with-response-stream": InvokeModel(stream=True),
    r"/{version:v1(?:alpha|beta)?}/models/{model}:generateContent": GenerateContent(stream=False),
    r"/{version:v1(?:alpha|beta)?}/models/{model}:streamGenerateContent": GenerateContent(
        stream=True
    ),
    f"{_MISTRAL}/chat/completions": MistralChat(),
}


class Received(msgspec.Struct, frozen=True):
    """A request as it came. `headers` have lower-case names."""

    path: str
    headers: dict[str, str]
    document: Document


class ScriptedModel:
    """`async with ScriptedModel(script) as model:` serves at `model.base_url` until the end.

    `base_url` suits every client: the OpenAI SDK's with or without `/v1`, Anthropic's, Bedrock's,
    Google's; Mistral's wire is below `/mistral`.
    `before_piece(n)` is awaited before the nth piece of a stream (from 0): a test holds a stream
    there. `requests` are the last thousand, `hang_ups` counts clients that left in mid-stream.
    """

    def __init__(
        self,
        script: Script = DEFAULT_SCRIPT,
        *,
        port: int = 0,
        before_piece: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:
        self._script = script
        self._port = port
        self._before_piece = before_piece or self._pace
        self._answers = 0
        self._runner: web.AppRunner | None = None
        self.requests: deque[Received] = deque(maxlen=REQUESTS_KEPT)
        self.hang_ups = 0
        self.hung_up = asyncio.Event()

    async def __aenter__(self) -> "ScriptedModel":
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        for path, wire in _WIRES.items():
            app.router.add_post(path, self._serve(wire))
        for path in ("/models", "/v1/models", "/v1beta/models", f"{_MISTRAL}/models"):
            app.router.add_get(path, self._models)
        # The handler of a stream whose client has left is cancelled at once.
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1)
        await runner.setup()
        self._runner = runner
        await web.TCPSite(runner, "127.0.0.1", self._port).start()
        self._port = runner.addresses[0][1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def providers(self, api_key: str = "freehold-scripted-no-key") -> dict[str, ModelProvider]:
        """Every wire, pointed at this model: what a platform without an account is given."""
        return {
            kind.value: ModelProvider(
                kind=kind,
                base_url=self.base_url + _BELOW.get(kind, ""),
                api_key=api_key,
                default_model=MODEL_NAME,
                region="us-east-1",
            )
            for kind in ModelKind
        }

    def _serve(self, wire: Wire) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                document = msgspec.json.decode(await request.read(), type=dict)
                self._remember(request, document)
                turn = wire.turn(document)
            except (msgspec.DecodeError, BadRequest) as error:
                return _json(wire.error(400, f"{MODEL_NAME}: {error}"), 400)
            self._answers += 1
            said = answer(self._script, turn, self._answers)
            if said.status >= 400:
                return _json(wire.error(said.status, said.text), said.status)
            if turn.stream:
                return await self._stream(request, wire, said, document)
            counts = {
                "x-amzn-bedrock-input-token-count": str(said.input_tokens),
                "x-amzn-bedrock-output-token-count": str(said.output_tokens),
            }
            return _json(wire.whole(said), 200, counts if isinstance(wire, InvokeModel) else {})

        return handle

    async def _stream(
        self, request: web.Request, wire: Wire, said: Answer, document: Document
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"x-freehold-scripted": "true"})
        response.content_type = wire.stream_content_type
        await response.prepare(request)
        pieces = 0
        try:
            for frame in wire.frames(said, document):
                if frame.piece:
                    await self._before_piece(pieces)
                    pieces += 1
                await response.write(frame.data)
            await response.write_eof()
        except (asyncio.CancelledError, ConnectionError):
            self.hang_ups += 1
            self.hung_up.set()
            raise
        return response

    async def _models(self, request: web.Request) -> web.Response:
        self._remember(request, {})
        model = {
            "id": MODEL_NAME,
            "object": "model",
            "type": "model",
            "display_name": "Freehold's scripted stand-in, not a model",
            "created": 1_700_000_000,
            "created_at": "2023-11-14T22:13:20Z",
            "owned_by": "freehold.testing",
        }
        googles = {"name": f"models/{MODEL_NAME}", "displayName": model["display_name"]}
        every = {"object": "list", "data": [model], "has_more": False, "models": [googles]}
        return _json(every, 200)

    async def _pace(self, piece: int) -> None:
        if piece and self._script.piece_delay_ms:
            await asyncio.sleep(self._script.piece_delay_ms / 1e3)

    def _remember(self, request: web.Request, document: Document) -> None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append(Received(request.raw_path, headers, document))


def _json(document: Document, status: int, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(document),
        status=status,
        content_type="application/json",
        headers={"x-freehold-scripted": "true", **(headers or {})},
    )
