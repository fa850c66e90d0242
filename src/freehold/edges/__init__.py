"""Protocols that clients speak. Edges hold no domain logic and never import one another."""
