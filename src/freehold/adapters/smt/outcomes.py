"""What an expression comes to."""

from typing import NamedTuple

from freehold.adapters.smt.terms import FALSE, TRUE, Term
from freehold.adapters.smt.types import BOOL
from freehold.adapters.smt.values import Scalar, Value


class Outcome(NamedTuple):
    """`value` means something where `fails` is false; None where it always fails."""

    value: Value | None
    fails: Term = FALSE


FAILURE = Outcome(None, TRUE)


def truth(term: Term, fails: Term = FALSE) -> Outcome:
    return Outcome(Scalar(BOOL, term), fails)
