"""The Cedar schema of a gateway, made from its tools' input schemas.

Cedar's JSON format, namespace `AgentCore`. Each tool is an action in the group of its target, which
is in `CallTool`, which is in `Mcp`. What an argument's schema leaves open cannot be spoken of.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import msgspec

from freehold.ports.enforcement import GovernedGateway, GovernedTool
from freehold.ports.policies import Uid
from freehold.services.policy.inputs import (
    InputType,
    LeftOut,
    RecordOf,
    Scalar,
    SetOf,
    input_type,
)
from freehold.services.policy.model import SCHEMA_BYTES_MAX

NAMESPACE = "AgentCore"
OAUTH_USER = f"{NAMESPACE}::OAuthUser"
IAM_ENTITY = f"{NAMESPACE}::IamEntity"
ANONYMOUS = f"{NAMESPACE}::Anonymous"
GATEWAY = f"{NAMESPACE}::Gateway"
ACTION = f"{NAMESPACE}::Action"

MCP = "Mcp"
CALL_TOOL = "CallTool"

_PRINCIPALS: Mapping[str, Sequence[str]] = {
    "CUSTOM_JWT": ("OAuthUser",),
    "AWS_IAM": ("IamEntity",),
    "AUTHENTICATE_ONLY": ("OAuthUser", "IamEntity"),
    "NONE": ("Anonymous",),
}


OWN_IDS = (OAUTH_USER, IAM_ENTITY, GATEWAY)
"""Types of entities whose attribute `id` is the entity's own id, in every request there is."""
SAME = {"context.system.now": "context.time"}
"""Paths whose value is always that of another, in every request there is."""


class SchemaTooLarge(ValueError):
    """Nothing can be decided for the gateway. The text is for people."""


class GatewaySchema(msgspec.Struct, frozen=True, kw_only=True, eq=False, weakref=True):
    """`document` is Cedar's; `version` a digest of it. `tools` and `inputs` have those that
    policies can speak of, by name. `left_out` says per tool what of it they cannot speak of."""

    document: Mapping[str, Any]
    version: str
    tools: Mapping[str, GovernedTool]
    inputs: Mapping[str, RecordOf]
    left_out: Mapping[str, Sequence[LeftOut]]
    principal_types: Sequence[str]

    def actions(self) -> Sequence[Uid]:
        return [Uid(ACTION, name) for name in self.tools]


_kept: WeakKeyDictionary[GovernedGateway, GatewaySchema] = WeakKeyDictionary()


def gateway_schema(gateway: GovernedGateway, extra: GovernedTool | None = None) -> GatewaySchema:
    """`extra` is a tool that is known at its call only, and then stands for any other of its name.
    Raises SchemaTooLarge."""
    if extra is not None:
        others = [tool for tool in gateway.tools if tool.name != extra.name]
        return _made(gateway.authorizer, [*others, extra])
    found = _kept.get(gateway)
    if found is None:
        found = _kept[gateway] = _made(gateway.authorizer, gateway.tools)
    return found


def restricted(schema: GatewaySchema, tools: Collection[str]) -> Mapping[str, Any]:
    """Cedar's schema with these tools only, and with all groups."""
    space = schema.document[NAMESPACE]
    actions = {
        name: action
        for name, action in space["actions"].items()
        if "appliesTo" not in action or name in tools
    }
    return {NAMESPACE: {**space, "actions": actions}}


def _made(authorizer: str, tools: Sequence[GovernedTool]) -> GatewaySchema:
    principals = _PRINCIPALS.get(authorizer, ())
    actions: dict[str, Any] = {MCP: {"memberOf": []}, CALL_TOOL: {"memberOf": [{"id": MCP}]}}
    groups = {tool.target for tool in tools} - {"", MCP, CALL_TOOL}
    actions |= {name: {"memberOf": [{"id": CALL_TOOL}]} for name in sorted(groups)}
    spoken: dict[str, GovernedTool] = {}
    inputs: dict[str, RecordOf] = {}
    left_out: dict[str, Sequence[LeftOut]] = {}
    size = 0
    for tool in sorted(tools, key=lambda each: each.name):
        if tool.name in actions:
            left_out[tool.name] = (LeftOut("", "its name is taken"),)
            continue
        type, missing = input_type(tool.input_schema)
        described = _cedar(type)
        size += len(tool.name) + len(msgspec.json.encode(described))
        if size > SCHEMA_BYTES_MAX:
            raise SchemaTooLarge(
                f"the tools' input schemas come to more than {SCHEMA_BYTES_MAX} bytes as a schema "
                "for policies; give the gateway fewer targets, or list fewer of their tools"
            )
        spoken[tool.name], inputs[tool.name] = tool, type
        if missing:
            left_out[tool.name] = tuple(missing)
        group = tool.target if tool.target in groups else CALL_TOOL
        actions[tool.name] = _action(group, described, principals)
    document = {NAMESPACE: {"entityTypes": _ENTITY_TYPES, "actions": actions}}
    return GatewaySchema(
        document=document,
        version=hashlib.sha256(msgspec.json.encode(document)).hexdigest()[:16],
        tools=spoken,
        inputs=inputs,
        left_out=left_out,
        principal_types=[f"{NAMESPACE}::{name}" for name in principals],
    )


def _record(**attributes: Any) -> dict[str, Any]:
    """A name with a `_` at its end is of an optional one."""
    return {
        "type": "Record",
        "attributes": {
            name.rstrip("_"): {**type, "required": not name.endswith("_")}
            for name, type in attributes.items()
        },
    }


_STRING = {"type": "String"}
_DATETIME = {"type": "Extension", "name": "datetime"}
_ENTITY_TYPES: Mapping[str, Any] = {
    "OAuthUser": {"shape": _record(id=_STRING), "tags": _STRING},
    "IamEntity": {"shape": _record(id=_STRING)},
    "Anonymous": {"shape": _record()},
    "Gateway": {"shape": _record(id=_STRING, name=_STRING)},
}


def _action(group: str, input: Mapping[str, Any], principals: Sequence[str]) -> dict[str, Any]:
    """`system.now` is AWS' word for `time`."""
    context = _record(
        input=input,
        time=_DATETIME,
        system=_record(now=_DATETIME),
        session_=_record(id=_STRING, agent_=_STRING, user_=_STRING),
        source_={"type": "Extension", "name": "ipaddr"},
    )
    return {
        "memberOf": [{"id": group}],
        "appliesTo": {
            "principalTypes": list(principals),
            "resourceTypes": ["Gateway"],
            "context": context,
        },
    }


def _cedar(type: InputType) -> dict[str, Any]:
    if isinstance(type, RecordOf):
        return {
            "type": "Record",
            "attributes": {
                name: {**_cedar(attribute.type), "required": attribute.required}
                for name, attribute in type.attributes.items()
            },
        }
    if isinstance(type, SetOf):
        return {"type": "Set", "element": _cedar(type.of)}
    assert isinstance(type, Scalar)
    if type.name == "decimal":
        return {"type": "Extension", "name": "decimal"}
    return {"type": "Boolean" if type.name == "Bool" else type.name}


def schema_text(schema: GatewaySchema) -> str:
    """The schema as Cedar's people write it."""
    space = schema.document[NAMESPACE]
    lines = [f"namespace {NAMESPACE} {{"]
    for name, entity in space["entityTypes"].items():
        tags = f" tags {_text(entity['tags'], 1)}" if "tags" in entity else ""
        lines.append(f"  entity {name} = {_text(entity['shape'], 1)}{tags};")
    for name, action in space["actions"].items():
        parents = ", ".join(_quoted(parent["id"]) for parent in action["memberOf"])
        line = f"  action {_quoted(name)}" + (f" in [{parents}]" if parents else "")
        if applies := action.get("appliesTo"):
            line += (
                " appliesTo {\n"
                f"    principal: [{', '.join(applies['principalTypes'])}],\n"
                f"    resource: [{', '.join(applies['resourceTypes'])}],\n"
                f"    context: {_text(applies['context'], 2)}\n  }}"
            )
        lines.append(f"{line};")
    return "\n".join([*lines, "}", ""])


def _text(type: Mapping[str, Any], level: int) -> str:
    kind = type["type"]
    if kind == "Record":
        if not type["attributes"]:
            return "{}"
        inner = "  " * (level + 1)
        members = [
            f"{inner}{_quoted(name)}{'' if each['required'] else '?'}: {_text(each, level + 1)}"
            for name, each in type["attributes"].items()
        ]
        return "{\n" + ",\n".join(members) + "\n" + "  " * level + "}"
    if kind == "Set":
        return f"Set<{_text(type['element'], level)}>"
    return str({"Boolean": "Bool", "Extension": type.get("name")}.get(kind, kind))


def _quoted(text: str) -> str:
    """As Cedar writes strings: its escapes are Rust's."""
    written = []
    for character in text:
        if character in '"\\':
            written.append(f"\\{character}")
        elif character.isprintable():
            written.append(character)
        else:
            written.append(f"\\u{{{ord(character):x}}}")
    return f'"{"".join(written)}"'
