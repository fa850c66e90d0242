"""What botocore sends and reads, beside what we do, in a form that can be compared."""

import base64
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.etree import ElementTree

import msgspec
from botocore.awsrequest import HeadersDict
from botocore.compat import OrderedDict
from botocore.model import OperationModel, Shape, StructureShape
from botocore.parsers import ResponseParserFactory
from botocore.serialize import JSONSerializer, RestXMLSerializer, create_serializer

from freehold.adapters.targets.sending import HttpAnswer, HttpCall

Json = dict[str, Any]

# What botocore's handlers put in later on, and not its serializer.
_OURS_ALONE = ("content-type", "content-md5", "x-amz-checksum-")


def sent_by_botocore(protocol: str, operation: OperationModel, parameters: Json) -> Json:
    serializer = create_serializer(protocol, include_validation=False)
    made = serializer.serialize_to_request(parameters, operation)
    path, _, literal = made["url_path"].partition("?")
    pairs = parse_qsl(literal, keep_blank_values=True)
    for name, value in (made["query_string"] or {}).items():
        values = value if isinstance(value, list) else [value]
        pairs += [(name, str(v)) for v in values]
    body = made["body"]
    if isinstance(body, dict):
        body = sorted((name, str(value)) for name, value in body.items())
    else:
        body = readable(body if isinstance(body, bytes) else body.encode())
    return {
        "method": made["method"],
        "host": made.get("host_prefix") or "",
        "path": unquote(path),
        "query": sorted(pairs),
        "headers": _headers(made["headers"]),
        "body": body,
    }


def sent_by_us(call: HttpCall, theirs: Json) -> Json:
    url = urlsplit(call.url)
    form = "x-www-form-urlencoded" in call.headers.get("content-type", "")
    body = call.body or b""
    headers = _headers(call.headers)
    return {
        "method": call.method,
        "host": url.netloc.removesuffix("service.example.com"),
        "path": unquote(url.path),
        "query": sorted(parse_qsl(url.query, keep_blank_values=True)),
        "headers": {
            n: v
            for n, v in headers.items()
            if not n.startswith(_OURS_ALONE) or n in theirs["headers"]
        },
        "body": sorted(parse_qsl(body.decode(), keep_blank_values=True))
        if form
        else readable(body),
    }


def _headers(headers: Mapping[str, Any]) -> dict[str, str]:
    """How long a body is says who sends it."""
    return {
        n.lower(): str(v).replace(", ", ",")
        for n, v in headers.items()
        if n.lower() != "content-length"
    }


def readable(body: bytes) -> Any:
    try:
        return _tree(ElementTree.fromstring(body))
    except ElementTree.ParseError:
        pass
    try:
        return _numbers(msgspec.json.decode(body)) if body else {}
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body


def _tree(element: ElementTree.Element) -> Any:
    children = [_tree(child) for child in element]
    return (element.tag, sorted(element.attrib.items()), (element.text or ""), children)


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _numbers(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_numbers(v) for v in value]
    whole = isinstance(value, float) and value.is_integer()
    return int(value) if whole else value


# -- answers


def answer_of(protocol: str, operation: OperationModel, members: Json) -> HttpAnswer:
    """As such a service writes it. botocore's serializers write any shape, an output too."""
    shape = operation.output_shape
    headers: dict[str, str] = {}
    if shape is None:
        return HttpAnswer(status=200, headers={}, body=b"")
    if protocol == "json":
        return HttpAnswer(status=200, headers={}, body=_json(members, shape))
    if protocol in ("query", "ec2"):
        inner = f"{operation.name}Result" if protocol == "query" else f"{operation.name}Response"
        body = _xml(members, shape, inner)
        if protocol == "query":
            body = b"<%s>%s</%s>" % (outer := f"{operation.name}Response".encode(), body, outer)
        return HttpAnswer(status=200, headers={}, body=body)
    rest: Json = {}
    payload = shape.serialization.get("payload")
    serializer = create_serializer(protocol, include_validation=False)
    for name, value in members.items():
        member = shape.members[name]
        location = member.serialization.get("location")
        wire = member.serialization.get("name", name)
        if location == "header":
            headers[wire.lower()] = serializer._convert_header_value(member, value)
        elif location == "headers":
            headers |= {f"{wire}{n}".lower(): str(v) for n, v in value.items()}
        elif location != "statusCode":
            rest[name] = value
    body = b""
    if payload:
        if payload in rest:
            body = _payload(protocol, shape.members[payload], rest[payload])
    elif rest or any("location" not in m.serialization for m in shape.members.values()):
        root = f"{operation.name}Result"
        body = _json(rest, shape) if protocol == "rest-json" else _xml(rest, shape, root)
    return HttpAnswer(status=200, headers=headers, body=body)


def _payload(protocol: str, shape: Shape, value: Any) -> bytes:
    if shape.type_name == "blob":
        return bytes(octet % 128 for octet in value)
    if shape.type_name == "string":
        return str(value).encode()
    if protocol == "rest-json":
        return _json(value, shape)
    return _xml(value, shape, shape.serialization.get("name", shape.name))


def _json(value: Any, shape: Shape) -> bytes:
    serializer = JSONSerializer()
    made: Json = OrderedDict()
    serializer._serialize(made, value, shape)
    return msgspec.json.encode(made.get(None, made))


def _xml(value: Any, shape: Shape, name: str) -> bytes:
    root = ElementTree.Element("")
    RestXMLSerializer()._serialize(shape, value, root, name)
    content: bytes = ElementTree.tostring(next(iter(root)))
    return content


def read_by_botocore(protocol: str, operation: OperationModel, answer: HttpAnswer) -> Any:
    parser = ResponseParserFactory().create_parser(protocol)
    parsed = parser.parse(
        {
            "status_code": answer.status,
            "headers": HeadersDict(answer.headers),
            "body": answer.body,
            "context": {"operation_name": operation.name},
        },
        operation.output_shape,
    )
    parsed.pop("ResponseMetadata", None)
    shape = operation.output_shape
    payload = shape.serialization.get("payload") if shape is not None else None
    if payload and shape.members[payload].type_name == "blob":
        parsed[payload] = answer.body  # botocore leaves a stream's bytes to others
    elif not answer.body:
        parsed.pop(payload, None)  # botocore makes an empty structure of no body
    return as_json(parsed)


def as_json(value: Any) -> Any:
    """botocore's own types as a tool's result has them."""
    if isinstance(value, datetime):
        moment = value.astimezone(UTC).replace(tzinfo=None)
        return moment.isoformat(timespec="seconds") + "Z"
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {k: as_json(v) for k, v in value.items()}
    if isinstance(value, list):
        return [as_json(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return _numbers(value)


def lower_prefixed(shape: Shape | None, members: Any) -> Any:
    """Names of headers have no case; what they were called is gone with the answer."""
    if not isinstance(shape, StructureShape):
        return members
    return {
        name: {k.lower(): v for k, v in value.items()}
        if shape.members[name].serialization.get("location") == "headers"
        else value
        for name, value in members.items()
        if name in shape.members
    }
