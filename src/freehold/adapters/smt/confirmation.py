"""The engine's own word on an example, with the semantics that our engine has."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cedarpy
import msgspec

from freehold.adapters.smt.statements import Statement
from freehold.ports.policies import Entity, PolicyRequest, Uid
from freehold.ports.reasoning import Example

_FAILED_POLICY = re.compile(r"policy `([^`]*)`")


class Word(NamedTuple):
    """`deciding` are the ids of those that decided, `failed` of those that failed. `problem` is set
    where the engine would not have the request."""

    allowed: bool
    deciding: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    problem: str = ""


class Engine:
    """Of one set of statements."""

    def __init__(self, statements: Sequence[Statement], schema: "cedarpy.Schema") -> None:
        self._statements = statements
        self._schema = schema
        taking_part: dict[str, Mapping[str, Any]] = {}
        for index, statement in enumerate(statements):
            if not statement.problems:
                taking_part[str(index)] = statement.parsed
            elif statement.forbids:
                taking_part[str(index)] = {**statement.parsed, "conditions": []}
        document = {"staticPolicies": taking_part, "templates": {}, "templateLinks": []}
        self._handle = cedarpy.PolicySet.from_json_str(msgspec.json.encode(document).decode())

    def decide(self, example: Example) -> Word:
        return self.asked(example.request, example.entities)

    def asked(self, request: PolicyRequest, entities: Sequence[Entity]) -> Word:
        answer = cedarpy.is_authorized(
            {
                "principal": _uid(request.principal),
                "action": _uid(request.action),
                "resource": _uid(request.resource),
                "context": msgspec.json.encode(request.context).decode(),
            },
            self._handle,
            msgspec.json.encode([_entity(entity) for entity in entities]).decode(),
            self._schema,
        )
        if answer.decision is cedarpy.Decision.NoDecision:
            return Word(False, problem="; ".join(answer.diagnostics.errors) or "no decision")
        named = [_FAILED_POLICY.search(error) for error in answer.diagnostics.errors]
        failed = [self._statements[int(found[1])] for found in named if found is not None]
        deciding = [self._statements[int(reason)].id for reason in answer.diagnostics.reasons]
        forbidding = [each.id for each in failed if each.forbids]
        allowed = answer.decision is cedarpy.Decision.Allow
        if forbidding:
            deciding = [*(() if allowed else deciding), *forbidding]
        return Word(
            allowed and not forbidding,
            tuple(dict.fromkeys(deciding)),
            tuple(each.id for each in failed),
            "" if None not in named else "an error that names no policy",
        )


def _entity(entity: Entity) -> dict[str, Any]:
    return {
        "uid": _uid(entity.uid),
        "attrs": entity.attributes,
        "tags": entity.tags,
        "parents": [_uid(parent) for parent in entity.parents],
    }


def _uid(uid: Uid) -> dict[str, str]:
    return {"type": uid.type, "id": uid.id}
