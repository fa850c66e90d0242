"""Which environments look the same to a policy, so that it is encoded once for all of them.

A gateway has many tools, and a policy for all of them asks little of each. What a policy can see of
a context are the attributes that it names; of the action, nothing unless it says `action`.
"""

from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import msgspec

from freehold.adapters.smt.schema import Environment
from freehold.adapters.smt.statements import Statement
from freehold.adapters.smt.types import Kind, Type


class Sight(NamedTuple):
    """`names` are all attributes named anywhere; `whole` those of the context that are used other
    than to get at what is in them, and "" for the context itself."""

    names: frozenset[str]
    whole: frozenset[str]
    action: bool


class Sharing:
    def __init__(self) -> None:
        self._sights: dict[str, Sight] = {}
        self._written: dict[int, bytes] = {}

    def key(self, statement: Statement, environment: Environment) -> Hashable:
        """The same for environments in which the statement's encoding is the same."""
        sight = self._sights.get(statement.digest)
        if sight is None:
            sight = self._sights[statement.digest] = _sight(statement)
        action = (environment.action, environment.above) if sight.action else None
        seen = self._seen(environment.context, sight, deeper="" not in sight.whole)
        return statement.digest, environment.principal, environment.resource, action, seen

    def _seen(self, type: Type, sight: Sight, *, deeper: bool) -> Hashable:
        if not deeper:
            return self._text(type)
        found = []
        for name in sorted(sight.names & type.attributes.keys()):
            attribute = type.attributes[name]
            inner: Hashable = self._text(attribute.type)
            if attribute.type.kind is Kind.RECORD and name not in sight.whole:
                inner = tuple(
                    (each, held.required, self._text(held.type))
                    for each, held in sorted(attribute.type.attributes.items())
                    if each in sight.names
                )
            found.append((name, attribute.required, inner))
        return tuple(found)

    def _text(self, type: Type) -> bytes:
        """Types live as long as their schema."""
        if id(type) not in self._written:
            self._written[id(type)] = msgspec.json.encode(type, order="sorted")
        return self._written[id(type)]


def _sight(statement: Statement) -> Sight:
    names: set[str] = set()
    whole: set[str] = set()
    variables: set[str] = set()

    def look(node: Any, *, into: bool = False) -> None:
        if isinstance(node, list):
            for each in node:
                look(each)
        if not isinstance(node, Mapping):
            return
        for operator, held in node.items():
            if operator == "Var":
                variables.add(held)
                if held == "context" and not into:
                    whole.add("")
            elif operator in (".", "has"):
                names.add(held["attr"])
                if operator == "." and held["left"] == {"Var": "context"} and not into:
                    whole.add(held["attr"])
                look(held["left"], into=True)
            elif operator == "Record":
                look(list(held.values()))
            elif operator != "Value":
                look(held)

    for condition in statement.parsed["conditions"]:
        look(condition["body"])
    return Sight(frozenset(names), frozenset(whole), "action" in variables)
