"""Talking to an agent inside its sandbox."""
