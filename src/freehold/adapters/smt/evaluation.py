"""Cedar's expressions as terms, with what makes each fail.

Types are known for each environment, so that an expression of the wrong type is one that always
fails, as it does in the engine; where that is never reached, nothing comes of it.
"""

from collections.abc import Callable, Mapping
from typing import Any

from freehold.adapters.smt import extensions, sets
from freehold.adapters.smt.operators import BINARY
from freehold.adapters.smt.outcomes import FAILURE, Outcome, truth
from freehold.adapters.smt.schema import Environment, Schema
from freehold.adapters.smt.terms import (
    FALSE,
    TRUE,
    Term,
    Unsupported,
    boolean,
    both,
    choose,
    disjunction,
    either,
    folded,
    is_false,
    is_true,
    negation,
    number,
    out_of_range,
    same,
    text,
    z3,
)
from freehold.adapters.smt.types import BOOL, LONG, STRING, Attribute, Kind, Type, entity
from freehold.adapters.smt.values import (
    RecordOf,
    Scalar,
    SetOf,
    Value,
    chosen,
    presence,
    symbol,
    tag_path,
    type_of,
    unknown,
    within,
)
from freehold.adapters.smt.world import World
from freehold.ports.policies import Uid

DEPTH_MAX = 100


class Evaluation:
    """Of one policy in one environment."""

    def __init__(self, environment: Environment, world: World, *, sure: bool = True) -> None:
        """`sure`: the store has the request's principal and resource."""
        self._environment = environment
        self.world = world
        self.principal = Scalar(
            entity(environment.principal), unknown("principal", z3.StringSort())
        )
        self.resource = Scalar(entity(environment.resource), unknown("resource", z3.StringSort()))
        for each in (self.principal, self.resource):
            choices = world.schema.entities[each.type.name].choices
            if choices is not None:
                world.require(disjunction(same(each.term, text(id)) for id in choices))
        self.action = Scalar(entity(environment.action.type), text(environment.action.id))
        self.context = symbol(world, environment.context, "context")
        self._depth = 0
        world.sure = (self.principal, self.resource) if sure else ()

    @property
    def schema(self) -> Schema:
        return self.world.schema

    def of(self, expression: Mapping[str, Any]) -> Outcome:
        ((operator, operands),) = expression.items()
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise Unsupported("an expression that is nested too deeply")
        try:
            return self._of(operator, operands)
        finally:
            self._depth -= 1

    def _of(self, operator: str, operands: Any) -> Outcome:
        if operator in _SPECIAL:
            return _SPECIAL[operator](self, operands)
        if operator in BINARY or operator in _OF_ENTITIES:
            left, right = self.of(operands["left"]), self.of(operands["right"])
            if left.value is None or right.value is None:
                return FAILURE
            if operator in BINARY:
                done = BINARY[operator](self.world, left.value, right.value)
            else:
                done = _OF_ENTITIES[operator](self, left.value, right.value)
            return _with(done, either(left.fails, right.fails))
        if isinstance(operands, list):
            return self._function(operator, operands)
        raise Unsupported(f"the operator {operator!r}")

    def truth(self, expression: Mapping[str, Any]) -> tuple[Term, Term]:
        """The expression as a Bool; what is none, fails."""
        return _truth(self.of(expression))

    def _function(self, name: str, operands: list[Any]) -> Outcome:
        if name in extensions.CONSTRUCTORS:
            return Outcome(extensions.constructed(name, operands))
        if name not in extensions.FUNCTIONS:
            raise Unsupported(f"the function {name!r}")
        outcomes = [self.of(operand) for operand in operands]
        values = [outcome.value for outcome in outcomes if outcome.value is not None]
        if len(values) < len(outcomes):
            return FAILURE
        done = extensions.FUNCTIONS[name](*values)
        return _with(done, disjunction(outcome.fails for outcome in outcomes))

    def belongs(self, low: Value, high: Value) -> Term | None:
        """`low in high`; None where it fails. The groups of actions are the schema's."""
        if not _is_entity(low):
            return None
        if isinstance(high, SetOf):
            if high.literal is None:
                if high.type.element is None or high.type.element.kind is not Kind.ENTITY:
                    return None
                return sets.some(self.world, high, lambda each: self._is_in(low, each))
            if not all(_is_entity(each) for each in high.literal):
                return None
            return disjunction(self._is_in(low, each) for each in high.literal)
        return self._is_in(low, high) if _is_entity(high) else None

    def _is_in(self, low: Value, high: Value) -> Term:
        assert isinstance(low, Scalar)
        assert isinstance(high, Scalar)
        if low.type.name.rpartition("::")[2] != "Action":
            return self.world.is_in(low, high)
        if not low.term.eq(self.action.term) or low.type != self.action.type:
            raise Unsupported("`in` of an action other than the request's")
        above = (Scalar(entity(uid.type), text(uid.id)) for uid in self._environment.above)
        return disjunction(sets.equal(self.world, each, high) for each in (low, *above))

    def attribute(self, whole: Value, name: str) -> tuple[Term, Value | None] | None:
        """Whether it is there, and its value if it can be; None of what has no attributes."""
        if isinstance(whole, RecordOf):
            return whole.field(name) if name in whole.type.attributes else (FALSE, None)
        if not isinstance(whole, Scalar) or whole.type.kind is not Kind.ENTITY:
            return None
        declared = self._declared(whole.type)
        if declared is None or name not in declared.attributes:
            return FALSE, None
        attribute: Attribute = declared.attributes[name]
        path = within(whole.type.name, name)
        there = self.world.exists(whole)
        if not attribute.required:
            there = both(there, presence(self.world, path, (whole.term,)))
        value = symbol(self.world, attribute.type, path, (whole.term,))
        if name == "id" and attribute.type == STRING and whole.type.name in self.schema.own_ids:
            assert isinstance(value, Scalar)
            self.world.require(value.term == whole.term)
        return there, value

    def _declared(self, type: Type) -> Type | None:
        known = self.schema.entities.get(type.name)
        if known is None:
            raise Unsupported(f"attributes of {type.name}")
        return known.attributes

    def tag(self, whole: Value, key: Value) -> tuple[Term, Value | None] | None:
        if not _is_entity(whole) or type_of(key) != STRING:
            return None
        assert isinstance(whole, Scalar)
        assert isinstance(key, Scalar)
        known = self.schema.entities.get(whole.type.name)
        if known is None:
            raise Unsupported(f"tags of {whole.type.name}")
        if known.tags is None:
            return FALSE, None
        args = (whole.term, key.term)
        self.world.keys.append((whole, key.term))
        there = presence(self.world, tag_path(whole.type), args)
        value = symbol(self.world, known.tags, tag_path(whole.type), args)
        return both(self.world.exists(whole), there), value


def _with(outcome: Outcome, fails: Term) -> Outcome:
    return Outcome(outcome.value, either(outcome.fails, fails))


def _truth(outcome: Outcome) -> tuple[Term, Term]:
    if not isinstance(outcome.value, Scalar) or outcome.value.type != BOOL:
        return FALSE, TRUE
    return outcome.value.term, outcome.fails


def _is_entity(value: Value) -> bool:
    return isinstance(value, Scalar) and value.type.kind is Kind.ENTITY


def _variable(evaluation: Evaluation, name: str) -> Outcome:
    held: dict[str, Value] = {
        "principal": evaluation.principal,
        "action": evaluation.action,
        "resource": evaluation.resource,
        "context": evaluation.context,
    }
    return Outcome(held[name])


def _value(evaluation: Evaluation, held: Any) -> Outcome:
    if isinstance(held, bool):
        return truth(boolean(held))
    if isinstance(held, int):
        return Outcome(Scalar(LONG, number(held)))
    if isinstance(held, str):
        return Outcome(Scalar(STRING, text(held)))
    if isinstance(held, dict) and "__entity" in held:
        return Outcome(named(Uid(held["__entity"]["type"], held["__entity"]["id"])))
    raise Unsupported("a constant of a kind that is not known")


def named(uid: Uid) -> Scalar:
    return Scalar(entity(uid.type), text(uid.id))


def _and(evaluation: Evaluation, operands: Any) -> Outcome:
    value, fails = TRUE, FALSE
    for operand in _chain("&&", operands):
        right, right_fails = evaluation.truth(operand)
        value, fails = both(value, right), either(fails, both(value, right_fails))
        if is_false(value) or is_true(fails):
            break
    return truth(value, fails)


def _or(evaluation: Evaluation, operands: Any) -> Outcome:
    value, fails = FALSE, FALSE
    for operand in _chain("||", operands):
        right, right_fails = evaluation.truth(operand)
        fails = either(fails, both(negation(value), right_fails))
        value = either(value, right)
        if is_true(value) or is_true(fails):
            break
    return truth(value, fails)


def _chain(operator: str, operands: Any) -> list[Any]:
    """`a && b && c`, which comes nested to the left, as deep as the policy is long."""
    found = [operands["right"]]
    left = operands["left"]
    while operator in left:
        found.append(left[operator]["right"])
        left = left[operator]["left"]
    return [left, *reversed(found)]


def _not(evaluation: Evaluation, operands: Any) -> Outcome:
    value, fails = evaluation.truth(operands["arg"])
    return truth(negation(value), fails)


def _if(evaluation: Evaluation, operands: Any) -> Outcome:
    condition, fails = evaluation.truth(operands["if"])
    if is_true(fails):
        return FAILURE
    if is_true(condition) or is_false(condition):
        return _with(evaluation.of(operands["then" if is_true(condition) else "else"]), fails)
    then, otherwise = evaluation.of(operands["then"]), evaluation.of(operands["else"])
    fails = either(fails, choose(condition, then.fails, otherwise.fails))
    if then.value is None or otherwise.value is None:
        return Outcome(then.value or otherwise.value, fails)
    return Outcome(chosen(condition, then.value, otherwise.value), fails)


def _negative(evaluation: Evaluation, operands: Any) -> Outcome:
    inner = evaluation.of(operands["arg"])
    if not isinstance(inner.value, Scalar) or inner.value.type != LONG:
        return FAILURE
    value = folded(-inner.value.term)
    return Outcome(Scalar(LONG, value), either(inner.fails, out_of_range(value)))


def _get(evaluation: Evaluation, operands: Any) -> Outcome:
    whole = evaluation.of(operands["left"])
    if whole.value is None:
        return FAILURE
    found = evaluation.attribute(whole.value, operands["attr"])
    if found is None or found[1] is None:
        return FAILURE
    return Outcome(found[1], either(whole.fails, negation(found[0])))


def _has(evaluation: Evaluation, operands: Any) -> Outcome:
    whole = evaluation.of(operands["left"])
    if whole.value is None:
        return FAILURE
    found = evaluation.attribute(whole.value, operands["attr"])
    return FAILURE if found is None else truth(found[0], whole.fails)


def _is(evaluation: Evaluation, operands: Any) -> Outcome:
    whole = evaluation.of(operands["left"])
    if whole.value is None or not _is_entity(whole.value):
        return FAILURE
    if type_of(whole.value).name != operands["entity_type"]:
        return truth(FALSE, whole.fails)
    if "in" not in operands:
        return truth(TRUE, whole.fails)
    group = evaluation.of(operands["in"])
    belongs = None if group.value is None else evaluation.belongs(whole.value, group.value)
    if belongs is None:
        return FAILURE
    return truth(belongs, either(whole.fails, group.fails))


def _like(evaluation: Evaluation, operands: Any) -> Outcome:
    whole = evaluation.of(operands["left"])
    if not isinstance(whole.value, Scalar) or whole.value.type != STRING:
        return FAILURE
    pieces: list[str | None] = []
    for part in operands["pattern"]:
        piece = None if part == "Wildcard" else part["Literal"]
        if pieces and piece is not None and pieces[-1] is not None:
            pieces[-1] += piece
        elif not (pieces and piece is None and pieces[-1] is None):
            pieces.append(piece)
    return truth(_matches(whole.value.term, pieces), whole.fails)


def _matches(term: Term, pieces: list[str | None]) -> Term:
    """None in the pieces stands for any text."""
    if all(piece is not None for piece in pieces):
        return same(term, text("".join(piece or "" for piece in pieces)))
    # Written as `.*` the solver would make word equations of it, on which it can spend minutes.
    anything = z3.Union(z3.Re(""), z3.Plus(z3.AllChar(z3.ReSort(z3.StringSort()))))
    parts = [anything if piece is None else z3.Re(text(piece)) for piece in pieces]
    matches = z3.InRe(term, parts[0] if len(parts) == 1 else z3.Concat(*parts))
    return TRUE if len(parts) == 1 else folded(matches)


def _set(evaluation: Evaluation, operands: Any) -> Outcome:
    outcomes = [evaluation.of(operand) for operand in operands]
    values = tuple(outcome.value for outcome in outcomes if outcome.value is not None)
    if len(values) < len(outcomes):
        return FAILURE
    fails = disjunction(outcome.fails for outcome in outcomes)
    return Outcome(sets.listed(evaluation.world, values), fails)


def _record(evaluation: Evaluation, operands: Any) -> Outcome:
    outcomes = {name: evaluation.of(operand) for name, operand in operands.items()}
    values = {name: each.value for name, each in outcomes.items() if each.value is not None}
    if len(values) < len(outcomes):
        return FAILURE
    attributes = {name: Attribute(type_of(value), True) for name, value in values.items()}
    record = RecordOf(Type(Kind.RECORD, attributes=attributes), lambda name: (TRUE, values[name]))
    return Outcome(record, disjunction(each.fails for each in outcomes.values()))


def _is_empty(evaluation: Evaluation, operands: Any) -> Outcome:
    inner = evaluation.of(operands["arg"])
    if not isinstance(inner.value, SetOf):
        return FAILURE
    return truth(sets.is_empty(evaluation.world, inner.value), inner.fails)


def _in(evaluation: Evaluation, left: Value, right: Value) -> Outcome:
    belongs = evaluation.belongs(left, right)
    return FAILURE if belongs is None else truth(belongs)


def _has_tag(evaluation: Evaluation, left: Value, right: Value) -> Outcome:
    found = evaluation.tag(left, right)
    return FAILURE if found is None else truth(found[0])


def _get_tag(evaluation: Evaluation, left: Value, right: Value) -> Outcome:
    found = evaluation.tag(left, right)
    if found is None or found[1] is None:
        return FAILURE
    return Outcome(found[1], negation(found[0]))


_OF_ENTITIES: dict[str, Callable[[Evaluation, Value, Value], Outcome]] = {
    "in": _in,
    "hasTag": _has_tag,
    "getTag": _get_tag,
}

_SPECIAL: dict[str, Callable[[Evaluation, Any], Outcome]] = {
    "Var": _variable,
    "Value": _value,
    "&&": _and,
    "||": _or,
    "!": _not,
    "if-then-else": _if,
    "neg": _negative,
    ".": _get,
    "has": _has,
    "is": _is,
    "like": _like,
    "Set": _set,
    "Record": _record,
    "isEmpty": _is_empty,
}
