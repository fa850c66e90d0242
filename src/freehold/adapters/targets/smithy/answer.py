"""A service's answer as the result of a tool."""

import base64
from typing import Any

import msgspec

from freehold.adapters.targets.sending import HttpAnswer
from freehold.adapters.targets.smithy import json_wire, xml_wire
from freehold.adapters.targets.smithy.errors import failure, refused
from freehold.adapters.targets.smithy.plan import Bound, Plan
from freehold.adapters.targets.smithy.scalars import base64_text, read_text
from freehold.adapters.targets.smithy.xml_tree import Element, Malformed, parsed
from freehold.ports.targets import Json, TargetFailed

_TEXTUAL = ("text/", "application/json", "application/xml", "application/x-ndjson")
_TEXT_CHARACTERS_MAX = 100_000


def result(plan: Plan, answer: HttpAnswer) -> Json:
    """MCP's CallToolResult. Raises TargetFailed for an answer that the model does not allow."""
    if not 200 <= answer.status < 300:
        return failure(plan, answer)
    if answer.truncated:
        return refused(
            f"{plan.operation} was answered with more than {len(answer.body)} bytes, which is the"
            " most that is passed on. Ask for less: a page, a range, a filter.",
            answer.status,
        )
    try:
        if plan.protocol in ("restJson1", "restXml"):
            found = _bound(plan, answer)
        elif plan.protocol in ("awsQuery", "ec2Query"):
            found = _query(plan, answer)
        else:
            found = _json(plan, answer)
    except _ErrorInAnswer:
        return failure(plan, answer)
    except (msgspec.DecodeError, RecursionError, Malformed) as error:
        why = error if isinstance(error, Malformed) else "it is no JSON"
        raise TargetFailed(
            f"The answer to {plan.operation} could not be read: {why}.", status=answer.status
        ) from None
    content = [{"type": "text", "text": msgspec.json.encode(found).decode()}]
    content += _text_of_payload(plan, answer)
    return {"content": content, "structuredContent": found, "isError": False}


class _ErrorInAnswer(Exception):
    """S3 may find out after it has said 200."""


def _json(plan: Plan, answer: HttpAnswer) -> Json:
    if not answer.body.strip():
        return {}
    document: Any = msgspec.json.decode(answer.body)
    if not isinstance(document, dict):
        raise Malformed("it is no JSON object")
    side = plan.output
    shape = side.shapes.get(side.body)
    if b"null" in answer.body:
        document = json_wire.without_nulls(document)
    if shape is not None:
        document = json_wire.read_aggregate(document, shape, side.shapes)
    found: Json = document
    return found


def _query(plan: Plan, answer: HttpAnswer) -> Json:
    side = plan.output
    shape = side.shapes.get(side.body)
    if shape is None or not answer.body.strip():
        return {}
    element: Element | None = parsed(answer.body)
    if side.root and element is not None:
        element = element.child(side.root)
    return xml_wire.read_structure(element, shape, side.shapes) if element is not None else {}


def _bound(plan: Plan, answer: HttpAnswer) -> Json:
    """Headers, the status, and the body or what is in it."""
    side = plan.output
    if side.payload:
        found = _payload(plan, answer)
    elif plan.protocol == "restJson1":
        found = _json(plan, answer) if plan.output.shapes or answer.body.strip() else {}
    else:
        found = _xml(plan, answer)
    for name, bound in side.headers.items():
        value = answer.headers.get(bound.name)
        if value is not None:
            found[name] = _header(value, bound)
    for name, prefix in side.prefixes.items():
        found[name] = {
            header[len(prefix) :]: value
            for header, value in answer.headers.items()
            if header.startswith(prefix)
        }
    if plan.status:
        found[plan.status] = answer.status
    return found


def _xml(plan: Plan, answer: HttpAnswer) -> Json:
    side = plan.output
    shape = side.shapes.get(side.body)
    if shape is None or not answer.body.strip():
        return {}
    element = parsed(answer.body)
    if element.name == "Error" and element.child("Code") is not None:
        raise _ErrorInAnswer
    if plan.unwrapped:
        wrapper = Element(element.name, {})
        wrapper.children = [element]
        slot = next(iter(shape.members.values()))
        element.name = slot.wire
        return xml_wire.read_structure(wrapper, shape, side.shapes)
    return xml_wire.read_structure(element, shape, side.shapes)


def _payload(plan: Plan, answer: HttpAnswer) -> Json:
    side = plan.output
    slot = side.payload_slot
    assert slot is not None, "a payload has a slot"
    if slot.kind == "blob":
        return {side.payload: base64_text(answer.body)}
    if not answer.body:
        return {}
    if slot.kind == "string":
        return {side.payload: answer.body.decode(errors="replace")}
    if plan.protocol == "restXml" and slot.shape:
        element = parsed(answer.body)
        if element.name == "Error" and element.child("Code") is not None:
            raise _ErrorInAnswer
        shape = side.shapes[slot.shape]
        return {side.payload: xml_wire.read_structure(element, shape, side.shapes)}
    document = json_wire.without_nulls(msgspec.json.decode(answer.body))
    return {side.payload: json_wire.read(document, slot, side.shapes)}


def _header(value: str, bound: Bound) -> Any:
    if bound.many:
        values = _split(value, dates=bound.kind == "timestamp" and bound.format == "http-date")
        return [read_text(v, bound.kind) for v in values]
    if bound.encoded:
        try:
            return base64.b64decode(value, validate=True).decode()
        except ValueError:
            return value
    return read_text(value, bound.kind)


def _split(value: str, *, dates: bool) -> list[str]:
    """A date has a comma of its own; a text with one stands in quotes."""
    if dates:
        parts = value.split(",")
        return [",".join(parts[i : i + 2]).strip() for i in range(0, len(parts), 2)]
    found: list[str] = []
    rest = value.strip()
    while rest:
        if rest[0] == '"':
            text, rest = _unquoted(rest)
        else:
            text, _, rest = rest.partition(",")
            rest = "," + rest if rest else rest
        found.append(text.strip() if not text or text[0] != '"' else text)
        rest = rest.lstrip().removeprefix(",").lstrip()
    return found


def _unquoted(rest: str) -> tuple[str, str]:
    made: list[str] = []
    index = 1
    while index < len(rest) and rest[index] != '"':
        if rest[index] == "\\" and index + 1 < len(rest):
            index += 1
        made.append(rest[index])
        index += 1
    return "".join(made), rest[index + 1 :]


def _text_of_payload(plan: Plan, answer: HttpAnswer) -> list[Json]:
    """Bytes are base64 in the result, which no model reads; what is text comes as text too."""
    slot = plan.output.payload_slot
    media = answer.headers.get("content-type", plan.output.payload_type).lower()
    if slot is None or slot.kind != "blob" or not answer.body:
        return []
    if not media.startswith(_TEXTUAL) and "+json" not in media and "+xml" not in media:
        return []
    try:
        text = answer.body.decode()
    except UnicodeDecodeError:
        return []
    if len(text) > _TEXT_CHARACTERS_MAX:
        text = text[:_TEXT_CHARACTERS_MAX] + " …"
    return [{"type": "text", "text": text}]
