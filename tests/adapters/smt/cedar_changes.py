"""Changes that people make to policies: some that matter, some that look as if they did."""

import random
import re
from collections.abc import Sequence

import cedarpy
from cedar_fuzz import Author

from freehold.ports.policies import Rule

_SWAPS = (
    ("<=", "<"), ("<", "<="), (">=", ">"), ("&&", "||"), ("||", "&&"), ("==", "!="),
    ("when", "unless"), ("unless", "when"), ("true", "false"), ("lessThan", "lessThanOrEqual"),
    ("containsAll", "containsAny"), ("contains(", "containsAll(["),
)  # fmt: skip
_NUMBER = re.compile(r'(?<![\w".:-])\d{1,6}(?![\w".:])')


def changed(author: Author, rules: Sequence[Rule], seed: int) -> list[Rule]:
    """Another version of the set. Its rules fit the schema as the old ones did."""
    pick = random.Random(seed)
    form = pick.choice(["edit", "edit", "edit", "number", "drop", "add", "order", "same", "twice"])
    place = pick.randrange(len(rules))
    rule = rules[place]
    rest = [*rules[:place], *rules[place + 1 :]]
    if form == "drop":
        return rest
    if form == "add":
        return [*rules, author.rule("added")]
    if form == "order":
        return list(reversed(rules))
    if form == "twice":
        return [*rules, Rule(id="copy", statement=rule.statement)]
    if form == "same":
        return [*rest, Rule(id=rule.id, statement=_rewritten(rule.statement))]
    for _ in range(20):
        statement = _edited(rule.statement, pick, form)
        if statement != rule.statement and _fits(author, statement):
            return [*rest, Rule(id=rule.id, statement=statement)]
    return [*rest, author.rule(rule.id)]


def _edited(statement: str, pick: random.Random, form: str) -> str:
    if form == "number" and (numbers := list(_NUMBER.finditer(statement))):
        found = pick.choice(numbers)
        value = int(found[0]) + pick.choice([1, -1, 10])
        return f"{statement[: found.start()]}{max(0, value)}{statement[found.end() :]}"
    old, new = pick.choice(_SWAPS)
    places = [found.start() for found in re.finditer(re.escape(old), statement)]
    if not places:
        return statement
    at = pick.choice(places)
    return statement[:at] + new + statement[at + len(old) :]


def _rewritten(statement: str) -> str:
    """Says the same: every condition `x` becomes `!!(x) && true`."""
    return re.sub(
        r"\b(when|unless) \{ (.*?) \}(?=;| when| unless)", r"\1 { !!(\2) && true }", statement
    )


def _fits(author: Author, statement: str) -> bool:
    try:
        return cedarpy.validate_policies(statement, author.schema).validation_passed
    except ValueError:
        return False
