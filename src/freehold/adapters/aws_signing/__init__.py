"""Requests to AWS, signed with keys that the operator gave to roles."""
