"""Freehold: the agent platform that you own."""

__version__ = "0.1.0"
