"""What a service refuses, as a result that a model can act on."""

from typing import Any

import msgspec

from freehold.adapters.targets.sending import HttpAnswer
from freehold.adapters.targets.smithy.plan import Plan
from freehold.adapters.targets.smithy.xml_tree import Malformed, parsed
from freehold.adapters.targets.smithy.xml_wire import loose
from freehold.ports.targets import Json

_MESSAGE_CHARACTERS_MAX = 2000
_DETAIL_CHARACTERS_MAX = 2000
_STATUS = "freehold/upstream-status"
_CODES = ("__type", "code", "Code", "errorType")
_MESSAGES = ("message", "Message", "errorMessage")
_LATER = frozenset({429, 500, 502, 503, 504, 509})
_THROTTLED = ("throttl", "toomanyrequests", "slowdown", "requestlimitexceeded")


def failure(plan: Plan, answer: HttpAnswer) -> Json:
    code, message, details = _read(plan, answer)
    status = answer.status
    text = f"{code or 'Error'} (HTTP {status})"
    text += f": {message}" if message else "."
    if status == 401:
        text += " The service does not take the credential that the gateway sent."
    if status in _LATER or any(word in code.lower() for word in _THROTTLED):
        text += " Trying again later may help."
    found: Json = {"code": code, "message": message, "status": status}
    if details:
        more = msgspec.json.encode(details).decode()
        if len(more) <= _DETAIL_CHARACTERS_MAX:
            found["details"] = details
            text += f"\n{more}"
    return {**refused(text, status), "structuredContent": found}


def refused(text: str, status: int) -> Json:
    return {
        "content": [{"type": "text", "text": text}],
        "isError": True,
        "_meta": {_STATUS: status},
    }


def _read(plan: Plan, answer: HttpAnswer) -> tuple[str, str, Json]:
    if plan.protocol in ("restXml", "awsQuery", "ec2Query"):
        document = _xml(answer.body)
    else:
        document = _json(answer.body)
    headers = answer.headers
    code = headers.get("x-amzn-errortype") or headers.get("x-error-type") or ""
    if not code:
        code = next((document[n] for n in _CODES if isinstance(document.get(n), str)), "")
    # What a service of the query protocol called it, before it spoke JSON.
    older = headers.get("x-amzn-query-error", "").partition(";")[0]
    code = _short(code) or older or plan.statuses.get(str(answer.status), "")
    message = next((document[n] for n in _MESSAGES if isinstance(document.get(n), str)), "")
    if not document:
        message = answer.body[:_MESSAGE_CHARACTERS_MAX].decode(errors="replace").strip()
    details = {n: v for n, v in document.items() if n not in (*_CODES, *_MESSAGES)}
    return code, message[:_MESSAGE_CHARACTERS_MAX], details


def _short(code: str) -> str:
    """`aws.example#NotFound:http://...` is what some servers write of NotFound."""
    return code.partition(":")[0].rpartition("#")[2].strip()[:200]


def _json(body: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _xml(body: bytes) -> dict[str, Any]:
    """`<ErrorResponse><Error>`, `<Response><Errors><Error>` or `<Error>` alone."""
    try:
        element = parsed(body)
    except Malformed:
        return {}
    outer = element
    for name in ("Errors", "Error"):
        element = element.child(name) or element
    found = loose(element)
    if not isinstance(found, dict):
        return {}
    for name in ("RequestId", "RequestID", "requestId"):
        child = outer.child(name)
        if child is not None:
            found.setdefault("RequestId", child.text.strip())
    return found
