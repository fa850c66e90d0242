"""Calls through a gateway that are no MCP: HTTP targets, agents, models."""
