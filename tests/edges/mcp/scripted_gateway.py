"""A gateway of one script: the things that MCP's conformance suite wants to find, and some more.

It stands for the service: what the edge is asked to pass on, it answers as MCP servers do.
"""

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator
from typing import Any

from freehold.kernel.request import Request
from freehold.ports.mcp import Client, Door, Message
from freehold.ports.targets import CannotAsk, RpcRefused
from freehold.services.gateway import param_headers

Json = dict[str, Any]
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5E"
    "rkJggg=="
)
SOUND = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAAAAA=="
CAPABILITIES: Json = {
    "tools": {"listChanged": True},
    "resources": {"subscribe": True, "listChanged": True},
    "prompts": {"listChanged": True},
    "completions": {},
    "logging": {},
}


def text(said: str, **more: Any) -> Json:
    return {"content": [{"type": "text", "text": said}], **more}


def form(message: str, properties: Json) -> Json:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {
        "method": "elicitation/create",
        "params": {"message": message, "requestedSchema": schema},
    }


def sampling(prompt: str, tokens: int = 100) -> Json:
    message = {"role": "user", "content": {"type": "text", "text": prompt}}
    return {
        "method": "sampling/createMessage",
        "params": {"messages": [message], "maxTokens": tokens},
    }


NAME = {"name": {"type": "string"}}
ROOTS: Json = {"method": "roots/list", "params": {}}
SEP_2020: Json = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {"address": {"$anchor": "addressDef", "type": "object", "properties": {
        "street": {"type": "string"}, "city": {"type": "string"}}}},
    "properties": {"name": {"type": "string"}, "address": {"$ref": "#/$defs/address"},
                   "contactMethod": {"type": "string", "enum": ["phone", "email"]},
                   "phone": {"type": "string"}, "email": {"type": "string"}},
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]}, "else": {"required": ["email"]},
    "additionalProperties": False,
}  # fmt: skip
EMPTY: Json = {"type": "object", "properties": {}}
_PLAIN = (
    "test_simple_text", "test_image_content", "test_audio_content", "test_embedded_resource",
    "test_multiple_content_types", "test_tool_with_logging", "test_logging_tool",
    "test_error_handling", "test_tool_with_progress", "test_elicitation_sep1034_defaults",
    "test_elicitation_sep1330_enums", "test_missing_capability", "test_streaming_elicitation",
    "test_trigger_tool_change", "test_trigger_prompt_change",
    "test_input_required_result_elicitation", "test_input_required_result_sampling",
    "test_input_required_result_list_roots", "test_input_required_result_request_state",
    "test_input_required_result_multiple_inputs", "test_input_required_result_multi_round",
    "test_input_required_result_tampered_state", "test_input_required_result_capabilities",
    "wait", "whoami",
)  # fmt: skip
TOOLS: dict[str, Json] = {
    **dict.fromkeys(
        _PLAIN,
        EMPTY,
    ),
    "test_sampling": {"type": "object", "properties": {"prompt": {"type": "string"}}},
    "test_elicitation": {"type": "object", "properties": {"message": {"type": "string"}}},
    "test_x_mcp_header": {
        "type": "object",
        "properties": {"region": {"type": "string", "x-mcp-header": "Region"}},
        "required": ["region"],
    },
    "json_schema_2020_12_tool": SEP_2020,
    "echo": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
}
ENUMS = {
    "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
    "titledSingle": {"type": "string", "oneOf": [
        {"const": "value1", "title": "First Option"}, {"const": "value2", "title": "Second"},
        {"const": "value3", "title": "Third Option"}]},
    "legacyEnum": {"type": "string", "enum": ["opt1", "opt2", "opt3"],
                   "enumNames": ["Option One", "Option Two", "Option Three"]},
    "untitledMulti": {"type": "array", "items": {
        "type": "string", "enum": ["option1", "option2", "option3"]}},
    "titledMulti": {"type": "array", "items": {"anyOf": [
        {"const": "value1", "title": "First Choice"}, {"const": "value2", "title": "Second"},
        {"const": "value3", "title": "Third Choice"}]}},
}  # fmt: skip
DEFAULTS = {
    "name": {"type": "string", "default": "John Doe"},
    "age": {"type": "integer", "default": 30},
    "score": {"type": "number", "default": 95.5},
    "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
    "verified": {"type": "boolean", "default": True},
}
FIXED: dict[str, Json] = {
    "test_simple_text": text("This is a simple text response for testing."),
    "test_error_handling": text(
        "This tool intentionally returns an error for testing", isError=True
    ),
    "test_image_content": {"content": [{"type": "image", "data": PIXEL, "mimeType": "image/png"}]},
    "test_audio_content": {"content": [{"type": "audio", "data": SOUND, "mimeType": "audio/wav"}]},
    "test_embedded_resource": {"content": [{"type": "resource", "resource": {
        "uri": "test://embedded-resource", "mimeType": "text/plain",
        "text": "This is an embedded resource content."}}]},
    "test_multiple_content_types": {"content": [
        {"type": "text", "text": "Multiple content types test:"},
        {"type": "image", "data": PIXEL, "mimeType": "image/png"},
        {"type": "resource", "resource": {
            "uri": "test://mixed-content-resource", "mimeType": "application/json",
            "text": '{"test":"data","value":123}'}}]},
}  # fmt: skip
RESOURCES: dict[str, Json] = {
    "test://static-text": {
        "mimeType": "text/plain", "text": "This is the content of the static text resource."},
    "test://static-binary": {"mimeType": "image/png", "blob": PIXEL},
    "test://watched-resource": {"mimeType": "text/plain", "text": "Watched."},
}  # fmt: skip
PROMPTS: dict[str, list[str]] = {
    "test_simple_prompt": [],
    "test_prompt_with_arguments": ["arg1", "arg2"],
    "test_prompt_with_embedded_resource": ["resourceUri"],
    "test_prompt_with_image": [],
    "test_input_required_result_prompt": [],
}


class ScriptedGateway:
    """Implements `ports.mcp.Gateways`. `doors` by id; what came stands in `heard`."""

    def __init__(self, *doors: Door) -> None:
        self.doors = {door.gateway_id: door for door in doors}
        self.heard: list[Message] = []
        self.clients: list[Client] = []
        self.requests: list[Request] = []
        self.cancelled = asyncio.Event()
        self.waiting = asyncio.Event()
        self.go_on = asyncio.Event()
        self.watched: list[tuple[str, ...]] = []
        self.failure: Exception | None = None
        self._listening: set[asyncio.Queue[Json]] = set()

    async def door(self, gateway_id: str) -> Door | None:
        return self.doors.get(gateway_id)

    async def capabilities(self, door: Door) -> Json:
        return CAPABILITIES

    async def tell(self, request: Request, door: Door, client: Client, message: Message) -> None:
        self.heard.append(message)

    def change(self, method: str, **params: Any) -> None:
        for queue in self._listening:
            queue.put_nowait({"method": method, "params": params})

    @property
    def listeners(self) -> int:
        return len(self._listening)

    async def changes(
        self, request: Request, door: Door, client: Client, uris: tuple[str, ...] = ()
    ) -> AsyncIterator[Json]:
        queue: asyncio.Queue[Json] = asyncio.Queue()
        self._listening.add(queue)
        self.watched.append(uris)
        try:
            while True:
                yield await queue.get()
        finally:
            self._listening.discard(queue)

    async def answer(self, request: Request, door: Door, client: Client, message: Message) -> Json:
        self.heard.append(message)
        self.clients.append(client)
        self.requests.append(request)
        if self.failure is not None:
            raise self.failure
        params = message.params
        match message.method:
            case "tools/list":
                tools = [
                    {"name": name, "description": name, "inputSchema": schema}
                    for name, schema in TOOLS.items()
                ]
                return {"tools": tools}
            case "tools/call":
                return await self._call(request, client, params)
            case "resources/list":
                return {"resources": [
                    {"uri": uri, "name": uri, "description": uri} for uri in RESOURCES
                ]}  # fmt: skip
            case "resources/templates/list":
                template = "test://template/{id}/data"
                return {"resourceTemplates": [{"uriTemplate": template, "name": "template"}]}
            case "resources/read":
                return self._read(params["uri"])
            case "resources/subscribe" | "resources/unsubscribe":
                return {}
            case "prompts/list":
                return {"prompts": [
                    {"name": name, "description": name,
                     "arguments": [{"name": each, "required": True} for each in arguments]}
                    for name, arguments in PROMPTS.items()
                ]}  # fmt: skip
            case "prompts/get":
                return self._prompt(params)
            case "completion/complete":
                return {"completion": {"values": ["paris", "park"], "total": 2, "hasMore": False}}
        raise RpcRefused(-32601, f"there is no method {message.method}")

    def _read(self, uri: str) -> Json:
        if uri.startswith("test://template/"):
            id = uri.removeprefix("test://template/").removesuffix("/data")
            said = f'{{"id":"{id}","templateTest":true,"data":"Data for ID: {id}"}}'
            return {"contents": [{"uri": uri, "mimeType": "application/json", "text": said}]}
        if uri not in RESOURCES:
            raise RpcRefused(-32602, "there is no such resource", {"uri": uri})
        return {"contents": [{"uri": uri, **RESOURCES[uri]}]}

    def _prompt(self, params: Json) -> Json:
        name, given = params["name"], params.get("arguments") or {}
        said = "This is a simple prompt for testing."
        content: list[Json] = []
        if name == "test_prompt_with_arguments":
            said = f"Prompt with arguments: arg1='{given['arg1']}', arg2='{given['arg2']}'"
        elif name == "test_prompt_with_image":
            content = [{"type": "image", "data": PIXEL, "mimeType": "image/png"}]
            said = "Please analyze the image above."
        elif name == "test_prompt_with_embedded_resource":
            content = [{"type": "resource", "resource": {
                "uri": given["resourceUri"], "mimeType": "text/plain",
                "text": "Embedded resource content for testing."}}]  # fmt: skip
            said = "Please process the embedded resource above."
        elif name == "test_input_required_result_prompt":
            answers = params.get("inputResponses") or {}
            if "user_context" not in answers:
                asked = form("What context should the prompt use?", {"context": {"type": "string"}})
                return _ask(user_context=asked)
            said = f"In the context of {answers['user_context'].get('content')}"
        elif name not in PROMPTS:
            raise RpcRefused(-32602, "there is no such prompt")
        content.append({"type": "text", "text": said})
        return {"messages": [{"role": "user", "content": each} for each in content]}

    async def _call(self, request: Request, client: Client, params: Json) -> Json:
        name, given = params.get("name"), params.get("arguments") or {}
        if name in FIXED:
            return FIXED[name]
        if name == "echo":
            return text(given["text"])
        if name == "whoami":
            return text(f"{request.caller.kind} {request.caller.principal}")
        if name == "test_x_mcp_header":
            wrong = param_headers.mismatch(
                param_headers.declared(TOOLS[name]), given, request.headers
            )
            if wrong is not None:
                raise RpcRefused(param_headers.HEADER_MISMATCH, wrong)
            return text(given["region"])
        if name in ("test_trigger_tool_change", "test_trigger_prompt_change"):
            what = name.removeprefix("test_trigger_").removesuffix("_change")
            self.change(f"notifications/{what}s/list_changed")
            return text("changed")
        if name == "wait":
            return await self._wait()
        if isinstance(name, str) and name.startswith("test_input_required_result_"):
            return _input_required(name, client, params)
        if name in TOOLS:
            return await self._talk(name, client, params)
        raise RpcRefused(-32602, f"Unknown tool: {name}")

    async def _wait(self) -> Json:
        self.waiting.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return text("waited")

    async def _talk(self, name: str, client: Client, params: Json) -> Json:
        given, talk = params.get("arguments") or {}, client.talk
        if name in ("test_tool_with_logging", "test_logging_tool"):
            for each in ("started", "processing data", "completed"):
                said = {"level": "info", "data": f"Tool execution {each}"}
                await talk.notify("notifications/message", said)
                await asyncio.sleep(0.02)
            return text("logged")
        if name == "test_tool_with_progress":
            token = (params.get("_meta") or {}).get("progressToken")
            for progress in (0, 50, 100):
                if token is not None:
                    step = {"progressToken": token, "progress": progress, "total": 100}
                    await talk.notify("notifications/progress", step)
                await asyncio.sleep(0.02)
            return text(str(token))
        if name == "test_missing_capability":
            if "sampling" not in client.capabilities:
                missing = {"requiredCapabilities": {"sampling": {}}}
                raise RpcRefused(-32021, "this needs sampling", missing)
            return text("sampled")
        if name == "test_streaming_elicitation":
            return _ask(user_name=form("What is your name?", NAME))
        if name == "test_sampling":
            asked = sampling(given["prompt"])
        elif name == "test_elicitation":
            properties = {"username": {"type": "string"}, "email": {"type": "string"}}
            asked = form(given["message"], properties)
        elif name == "test_elicitation_sep1034_defaults":
            asked = form("Defaults", DEFAULTS)
            asked["params"]["requestedSchema"]["required"] = []
        else:
            asked = form("Enums", ENUMS)
        try:
            answer = await talk.ask(asked["method"], asked["params"])
        except CannotAsk as error:
            return text(f"cannot ask: {error}", isError=True)
        if name == "test_sampling":
            return text(f"LLM response: {answer['content']['text']}")
        said = f"action={answer['action']}, content={answer.get('content')}"
        return text(f"User response: {said}" if name == "test_elicitation" else f"Done: {said}")


def _ask(state: str | None = None, **requests: Json) -> Json:
    asked: Json = {"resultType": "input_required", "inputRequests": requests}
    return asked if state is None else {**asked, "requestState": state}


def _state(what: str) -> str:
    return f"{what}.{hmac.new(b'script', what.encode(), hashlib.sha256).hexdigest()}"


def _checked(state: Any) -> str:
    what = str(state).partition(".")[0]
    if state != _state(what):
        raise RpcRefused(-32602, "requestState is not ours")
    return what


def _input_required(name: str, client: Client, params: Json) -> Json:
    kind = name.removeprefix("test_input_required_result_")
    raw = params.get("inputResponses")
    given: Json = raw if isinstance(raw, dict) else {}
    what = form("What is your name?", NAME)
    confirm = form("Please confirm", {"ok": {"type": "boolean"}})
    match kind:
        case "elicitation":
            answer = given.get("user_name")
            content = answer.get("content") if isinstance(answer, dict) else None
            if not isinstance(content, dict):
                return _ask(user_name=what)
            return text(f"Hello, {content.get('name')}!")
        case "sampling":
            if "capital_question" not in given:
                return _ask(capital_question=sampling("What is the capital of France?"))
            return text(given["capital_question"]["content"]["text"])
        case "list_roots":
            if "client_roots" not in given:
                return _ask(client_roots=ROOTS)
            return text(" ".join(root["uri"] for root in given["client_roots"]["roots"]))
        case "request_state" | "tampered_state":
            if "requestState" not in params:
                return _ask(_state("one"), confirm=confirm)
            _checked(params["requestState"])
            return text("state-ok")
        case "multiple_inputs":
            if not {"user_name", "greeting", "client_roots"} <= given.keys():
                asked = sampling("Generate a greeting", 50)
                return _ask(_state("one"), user_name=what, greeting=asked, client_roots=ROOTS)
            return text("all there")
        case "multi_round":
            if "requestState" not in params:
                return _ask(_state("one"), step1=form("Step 1: What is your name?", NAME))
            if _checked(params["requestState"]) == "one":
                color = form("Step 2: What is your favorite color?", {"color": {"type": "string"}})
                return _ask(_state("two"), step2=color)
            return text("both told")
    offered: Json = {}
    if "sampling" in client.capabilities:
        offered["sampled"] = sampling("Say something")
    if "elicitation" in client.capabilities:
        offered["told"] = what
    return _ask(**offered) if offered and not given else text("nothing to ask")
