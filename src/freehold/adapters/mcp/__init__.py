"""The client of MCP servers that stand behind a gateway: `ports.targets.McpServerClient`."""
