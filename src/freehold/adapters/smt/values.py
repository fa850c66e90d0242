"""Symbolic values of Cedar, and the unknowns that stand for what a request holds."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias
from urllib.parse import quote

from freehold.adapters.smt import literals
from freehold.adapters.smt.terms import (
    FALSE,
    LONG_MAX,
    LONG_MIN,
    TRUE,
    Term,
    Unsupported,
    both,
    choose,
    either,
    implies,
    is_false,
    is_true,
    negation,
    number,
    same,
    text,
    z3,
)
from freehold.adapters.smt.types import ADDRESS, COUNTED, Attribute, Kind, Type, shape
from freehold.adapters.smt.world import World

ADDRESS_BITS = 128
PREFIX_BITS = 8


class Scalar(NamedTuple):
    """An entity's term is its id."""

    type: Type
    term: Term


class Network(NamedTuple):
    """An ip address and its prefix. Of IPv4 only the low 32 bits are used."""

    v6: Term
    bits: Term
    prefix: Term


class SetOf(NamedTuple):
    """Known by its members. `literal` lists all of them, where that can be seen."""

    type: Type
    member: "Callable[[Value], Term]"
    literal: "tuple[Value, ...] | None" = None


class RecordOf(NamedTuple):
    """`field` gives whether an attribute of the type is there, and its value if it is."""

    type: Type
    field: "Callable[[str], tuple[Term, Value]]"


Value: TypeAlias = Scalar | Network | SetOf | RecordOf


def type_of(value: Value) -> Type:
    return ADDRESS if isinstance(value, Network) else value.type


def within(path: str, name: str) -> str:
    # `quote` leaves dots as they are: "a.b" must not be the b of a.
    return f"{path}.{quote(name, safe='').replace('.', '%2E')}"


def tag_path(type: Type) -> str:
    return f"{type.name} tag"


def symbol(world: World, type: Type, path: str, args: tuple[Term, ...] = ()) -> Value:
    """The unknown at `path`; with arguments, the one that belongs to them (an entity's id)."""
    path = world.schema.same.get(path, path)
    world.note(path, type, args)
    if type.kind is Kind.RECORD:
        return RecordOf(type, _fields(world, type, path, args))
    if type.kind is Kind.SET:
        # Sets of sets are refused where their members matter, so that `has` may still ask for one.
        return SetOf(type, lambda value: _membership(_element(type), path, args, value))
    if type.kind is Kind.ADDRESS:
        network = Network(
            unknown(f"{path}/v6", z3.BoolSort(), args),
            unknown(f"{path}/bits", z3.BitVecSort(ADDRESS_BITS), args),
            unknown(f"{path}/prefix", z3.BitVecSort(PREFIX_BITS), args),
        )
        world.require(_is_address(network))
        return network
    term = unknown(path, sort_of(type), args)
    world.require(_in_range(world, type, term))
    return Scalar(type, term)


def presence(world: World, path: str, args: tuple[Term, ...] = ()) -> Term:
    """Whether what is at `path`, and may be missing, is there."""
    there = unknown(f"{path}?", z3.BoolSort(), args)
    world.optional.append(there)
    return there


def unknown(name: str, sort: Term, args: Sequence[Term] = ()) -> Term:
    if not args:
        return z3.Const(name, sort)
    return z3.Function(name, *(arg.sort() for arg in args), sort)(*args)


def sort_of(type: Type) -> Term:
    if type.kind is Kind.BOOL:
        return z3.BoolSort()
    if type.kind in COUNTED:
        return z3.IntSort()
    if type.kind in (Kind.STRING, Kind.ENTITY):
        return z3.StringSort()
    raise AssertionError(type.kind)


def _fields(
    world: World, type: Type, path: str, args: tuple[Term, ...]
) -> "Callable[[str], tuple[Term, Value]]":
    made: dict[str, tuple[Term, Value]] = {}

    def field(name: str) -> tuple[Term, Value]:
        if name not in made:
            attribute: Attribute = type.attributes[name]
            inner = within(path, name)
            there = TRUE if attribute.required else presence(world, inner, args)
            made[name] = there, symbol(world, attribute.type, inner, args)
        return made[name]

    return field


def _membership(element: Type, path: str, args: tuple[Term, ...], value: Value) -> Term:
    fits, leaves = leaves_as(value, element)
    if is_false(fits):
        return FALSE
    return both(fits, unknown(f"{path} contains", z3.BoolSort(), (*args, *leaves)))


def _element(type: Type) -> Type:
    assert type.element is not None
    if _holds_set(type.element):
        raise Unsupported("sets of sets")
    return type.element


def _holds_set(type: Type) -> bool:
    return type.kind is Kind.SET or any(_holds_set(each.type) for each in type.attributes.values())


def _in_range(world: World, type: Type, term: Term) -> Term:
    if type.kind is Kind.DATETIME:
        return z3.And(term >= literals.INSTANT_MIN, term <= literals.INSTANT_MAX)
    if type.kind in COUNTED:
        return z3.And(term >= LONG_MIN, term <= LONG_MAX)
    if type.kind is Kind.ENTITY:
        known = world.schema.entities.get(type.name)
        if known is not None and known.choices is not None:
            return either(*(same(term, text(choice)) for choice in known.choices))
    return TRUE


def _is_address(network: Network) -> Term:
    four = z3.And(z3.ULE(network.prefix, 32), z3.ULE(network.bits, (1 << 32) - 1))
    return choose(network.v6, z3.ULE(network.prefix, 128), four)


def network(value: literals.Address) -> Network:
    return Network(
        TRUE if value.v6 else FALSE,
        z3.BitVecVal(value.bits, ADDRESS_BITS),
        z3.BitVecVal(value.prefix, PREFIX_BITS),
    )


def leaves_as(value: Value, type: Type) -> tuple[Term, list[Term]]:
    """Whether the value can be of the type, and what it is made of: equal values have equal leaves.

    What stands for an attribute that is absent is the same for all.
    """
    if shape(type_of(value)) != shape(type):
        return FALSE, []
    if isinstance(value, Scalar):
        return TRUE, [value.term]
    if isinstance(value, Network):
        return TRUE, list(value)
    if isinstance(value, SetOf):
        raise Unsupported("sets of sets")
    fits, leaves = TRUE, []
    for name in sorted(value.type.attributes.keys() - type.attributes.keys()):
        fits = both(fits, negation(value.field(name)[0]))
    for name, attribute in sorted(type.attributes.items()):
        there: Term = FALSE
        inner: list[Term] = []
        if name in value.type.attributes:
            there, held = value.field(name)
            inner_fits, inner = leaves_as(held, attribute.type)
            fits = both(fits, implies(there, inner_fits))
        if attribute.required:
            fits = both(fits, there)
        else:
            leaves.append(there)
        nothing = _nothing(attribute.type)
        leaves.extend(choose(there, a, b) for a, b in zip(inner or nothing, nothing, strict=True))
    return fits, leaves


def _nothing(type: Type) -> list[Term]:
    if type.kind is Kind.RECORD:
        found: list[Term] = []
        for _, attribute in sorted(type.attributes.items()):
            found += ([] if attribute.required else [FALSE]) + _nothing(attribute.type)
        return found
    if type.kind is Kind.ADDRESS:
        return list(network(literals.Address(False, 0, 32)))
    if type.kind is Kind.BOOL:
        return [FALSE]
    return [number(0) if type.kind in COUNTED else text("")]


def chosen(condition: Term, then: Value, otherwise: Value) -> Value:
    """`then` where the condition holds. Raises Unsupported where the two are of different types."""
    if is_true(condition):
        return then
    if is_false(condition):
        return otherwise
    if isinstance(then, Scalar) and isinstance(otherwise, Scalar) and then.type == otherwise.type:
        return Scalar(then.type, choose(condition, then.term, otherwise.term))
    if isinstance(then, Network) and isinstance(otherwise, Network):
        return Network(*(choose(condition, a, b) for a, b in zip(then, otherwise, strict=True)))
    if isinstance(then, SetOf) and isinstance(otherwise, SetOf):
        a, b = then, otherwise
        kind = a.type if a.type.element is not None else b.type
        return SetOf(kind, lambda value: choose(condition, a.member(value), b.member(value)))
    if isinstance(then, RecordOf) and isinstance(otherwise, RecordOf):
        return _chosen_record(condition, then, otherwise)
    raise Unsupported("an if whose branches are of different types")


def _chosen_record(condition: Term, then: RecordOf, otherwise: RecordOf) -> RecordOf:
    names = then.type.attributes.keys() | otherwise.type.attributes.keys()
    attributes = {
        name: then.type.attributes.get(name) or otherwise.type.attributes[name] for name in names
    }

    def field(name: str) -> tuple[Term, Value]:
        if name not in otherwise.type.attributes:
            there, value = then.field(name)
            return both(condition, there), value
        if name not in then.type.attributes:
            there, value = otherwise.field(name)
            return both(negation(condition), there), value
        (a_there, a), (b_there, b) = then.field(name), otherwise.field(name)
        return choose(condition, a_there, b_there), chosen(condition, a, b)

    return RecordOf(Type(Kind.RECORD, attributes=attributes), field)
