"""Credential providers, their secrets, and the keys around them."""
