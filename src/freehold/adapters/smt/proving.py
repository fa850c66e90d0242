"""What analyses and comparisons stand on: statements encoded once, and examples that are true."""

import json
import logging
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import cedarpy

from freehold.adapters.smt.confirmation import Engine, Word
from freehold.adapters.smt.examples import Decoding, wishes
from freehold.adapters.smt.schema import Environment, Schema
from freehold.adapters.smt.searching import Found
from freehold.adapters.smt.sharing import Sharing
from freehold.adapters.smt.solving import Record, Solving
from freehold.adapters.smt.statements import Encoded, Statement, applies, encode, left_open, read
from freehold.adapters.smt.terms import Term, Unsupported, both, disjunction, negation
from freehold.adapters.smt.world import merged
from freehold.ports.policies import PolicyRefused, Rule
from freehold.ports.reasoning import Example

_log = logging.getLogger("freehold.proofs")


class Shown(NamedTuple):
    """An example, and the engine's word on it."""

    example: Example
    word: Word


class Proving:
    """Raises PolicyRefused for a schema that is none."""

    def __init__(
        self,
        schema: Mapping[str, Any],
        *,
        seconds_max: float,
        record: Record | None = None,
        own_ids: Sequence[str] = (),
        same: Mapping[str, str] | None = None,
    ) -> None:
        self._text = json.dumps(schema)
        try:
            self._handle = cedarpy.Schema.from_json_str(self._text)
        except ValueError as error:
            raise PolicyRefused([f"schema: {error}"]) from error
        self.schema = Schema(schema, own_ids=own_ids, same=same)
        self.solving = Solving(self.schema, seconds_max=seconds_max, record=record)
        self._sharing = Sharing()
        self._encoded: dict[Hashable, Encoded] = {}

    @property
    def environments(self) -> Sequence[Environment]:
        return self.schema.environments

    def read(self, rules: Sequence[Rule]) -> list[Statement]:
        return read(rules, self._text)

    def engine(self, statements: Sequence[Statement]) -> Engine:
        return Engine(statements, self._handle)

    def encoded(self, statement: Statement, environment: Environment) -> Encoded:
        """Where the time is up the condition is left open: nothing is asked of it any more."""
        key = self._sharing.key(statement, environment)
        if key not in self._encoded:
            if self.solving.seconds_left <= 0:
                return left_open(statement, environment, self.schema)
            self._encoded[key] = encode(statement, environment, self.schema)
        found = self._encoded[key]
        return found if found.statement is statement else found._replace(statement=statement)

    def speaking(self, statements: Iterable[Statement], environment: Environment) -> list[Encoded]:
        """Those whose scope leaves room for the environment."""
        return [
            self.encoded(statement, environment)
            for statement in statements
            if applies(statement, environment)
        ]

    def example(
        self,
        found: Found,
        encoded: Sequence[Encoded],
        environment: Environment,
        engine: Engine,
        as_claimed: Callable[[Word], bool],
    ) -> Shown | str:
        """A request that the engine decides as is claimed, with and then without wishes; or why
        there is none."""
        worlds = [each.world for each in encoded]
        whole = merged(self.schema, worlds)
        hoped = wishes(merged(self.schema, [each.world for each in found.focus]), environment)
        problem = ""
        for wanted in (hoped, []):
            try:
                model = self.solving.model(found.goal, worlds, wanted)
                if model is None:
                    continue
                example = Decoding(self.schema, environment, whole, model).example()
            except (ValueError, Unsupported) as error:
                problem = str(error)
                continue
            word = engine.decide(example)
            if not word.problem and as_claimed(word):
                return Shown(example, word)
            problem = word.problem or "it decided otherwise"
        if not problem:
            return "no example was found in time"
        open = [
            f"{each.statement.id} uses {each.unsupported}" for each in encoded if each.unsupported
        ]
        if open:
            return "; ".join(dict.fromkeys(open))
        _log.error("the engine did not confirm an example for %s: %s", environment.name, problem)
        return "the engine did not confirm the example"


def forbidden(encoded: Iterable[Encoded]) -> Term:
    return disjunction(each.forbids for each in encoded if each.statement.forbids)


def permitted(encoded: Iterable[Encoded]) -> Term:
    return disjunction(each.satisfied for each in encoded if not each.statement.forbids)


def allowed(encoded: Sequence[Encoded]) -> Term:
    return both(permitted(encoded), negation(forbidden(encoded)))
