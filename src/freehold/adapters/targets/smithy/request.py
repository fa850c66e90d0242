"""A call's arguments as the request of its protocol."""

import base64
import hashlib
import re
import uuid
import zlib
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from freehold.adapters.targets.sending import HttpCall
from freehold.adapters.targets.smithy import json_wire, query_wire, xml_wire
from freehold.adapters.targets.smithy.plan import Aggregate, Bound, Plan, Side
from freehold.adapters.targets.smithy.planning import FORBIDDEN_HEADERS
from freehold.adapters.targets.smithy.scalars import BadArgument, octets, text

Json = dict[str, Any]

_UNRESERVED = "-_.~"
_HOST_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_EMPTY = Aggregate(kind="structure")
_FORM = "application/x-www-form-urlencoded; charset=utf-8"


def request(plan: Plan, arguments: Json, endpoint: str, *, host_prefixed: bool = True) -> HttpCall:
    """Raises BadArgument. `host_prefixed`: whether the endpoint is one that such a host belongs
    to; an endpoint that somebody wrote down is meant as it is."""
    try:
        return _request(plan, arguments, endpoint, host_prefixed)
    except RecursionError:
        raise BadArgument("the arguments are nested too deep") from None


def _request(plan: Plan, arguments: Json, endpoint: str, host_prefixed: bool) -> HttpCall:
    missing = [name for name in plan.tokens if name not in arguments]
    if missing:
        arguments = {**arguments, **{name: str(uuid.uuid4()) for name in missing}}
    if plan.host and host_prefixed:
        scheme, _, rest = endpoint.partition("://")
        endpoint = f"{scheme}://{_host(plan.host, arguments)}{rest}"
    if plan.protocol in ("restJson1", "restXml"):
        return _bound_request(plan, arguments, endpoint)
    if plan.protocol in ("awsQuery", "ec2Query"):
        pairs: query_wire.Pairs = [("Action", plan.operation), ("Version", plan.target)]
        side = plan.input
        body = side.shapes.get(side.body, _EMPTY)
        form = query_wire.Form(side.shapes, pairs, ec2=plan.protocol == "ec2Query")
        form.add_members(arguments, body, "")
        content = urlencode(pairs, quote_via=quote, safe=_UNRESERVED).encode()
        return HttpCall(
            method="POST", url=f"{endpoint}/", headers={"content-type": _FORM}, body=content
        )
    version = plan.protocol.removeprefix("awsJson").replace("_", ".")
    headers = {
        "content-type": f"application/x-amz-json-{version}",
        "x-amz-target": plan.target,
    }
    if plan.query_mode:
        headers["x-amzn-query-mode"] = "true"
    return HttpCall(
        method="POST", url=f"{endpoint}/", headers=headers, body=_json_body(arguments, plan.input)
    )


def _json_body(arguments: Json, side: Side) -> bytes:
    shape = side.shapes.get(side.body)
    if shape is not None:
        arguments = json_wire.written_aggregate(arguments, shape, side.shapes, "input")
    return msgspec.json.encode(arguments)


def _host(parts: tuple[str, ...], arguments: Json) -> str:
    made = []
    for index, part in enumerate(parts):
        if index % 2:
            value = arguments.get(part)
            if not isinstance(value, str) or not _HOST_LABEL.fullmatch(value):
                raise BadArgument(f"{part} becomes a part of the host's name: letters, digits, -")
            part = value  # noqa: PLW2901
        made.append(part)
    return "".join(made)


def _bound_request(plan: Plan, arguments: Json, endpoint: str) -> HttpCall:
    headers = _headers(plan.input, arguments)
    body = _body(plan, arguments, headers)
    if plan.checksum and body is not None:
        _add_checksum(plan, arguments, headers, body)
    url = endpoint + _path(plan, arguments)
    pairs = _query(plan, arguments)
    if pairs:
        url += "?" + "&".join(
            f"{quote(n, safe=_UNRESERVED)}={quote(v, safe=_UNRESERVED)}" for n, v in pairs
        )
    return HttpCall(method=plan.method, url=url, headers=headers, body=body)


def _path(plan: Plan, arguments: Json) -> str:
    if len(plan.path) == 1:
        return plan.path[0]
    made = []
    for index, part in enumerate(plan.path):
        if not index % 2:
            made.append(part)
            continue
        bound = plan.labels[part]
        value = text(arguments.get(part), bound.kind, bound.format, part)
        segments = value.split("/") if bound.greedy else [value]
        # Servers and proxies take these for a way up, to an operation that nobody called.
        if not value or "." in segments or ".." in segments:
            raise BadArgument(f"{part} goes into the path, and must be neither empty nor dots")
        made.append(quote(value, safe="/" + _UNRESERVED if bound.greedy else _UNRESERVED))
    return "".join(made)


def _query(plan: Plan, arguments: Json) -> list[tuple[str, str]]:
    pairs = list(plan.query)
    for name, bound in plan.queries.items():
        value = arguments.get(name)
        if value is not None:
            pairs += [(bound.name, text(v, bound.kind, bound.format, name))
                      for v in _several(value, bound, name)]  # fmt: skip
    extra = arguments.get(plan.params) if plan.params else None
    if extra is not None:
        if not isinstance(extra, dict):
            raise BadArgument(f"{plan.params} has to be an object")
        taken = {name for name, _ in pairs}
        for name, value in extra.items():
            if name not in taken:
                values = value if isinstance(value, list) else [value]
                pairs += [(name, text(v, "string", "", plan.params)) for v in values]
    return pairs


def _several(value: Any, bound: Bound, where: str) -> list[Any]:
    if not bound.many:
        return [value]
    if not isinstance(value, list):
        raise BadArgument(f"{where} has to be a list")
    return value


def _headers(side: Side, arguments: Json) -> dict[str, str]:
    headers: dict[str, str] = {}
    for member, prefix in side.prefixes.items():
        value = arguments.get(member)
        if value is None:
            continue
        if not isinstance(value, dict):
            raise BadArgument(f"{member} has to be an object")
        for name, entry in value.items():
            key = (prefix + name).lower()
            if not _HEADER.fullmatch(key) or key in FORBIDDEN_HEADERS:
                raise BadArgument(f"{member} has a name that is no header to be sent: {name[:60]}")
            headers[key] = _header_text(entry, Bound(name=key, kind="string"), member)
    for member, bound in side.headers.items():
        value = arguments.get(member)
        if value is None or bound.name in FORBIDDEN_HEADERS:
            continue
        values = [_header_text(v, bound, member) for v in _several(value, bound, member)]
        if bound.many:
            values = [_quoted(v) if bound.kind == "string" else v for v in values]
            if not values:
                continue
        headers[bound.name] = ", ".join(values)
    return headers


def _header_text(value: Any, bound: Bound, where: str) -> str:
    written = text(value, bound.kind, bound.format, where)
    if bound.encoded:
        return base64.b64encode(written.encode()).decode()
    if not written.isprintable() and not all(c.isprintable() or c == "\t" for c in written):
        raise BadArgument(f"{where} goes into a header, and must have no line breaks")
    return written


def _quoted(value: str) -> str:
    if not value or '"' in value or "," in value:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return value


def _body(plan: Plan, arguments: Json, headers: dict[str, str]) -> bytes | None:
    side = plan.input
    if side.payload:
        value = arguments.get(side.payload)
        slot = side.payload_slot
        if value is None and plan.protocol == "restJson1" and slot is not None and slot.shape:
            value = {}  # no body at all is no JSON to many a server
        return None if value is None else _payload(plan, value, headers)
    if not plan.has_body:
        return None
    bound = _bound_names(plan)
    rest = {name: value for name, value in arguments.items() if name not in bound}
    if plan.protocol == "restXml":
        if not rest:
            return None
        headers.setdefault("content-type", "application/xml")
        return xml_wire.written_root(rest, side.shapes.get(side.body, _EMPTY), side)
    headers.setdefault("content-type", "application/json")
    return _json_body(rest, side)


def _bound_names(plan: Plan) -> set[str]:
    return {*plan.labels, *plan.queries, *plan.input.headers, *plan.input.prefixes, plan.params}


def _payload(plan: Plan, value: Any, headers: dict[str, str]) -> bytes:
    side = plan.input
    slot = side.payload_slot
    assert slot is not None, "a payload has a slot"
    if slot.kind == "blob":
        headers.setdefault("content-type", side.payload_type or "application/octet-stream")
        return octets(value, side.payload)
    if slot.kind == "string":
        headers.setdefault("content-type", side.payload_type or "text/plain")
        return text(value, "string", "", side.payload).encode()
    if plan.protocol == "restXml" and slot.shape:
        headers.setdefault("content-type", "application/xml")
        return xml_wire.written_root(value, side.shapes[slot.shape], side)
    headers.setdefault("content-type", "application/json")
    return msgspec.json.encode(json_wire.written(value, slot, side.shapes, side.payload))


def _add_checksum(plan: Plan, arguments: Json, headers: dict[str, str], body: bytes) -> None:
    if any(n == "content-md5" or n.startswith("x-amz-checksum-") for n in headers):
        return
    algorithm = str(arguments.get(plan.checksum_member) or plan.checksum).lower()
    if algorithm == "md5":
        digest = hashlib.md5(body, usedforsecurity=False).digest()
        headers["content-md5"] = base64.b64encode(digest).decode()
        return
    if algorithm == "crc32":
        digest = zlib.crc32(body).to_bytes(4, "big")
    elif algorithm == "sha256":
        digest = hashlib.sha256(body).digest()
    elif algorithm == "sha1":
        digest = hashlib.sha1(body, usedforsecurity=False).digest()
    else:
        raise BadArgument(f"{plan.checksum_member} may be CRC32, SHA1 or SHA256 here")
    headers[f"x-amz-checksum-{algorithm}"] = base64.b64encode(digest).decode()
