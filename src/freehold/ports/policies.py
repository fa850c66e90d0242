"""A policy engine: policies and a schema in, decisions out. Cedar's words and meaning."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

import msgspec


class Uid(NamedTuple):
    """An entity's name: `Freehold::Role` and `admin`. For an action, its type is the whole type."""

    type: str
    id: str


class Entity(msgspec.Struct, frozen=True, kw_only=True):
    """`attributes` hold strings, booleans, integers of 64 bits, lists and mappings of them, and
    `{"__extn": {"fn": "ip", "arg": "10.0.0.1"}}` for the engine's own types."""

    uid: Uid
    attributes: Mapping[str, Any] = {}
    tags: Mapping[str, Any] = {}
    parents: Sequence[Uid] = ()


class PolicyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Must fit the schema that the policies were compiled with, or it is forbidden."""

    principal: Uid
    action: Uid
    resource: Uid
    context: Mapping[str, Any] = {}


class Effect(StrEnum):
    ALLOW = "allow"
    FORBID = "forbid"
    """Some policy forbids it, or the engine could not tell."""
    SILENT = "silent"
    """No policy speaks of it: denied, unless something else allows it."""


class Decision(msgspec.Struct, frozen=True):
    """`policies` are the ids of those that decided. `errors` say what went wrong on the way: a
    policy that forbids and fails counts as one that forbids."""

    effect: Effect
    policies: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()

    @property
    def allowed(self) -> bool:
        return self.effect is Effect.ALLOW


class PolicyRefused(ValueError):
    """Policies or a schema that cannot be used. Each problem is one sentence for their author."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One policy of a set whose policies come and go one by one. `id` is the platform's, whatever
    the statement's own annotations say; `statement` is exactly one static Cedar policy."""

    id: str
    statement: str


class CompiledPolicies(Protocol):
    """Immutable; keep it for as long as the policies are in force."""

    def decide(self, request: PolicyRequest, entities: Sequence[Entity]) -> Decision:
        """Never raises: what fails, or takes too long, is forbidden."""


class CompiledRules(Protocol):
    """Immutable; sliced by action, so that a decision costs what the policies of its action cost.

    `problems` names the rules that do not fit the schema, with the validator's words: a permit
    among them permits nothing, a forbid forbids all that its scope covers.
    """

    problems: Mapping[str, Sequence[str]]
    reasons: Mapping[str, str]
    """The `@reason` annotations, by the rule's id."""

    def decide(self, request: PolicyRequest, entities: Sequence[Entity]) -> Decision:
        """Never raises: what fails, or takes too long, is forbidden."""

    def possible(
        self, principal: Entity, resource: Entity, actions: Sequence[Uid]
    ) -> Sequence[bool]:
        """Whether some context could be allowed each action (partial evaluation). Never raises; an
        action that nothing can be told of, because something failed, is not possible."""


class PolicyEngine(Protocol):
    def compile(self, policies: str, schema: str) -> CompiledPolicies:
        """Parsed, and checked against the schema. Raises PolicyRefused.

        A policy's id is its annotation `@id("...")`, or `policy{n}`; two cannot have the same.
        """

    def compile_rules(self, rules: Sequence[Rule], schema: Mapping[str, Any]) -> CompiledRules:
        """`schema` is Cedar's, in JSON. Raises PolicyRefused for a schema that is none, and for a
        statement that cannot be parsed; what does not fit the schema is among the problems."""

    def split(self, text: str) -> Sequence[Rule]:
        """A text of several policies, each as it was written; ids as `compile` has them. Raises
        PolicyRefused, each problem with its line."""
