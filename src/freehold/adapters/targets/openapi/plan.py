"""How an operation's request is put together: small, JSON, stored with the tool."""

from typing import Any, Literal

import msgspec

from freehold.adapters.targets.openapi.versions import In

BodyKind = Literal["json", "form", "multipart", "bytes", "text"]


class ParameterPlan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`argument` is what the tool calls it, `name` what the API does. `media`: a parameter that
    is a document of its own, JSON for one."""

    argument: str
    name: str
    place: In
    style: str
    explode: bool = False
    reserved: bool = False
    media: str = ""


class PartPlan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One member of a form. `binary`: its argument is base64. `filename`: the argument that names
    the file, where there is one."""

    media: str = ""
    binary: bool = False
    style: str = ""
    explode: bool = False
    reserved: bool = False
    filename: str = ""


class BodyPlan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`argument` holds all of it; where that is empty, `members` (argument to name) do."""

    kind: BodyKind
    media: str
    required: bool = False
    argument: str = ""
    members: dict[str, str] = {}
    parts: dict[str, PartPlan] = {}


class VariablePlan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of the server's URL. `choices` are all that may stand there."""

    argument: str
    name: str
    default: str
    choices: tuple[str, ...]


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`server` and `path` with their {variables}; all else in them is encoded already. `query` is
    what the path itself has after its question mark."""

    method: str
    server: str
    path: str
    query: str = ""
    variables: tuple[VariablePlan, ...] = ()
    parameters: tuple[ParameterPlan, ...] = ()
    body: BodyPlan | None = None
    accept: str = "application/json"
    structured: bool = False
    """The tool has an output schema."""


def stored(plan: Plan) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(plan)
    return found


def loaded(document: dict[str, Any]) -> Plan:
    return msgspec.convert(document, Plan)
