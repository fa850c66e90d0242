"""`freehold gateway`: one governed MCP endpoint over APIs, functions, MCP servers and models."""
