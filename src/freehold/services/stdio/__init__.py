"""MCP servers that speak over standard input and output."""
