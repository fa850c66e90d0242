"""An MCP server of both eras with all that the official conformance suite asks for, by the SDK.

`python tests/mcp_everything.py PORT` serves it at http://127.0.0.1:PORT/mcp. Its names and texts
are those that @modelcontextprotocol/conformance documents, scenario by scenario.
"""

import asyncio
import base64
import json
import sys
import warnings
from collections.abc import Mapping
from typing import Annotated, Any

import mcp_types as types
import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.shared.exceptions import MCPError
from pydantic import Field
from starlette.applications import Starlette

MODERN = "2026-07-28"
MISSING_CAPABILITY = -32021
STEP_SECONDS = 0.05  # between what is said during a call, as the suite wants it

# A pixel, and silence.
PNG = base64.b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c02"
        "0000000b4944415478da6364f80f00010501012718e3660000000049454e44ae426082"
    )
).decode()
WAV = base64.b64encode(
    b"RIFF\x26\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x80\x3e\x00\x00"
    b"\x02\x00\x10\x00data\x02\x00\x00\x00\x00\x00"
).decode()

SCHEMA_2020_12: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}

Asked = str | types.InputRequiredResult


class Replays(EventStore):
    def __init__(self) -> None:
        self._events: list[tuple[str, types.JSONRPCMessage | None]] = []

    async def store_event(self, stream_id: str, message: types.JSONRPCMessage | None) -> str:
        self._events.append((stream_id, message))
        return str(len(self._events) - 1)

    async def replay_events_after(
        self, last_event_id: str, send_callback: EventCallback
    ) -> str | None:
        stream = self._events[int(last_event_id)][0]
        for number, (of, message) in list(enumerate(self._events))[int(last_event_id) + 1 :]:
            if of == stream and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream


def everything() -> MCPServer:
    mcp = MCPServer("everything", version="1.0.0", instructions="For conformance tests.")
    _contents(mcp)
    _talking(mcp)
    _questions(mcp)
    _inputs(mcp)
    _resources(mcp)
    _prompts(mcp)
    _methods(mcp)
    return mcp


def app(mcp: MCPServer) -> Starlette:
    return mcp.streamable_http_app(event_store=Replays(), retry_interval=100)


def _embedded(uri: str, mime_type: str, text: str) -> types.EmbeddedResource:
    found = types.TextResourceContents(uri=uri, mime_type=mime_type, text=text)
    return types.EmbeddedResource(resource=found)


def _contents(mcp: MCPServer) -> None:
    @mcp.tool()
    def test_simple_text() -> str:
        """A text."""
        return "This is a simple text response for testing."

    @mcp.tool()
    def test_image_content() -> list[types.ImageContent]:
        """An image."""
        return [types.ImageContent(data=PNG, mime_type="image/png")]

    @mcp.tool()
    def test_audio_content() -> list[types.AudioContent]:
        """A sound."""
        return [types.AudioContent(data=WAV, mime_type="audio/wav")]

    @mcp.tool()
    def test_embedded_resource() -> list[types.EmbeddedResource]:
        """A resource."""
        text = "This is an embedded resource content."
        return [_embedded("test://embedded-resource", "text/plain", text)]

    @mcp.tool()
    def test_multiple_content_types() -> list[types.ContentBlock]:
        """A text, an image and a resource."""
        data = json.dumps({"test": "data", "value": 123})
        return [
            types.TextContent(text="Multiple content types test:"),
            types.ImageContent(data=PNG, mime_type="image/png"),
            _embedded("test://mixed-content-resource", "application/json", data),
        ]

    @mcp.tool()
    def test_error_handling() -> str:
        """Fails."""
        raise ValueError("This tool intentionally returns an error for testing")

    @mcp.tool()
    def test_custom_headers(
        region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})],
    ) -> str:
        """Has an argument that goes as a header too."""
        return region

    @mcp.tool()
    def json_schema_2020_12_tool(name: str = "") -> str:
        """Has a schema with what JSON Schema 2020-12 brought."""
        return name

    shown = mcp._tool_manager.get_tool("json_schema_2020_12_tool")
    assert shown is not None
    shown.parameters = SCHEMA_2020_12


def _talking(mcp: MCPServer) -> None:
    @mcp.tool()
    async def test_tool_with_logging(ctx: Context) -> str:
        """Says something three times."""
        for text in ("started", "processing data", "completed"):
            await _log(ctx, f"Tool {text}" if text[0] == "p" else f"Tool execution {text}")
            await asyncio.sleep(STEP_SECONDS)
        return "Logged."

    @mcp.tool()
    async def test_logging_tool(ctx: Context) -> str:
        """Says something."""
        await _log(ctx, "A line.")
        return "Logged."

    @mcp.tool()
    async def test_tool_with_progress(ctx: Context) -> str:
        """Gets on."""
        for progress in (0, 50, 100):
            await ctx.report_progress(progress, 100)
            await asyncio.sleep(STEP_SECONDS)
        return "Done."

    @mcp.tool()
    async def test_reconnection(ctx: Context) -> str:
        """Ends its stream before it answers."""
        await ctx.close_sse_stream()
        await asyncio.sleep(2 * STEP_SECONDS)
        return "Reconnected."

    @mcp.tool()
    async def test_trigger_tool_change(ctx: Context) -> str:
        """Says that the list of tools is another one."""
        await ctx.notify_tools_changed()
        return "Told."

    @mcp.tool()
    async def test_trigger_prompt_change(ctx: Context) -> str:
        """Says that the list of prompts is another one."""
        await ctx.notify_prompts_changed()
        return "Told."


async def _log(ctx: Context, text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and part of the suite
        await ctx.info(text)


def _questions(mcp: MCPServer) -> None:
    """What a server of the era with sessions asks while it works."""

    async def elicited(ctx: Context, message: str, properties: dict[str, Any], *need: str) -> str:
        schema = {"type": "object", "properties": properties, "required": list(need)}
        answer = await ctx.session.elicit_form(message, schema, ctx.request_id)
        return f"action={answer.action}, content={json.dumps(answer.content)}"

    @mcp.tool()
    async def test_sampling(prompt: str, ctx: Context) -> str:
        """Asks the client's model."""
        message = types.SamplingMessage(role="user", content=types.TextContent(text=prompt))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer = await ctx.session.create_message(
                [message], max_tokens=100, related_request_id=ctx.request_id
            )
        return f"LLM response: {getattr(answer.content, 'text', answer.content)}"

    @mcp.tool()
    async def test_elicitation(message: str, ctx: Context) -> str:
        """Asks the client's user."""
        username = {"type": "string", "description": "User's response"}
        email = {"type": "string", "description": "User's email address"}
        properties = {"username": username, "email": email}
        return f"User response: {await elicited(ctx, message, properties, 'username', 'email')}"

    @mcp.tool()
    async def test_elicitation_sep1034_defaults(ctx: Context) -> str:
        """Asks with a default of every type."""
        states = ["active", "inactive", "pending"]
        properties = {
            "name": {"type": "string", "default": "John Doe"},
            "age": {"type": "integer", "default": 30},
            "score": {"type": "number", "default": 95.5},
            "status": {"type": "string", "enum": states, "default": "active"},
            "verified": {"type": "boolean", "default": True},
        }
        return f"Elicitation completed: {await elicited(ctx, 'Who are you?', properties)}"

    @mcp.tool()
    async def test_elicitation_sep1330_enums(ctx: Context) -> str:
        """Asks for choices of every form."""
        options = ["option1", "option2", "option3"]
        titled = [{"const": f"value{n}", "title": f"Choice {n}"} for n in (1, 2, 3)]
        properties = {
            "untitledSingle": {"type": "string", "enum": options},
            "titledSingle": {"type": "string", "oneOf": titled},
            "legacyEnum": {"type": "string", "enum": options, "enumNames": ["One", "Two", "Three"]},
            "untitledMulti": {"type": "array", "items": {"type": "string", "enum": options}},
            "titledMulti": {"type": "array", "items": {"anyOf": titled}},
        }
        return f"Elicitation completed: {await elicited(ctx, 'Which?', properties)}"


def _form(message: str, name: str, kind: str = "string") -> types.ElicitRequest:
    schema = {"type": "object", "properties": {name: {"type": kind}}, "required": [name]}
    params = types.ElicitRequestFormParams(message=message, requested_schema=schema)
    return types.ElicitRequest(params=params)


def _sampling(text: str, max_tokens: int) -> types.CreateMessageRequest:
    message = types.SamplingMessage(role="user", content=types.TextContent(text=text))
    params = types.CreateMessageRequestParams(messages=[message], max_tokens=max_tokens)
    return types.CreateMessageRequest(params=params)


def _roots() -> types.ListRootsRequest:
    return types.ListRootsRequest(params=types.RequestParams())


def _needs(requests: Mapping[str, Any], state: str | None = None) -> types.InputRequiredResult:
    return types.InputRequiredResult(input_requests=dict(requests), request_state=state)


def _given(ctx: Context, *keys: str) -> list[Any] | None:
    """The answers to all of these, or None while one is missing or is none."""
    responses = ctx.input_responses or {}
    if any(key not in responses for key in keys):
        return None
    answers = [responses[key] for key in keys]
    forms = [answer for answer in answers if isinstance(answer, types.ElicitResult)]
    return answers if all(form.action != "accept" or form.content for form in forms) else None


def _inputs(mcp: MCPServer) -> None:
    """What a server of the era without sessions answers first."""

    @mcp.tool()
    def test_input_required_result_elicitation(ctx: Context) -> Asked:
        """Needs a name."""
        answers = _given(ctx, "user_name")
        if answers is None or not isinstance(answers[0], types.ElicitResult):
            return _needs({"user_name": _form("What is your name?", "name")})
        return f"Hello, {(answers[0].content or {}).get('name')}!"

    @mcp.tool()
    def test_streaming_elicitation(ctx: Context) -> Asked:
        """Needs a name too."""
        return test_input_required_result_elicitation(ctx)

    @mcp.tool()
    def test_input_required_result_sampling(ctx: Context) -> Asked:
        """Needs a model."""
        answers = _given(ctx, "capital_question")
        if answers is None:
            question = _sampling("What is the capital of France?", 100)
            return _needs({"capital_question": question})
        return str(getattr(answers[0].content, "text", answers[0].content))

    @mcp.tool()
    def test_input_required_result_list_roots(ctx: Context) -> Asked:
        """Needs the client's roots."""
        answers = _given(ctx, "client_roots")
        if answers is None:
            return _needs({"client_roots": _roots()})
        return ", ".join(str(root.uri) for root in answers[0].roots)

    @mcp.tool()
    def test_input_required_result_request_state(ctx: Context) -> Asked:
        """Gives a state, and wants it back."""
        if _given(ctx, "confirm") is None or ctx.request_state != "asked":
            return _needs({"confirm": _form("Please confirm", "ok", "boolean")}, "asked")
        return "state-ok"

    @mcp.tool()
    def test_input_required_result_tampered_state(ctx: Context) -> Asked:
        """Takes back only the state that it gave: the SDK seals it."""
        return test_input_required_result_request_state(ctx)

    @mcp.tool()
    def test_input_required_result_multiple_inputs(ctx: Context) -> Asked:
        """Needs three things at once."""
        keys = ("user_name", "greeting", "client_roots")
        if _given(ctx, *keys) is None:
            asked = (_form("What is your name?", "name"), _sampling("Generate a greeting", 50))
            return _needs(dict(zip(keys, (*asked, _roots()), strict=True)), "asked")
        return "All given."

    @mcp.tool()
    def test_input_required_result_multi_round(ctx: Context) -> Asked:
        """Needs one thing after the other."""
        if _given(ctx, "step2") is not None and ctx.request_state == "second":
            return "Both given."
        if _given(ctx, "step1") is not None and ctx.request_state == "first":
            question = _form("Step 2: What is your favorite color?", "color")
            return _needs({"step2": question}, "second")
        return _needs({"step1": _form("Step 1: What is your name?", "name")}, "first")

    @mcp.tool()
    def test_input_required_result_capabilities(ctx: Context) -> Asked:
        """Needs only what the client can give."""
        declared = ctx.client_capabilities
        asked: dict[str, Any] = {}
        if declared is not None and declared.elicitation is not None:
            asked["user_name"] = _form("What is your name?", "name")
        if declared is not None and declared.sampling is not None:
            asked["greeting"] = _sampling("Generate a greeting", 50)
        return _needs(asked) if asked and _given(ctx, *asked) is None else "Nothing needed."

    @mcp.tool()
    def test_missing_capability(ctx: Context) -> str:
        """Is of no use to a client without a model."""
        declared = ctx.client_capabilities
        if declared is None or declared.sampling is None:
            data = {"requiredCapabilities": {"sampling": {}}}
            raise MCPError(MISSING_CAPABILITY, "The client must be able to sample.", data)
        return "It is."


def _resources(mcp: MCPServer) -> None:
    @mcp.resource("test://static-text", mime_type="text/plain")
    def static_text() -> str:
        """A text."""
        return "This is the content of the static text resource."

    @mcp.resource("test://static-binary", mime_type="image/png")
    def static_binary() -> bytes:
        """An image."""
        return base64.b64decode(PNG)

    @mcp.resource("test://watched-resource", mime_type="text/plain")
    def watched_resource() -> str:
        """Something to subscribe to."""
        return "Watched."

    @mcp.resource("test://template/{id}/data", mime_type="application/json")
    def template_data(id: str) -> str:
        """By its id."""
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


def _prompts(mcp: MCPServer) -> None:
    @mcp.prompt()
    def test_simple_prompt() -> str:
        """A sentence."""
        return "This is a simple prompt for testing."

    @mcp.prompt()
    def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        """Two arguments."""
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @mcp.prompt()
    def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:
        """A resource, by its URI."""
        text = "Embedded resource content for testing."
        return [
            UserMessage(_embedded(resourceUri, "text/plain", text)),
            UserMessage("Please process the embedded resource above."),
        ]

    @mcp.prompt()
    def test_prompt_with_image() -> list[UserMessage]:
        """An image."""
        return [
            UserMessage(types.ImageContent(data=PNG, mime_type="image/png")),
            UserMessage("Please analyze the image above."),
        ]

    @mcp.prompt()
    def test_input_required_result_prompt(ctx: Context) -> Asked:
        """Needs to know more first."""
        answers = _given(ctx, "user_context")
        if answers is None:
            return _needs({"user_context": _form("What context should the prompt use?", "context")})
        return f"In the context of {(answers[0].content or {}).get('context')}."


def _methods(mcp: MCPServer) -> None:
    """What the SDK's high-level server leaves to its low-level one."""
    subscribed: set[str] = set()
    server = mcp._lowlevel_server

    async def subscribe(_: Any, params: types.SubscribeRequestParams) -> types.EmptyResult:
        subscribed.add(params.uri)
        return types.EmptyResult()

    async def unsubscribe(_: Any, params: types.UnsubscribeRequestParams) -> types.EmptyResult:
        subscribed.discard(params.uri)
        return types.EmptyResult()

    async def set_level(_: Any, params: types.SetLevelRequestParams) -> types.EmptyResult:
        return types.EmptyResult()

    server.add_request_handler("resources/subscribe", types.SubscribeRequestParams, subscribe)
    server.add_request_handler("resources/unsubscribe", types.UnsubscribeRequestParams, unsubscribe)
    server.add_request_handler("logging/setLevel", types.SetLevelRequestParams, set_level)

    @mcp.completion()
    async def complete(ref: Any, argument: Any, context: Any) -> types.Completion:
        values = [word for word in ("paris", "park", "party") if word.startswith(argument.value)]
        return types.Completion(values=values, total=len(values), has_more=False)


if __name__ == "__main__":
    uvicorn.run(app(everything()), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
