"""Proofs in words: a line for each finding and each difference, with the request that shows it."""

from collections.abc import Mapping
from typing import Any

import msgspec

from freehold.ports.policies import Uid
from freehold.ports.reasoning import Difference, Example, Finding, Property
from freehold.services.policy.proving import plain

LINE_CHARACTERS_MAX = 2000
_ACTIONS_SHOWN = 5

_SAID = {
    Property.ALLOW_ALL: "it allows every request of the actions that it names",
    Property.ALLOW_NONE: "it never allows anything: no request fulfils it",
    Property.DENY_ALL: "it denies every request of the actions that it names",
    Property.DENY_NONE: "it never denies anything: no request fulfils it",
    Property.INVALID: "it does not fit the gateway's tools",
    Property.MAY_ERROR: "its condition fails for some requests",
    Property.REDUNDANT: "the policies of the engine decide the same without it",
    Property.SHADOWED: "other policies of the engine leave nothing for it to decide",
    Property.UNSUPPORTED: "not all of it could be proven",
    Property.UNDECIDED: "the time was up before all of it was proven",
}


def finding_line(finding: Finding, gateway_id: str) -> str:
    parts = [f"{finding.property} (gateway {gateway_id}{_actions(finding)}): "]
    parts.append(finding.description or _SAID[finding.property])
    if finding.by:
        parts.append(f" (by {', '.join(finding.by)})")
    if finding.example is not None:
        parts.append(f"; for example {request_line(finding.example)}")
    return cut("".join(parts))


def difference_line(difference: Difference, gateway_id: str) -> str:
    return cut(f"{difference.change} (gateway {gateway_id}): {request_line(difference.example)}")


def request_line(example: Example) -> str:
    """Who calls what with what: `OAuthUser "alice" (claims {...}) calls "T___x" with {...}`."""
    request = example.request
    claims: Mapping[str, Any] = {}
    for entity in example.entities:
        if entity.uid == request.principal:
            claims = entity.tags
    context = dict(request.context)
    given = context.pop("input", {})
    said = f"{_named(request.principal)}{f' (claims {_json(claims)})' if claims else ''}"
    said += f' calls "{request.action.id}" with {_json(given)}'
    return said + (f" where {_json(context)}" if context else "")


def cut(text: str) -> str:
    if len(text) <= LINE_CHARACTERS_MAX:
        return text
    return text[: LINE_CHARACTERS_MAX - 4] + " ..."


def _actions(finding: Finding) -> str:
    shown = ", ".join(finding.actions[:_ACTIONS_SHOWN])
    more = len(finding.actions) - _ACTIONS_SHOWN
    return f", {shown}{f' and {more} more' if more > 0 else ''}" if shown else ""


def _named(uid: Uid) -> str:
    return f'{uid.type.rpartition("::")[2]} "{uid.id}"'


def _json(value: Any) -> str:
    return msgspec.json.encode(plain(value)).decode()
