"""Proofs about Cedar policies, by SMT."""
