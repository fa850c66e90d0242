"""Proofs in this process: what the child runs, and what tests and fuzzers call."""

from freehold.adapters.smt.analysis import analyse
from freehold.adapters.smt.claims import Claim, claim
from freehold.adapters.smt.comparison import compare

__all__ = ["Claim", "analyse", "claim", "compare"]
