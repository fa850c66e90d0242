"""The arguments of a tool: parameters, choices of a server, and the body, each under its name."""

from typing import Any

from freehold.adapters.targets.openapi.naming import Names
from freehold.adapters.targets.openapi.payload import Payload, payload_of
from freehold.adapters.targets.openapi.plan import BodyPlan, ParameterPlan, VariablePlan
from freehold.adapters.targets.openapi.references import Node
from freehold.adapters.targets.openapi.schemas import Schemas
from freehold.adapters.targets.openapi.security import Security
from freehold.adapters.targets.openapi.servers import Server
from freehold.adapters.targets.openapi.versions import Body, Operation, Parameter
from freehold.ports.targets import Json

# What HTTP itself or the gateway says.
_OURS = frozenset(
    {
        "accept", "accept-encoding", "connection", "content-encoding", "content-length",
        "content-type", "cookie", "expect", "host", "keep-alive", "proxy-authorization",
        "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
_DESCRIPTION_MAX = 2000


class Arguments:
    """Made in the order path, query, header, cookie, body, server: the first keeps its name."""

    def __init__(self, schemas: Schemas, security: Security) -> None:
        self._schemas, self._security = schemas, security
        self._names = Names()
        self._properties: Json = {}
        self._required: list[str] = []
        self.parameters: list[ParameterPlan] = []
        self.variables: list[VariablePlan] = []
        self.body: BodyPlan | None = None
        self.notes: list[str] = []

    def schema(self) -> Json:
        found: Json = {"type": "object", "properties": self._properties}
        if self._required:
            found["required"] = self._required
        found["additionalProperties"] = False
        return found

    def take(self, operation: Operation, server: Server, in_path: list[str]) -> None:
        """Raises Unconvertible. `in_path`: the names between braces in the path."""
        declared = {p.name: p for p in operation.parameters if p.place == "path"}
        for name in dict.fromkeys(in_path):
            implied = Parameter(
                name=name, place="path", required=True, style="simple",
                schema=Node("", "", {"type": "string"}),
            )  # fmt: skip
            self._parameter(declared.get(name, implied))
        for place in ("query", "header", "cookie"):
            for parameter in operation.parameters:
                if parameter.place == place and not self._is_ours(parameter):
                    self._parameter(parameter)
        if operation.body is not None:
            self._take_body(operation.body)
        for choice in server.choices:
            argument = self._names.argument(choice.name, "server")
            about = choice.description or "A part of the server's address."
            self._properties[argument] = {
                "type": "string", "enum": list(choice.choices), "default": choice.default,
                "description": _short(about),
            }  # fmt: skip
            plan = VariablePlan(
                argument=argument, name=choice.name, default=choice.default, choices=choice.choices
            )
            self.variables.append(plan)

    def _is_ours(self, parameter: Parameter) -> bool:
        if self._security.is_credential(parameter.place, parameter.name):
            return True
        return parameter.place == "header" and parameter.name.lower() in _OURS

    def _parameter(self, parameter: Parameter) -> None:
        argument = self._names.argument(parameter.name, parameter.place)
        schema = self._schemas.converted(parameter.schema, "in")
        self._properties[argument] = _described(schema, parameter)
        if parameter.required:
            self._required.append(argument)
        self.parameters.append(
            ParameterPlan(
                argument=argument, name=parameter.name, place=parameter.place,
                style=parameter.style, explode=parameter.explode, reserved=parameter.reserved,
                media=parameter.media,
            )
        )  # fmt: skip

    def _take_body(self, body: Body) -> None:
        payload = payload_of(body, self._schemas)
        if payload is None:
            return
        if payload.note:
            self.notes.append(payload.note)
        members = payload.members
        wanted = {name: self._names.shortened(name) for name in members or ()}
        clear = len(set(wanted.values())) == len(wanted) and all(
            self._names.free(argument) for argument in wanted.values()
        )
        if members is None or not clear:
            self._whole(body, payload)
            return
        arguments = {name: self._names.argument(name, "body") for name in members}
        for name, argument in arguments.items():
            self._properties[argument] = members[name]
            if body.required and name in payload.required:
                self._required.append(argument)
        parts = {n: self._with_filename(arguments[n], p) for n, p in payload.parts.items()}
        self.body = BodyPlan(
            kind=payload.kind, media=payload.media, required=body.required,
            members={argument: name for name, argument in arguments.items()}, parts=parts,
        )  # fmt: skip

    def _with_filename(self, argument: str, part: Any) -> Any:
        several = self._properties[argument].get("type") == "array"
        if not part.binary or several or not self._names.free(f"{argument}_filename"):
            return part
        filename = self._names.argument(f"{argument}_filename", "body")
        self._properties[filename] = {
            "type": "string", "description": f"The name of the file that {argument} is."
        }  # fmt: skip
        return type(part)(media=part.media, binary=True, filename=filename)

    def _whole(self, body: Body, payload: Payload) -> None:
        argument = self._names.argument("body", "request")
        schema = payload.whole
        if body.description and isinstance(schema, dict) and "description" not in schema:
            schema = {**schema, "description": _short(body.description)}
        self._properties[argument] = schema
        if body.required:
            self._required.append(argument)
        self.body = BodyPlan(
            kind=payload.kind, media=payload.media, required=body.required, argument=argument,
            parts=payload.parts,
        )  # fmt: skip


def _described(schema: Any, parameter: Parameter) -> Any:
    if not isinstance(schema, dict):
        return schema
    more: Json = {}
    if parameter.description:
        more["description"] = _short(parameter.description)
    if parameter.deprecated:
        more["deprecated"] = True
    if parameter.example is not None and "examples" not in schema:
        more["examples"] = [parameter.example]
    return {**schema, **more}


def _short(text: str) -> str:
    return text if len(text) <= _DESCRIPTION_MAX else text[:_DESCRIPTION_MAX] + " [...]"
