"""The policy engine: Cedar."""
