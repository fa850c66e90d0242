"""Targets "mcp.lambda": a function, and the tools that its author says it has.

Source: AgentCore's developer guide, "AWS Lambda function targets". The event is the tool's
arguments; everything else is in `client_context.custom`.
"""

from typing import Any

import msgspec

from freehold.kernel.errors import (
    AccessDenied,
    FreeholdError,
    NotFound,
    Unavailable,
    ValidationFailed,
)
from freehold.ports.functions import FunctionFailed, Functions, Invoked
from freehold.ports.targets import (
    Definition,
    Described,
    Errand,
    Json,
    Place,
    Problem,
    TargetFailed,
)

_SEPARATOR = "___"
_SCHEMA_MEMBERS = ("type", "description", "properties", "required", "items")
_TYPES = frozenset({"string", "number", "object", "array", "boolean", "integer"})
_DEPTH_MAX = 64


class FunctionTargets:
    """`ports.targets.TargetClient`."""

    def __init__(self, functions: Functions) -> None:
        self._functions = functions

    async def describe(self, place: Place, errand: Errand) -> Described:
        definitions, problems = [], []
        taken: set[str] = set()
        for index, tool in enumerate(_tools(place.configuration)):
            where = f"/toolSchema/inlinePayload/{index}"
            try:
                definition, found = _definition(tool, where)
            except ValueError as error:
                problems.append(Problem(where=where, why=str(error)))
                continue
            if definition.name in taken:
                why = f"the name {definition.name!r} is taken by a tool before it: choose another"
                problems.append(Problem(where=where, why=why))
                continue
            taken.add(definition.name)
            definitions.append(definition)
            problems += found
        return Described(definitions=tuple(definitions), problems=tuple(problems))

    async def call(
        self, place: Place, definition: Definition, arguments: Json, errand: Errand
    ) -> Json:
        invoked = Invoked(
            tenant=place.tenant,
            arn=place.configuration["lambdaArn"],
            event=arguments,
            context=_context(place, definition, errand),
            request_id=errand.request_id,
            seconds_max=errand.seconds_max,
            role=place.role_arn,
        )
        try:
            value = await self._functions.invoke(invoked)
        except FunctionFailed as failed:
            return _failed(failed, errand.seconds_max)
        except (AccessDenied, NotFound, Unavailable, ValidationFailed) as error:
            raise _unreachable(error) from error
        return _result(value, definition)


def _tools(configuration: Json) -> list[Any]:
    schema = configuration.get("toolSchema") or {}
    tools = schema.get("inlinePayload")
    if isinstance(tools, str):  # as a document that came from S3
        try:
            tools = msgspec.json.decode(tools)
        except msgspec.DecodeError as error:
            raise ValidationFailed(f"toolSchema is no JSON: {error}") from None
    if not isinstance(tools, list):
        raise ValidationFailed("toolSchema is a list of tools: name, description, inputSchema")
    return tools


def _definition(tool: Any, where: str) -> tuple[Definition, list[Problem]]:
    """Raises ValueError: it cannot be a tool."""
    if not isinstance(tool, dict) or not isinstance(tool.get("name"), str) or not tool["name"]:
        raise ValueError("a tool is an object with a `name`")
    schema = _schema(tool.get("inputSchema"), "inputSchema")
    if schema["type"] != "object":
        raise ValueError("inputSchema: the arguments of a tool are an object")
    document: Json = {"name": tool["name"], "inputSchema": schema}
    if description := tool.get("description"):
        document["description"] = str(description)
    problems = []
    if tool.get("outputSchema") is not None:
        output = _schema(tool["outputSchema"], "outputSchema")
        if output["type"] == "object":
            document["outputSchema"] = output
        else:
            why = "MCP has outputs of type object alone: this one is text, without a schema"
            problems.append(Problem(where=f"{where}/outputSchema", why=why, skipped=False))
    return Definition(name=tool["name"], document=document), problems


def _schema(given: Any, where: str, depth: int = 0) -> Json:
    """AgentCore's SchemaDefinition as JSON Schema; what it has no word for is left out."""
    if not isinstance(given, dict) or given.get("type") not in _TYPES or depth > _DEPTH_MAX:
        raise ValueError(f"{where}: a schema is an object whose type is one of {sorted(_TYPES)}")
    schema = {member: given[member] for member in _SCHEMA_MEMBERS if given.get(member) is not None}
    if "properties" in schema:
        if not isinstance(schema["properties"], dict):
            raise ValueError(f"{where}/properties: an object of schemas")
        schema["properties"] = {
            name: _schema(each, f"{where}/properties/{name}", depth + 1)
            for name, each in schema["properties"].items()
        }
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(each, str) for each in required):
        raise ValueError(f"{where}/required: a list of names")
    if "items" in schema:
        schema["items"] = _schema(schema["items"], f"{where}/items", depth + 1)
    return schema


def _context(place: Place, definition: Definition, errand: Errand) -> Json:
    context: Json = {
        "bedrockAgentCoreMessageVersion": "1.0",
        "bedrockAgentCoreAwsRequestId": errand.request_id,
        "bedrockAgentCoreMcpMessageId": "" if errand.message_id is None else str(errand.message_id),
        "bedrockAgentCoreGatewayId": place.gateway_id,
        "bedrockAgentCoreTargetId": place.target_id,
        "bedrockAgentCoreToolName": f"{place.name}{_SEPARATOR}{definition.name}",
    }
    if errand.headers:
        context["bedrockAgentCorePropagatedHeaders"] = dict(errand.headers)
    if errand.query:
        context["bedrockAgentCorePropagatedQueryParameters"] = dict(errand.query)
    return context


def _result(value: Any, definition: Definition) -> Json:
    """The value as text of JSON; where the tool has an output schema, as what it is, too."""
    result: Json = {
        "content": [{"type": "text", "text": msgspec.json.encode(value).decode()}],
        "isError": False,
    }
    if isinstance(value, dict) and "outputSchema" in definition.document:
        result["structuredContent"] = value
    return result


def _failed(failed: FunctionFailed, seconds_max: float) -> Json:
    """What the function itself says, for a model to act on. Raises TargetFailed where it said
    nothing."""
    if failed.type == "Timeout":
        raise TargetFailed(
            f"The function did not answer in its time (at most {seconds_max:g} seconds).",
            timed_out=True,
        )
    if failed.unreached or failed.type == "Unreachable":
        raise TargetFailed(failed.message, retriable=failed.unreached)
    kind = f"{failed.type}: " if failed.type else ""
    text = f"The function failed: {kind}{failed.message}"
    return {"content": [{"type": "text", "text": text}], "isError": True}


def _unreachable(error: FreeholdError) -> TargetFailed:
    return TargetFailed(
        f"The function cannot be called: {error.message}",
        retriable=isinstance(error, Unavailable),
        unauthorized=isinstance(error, AccessDenied),
    )
