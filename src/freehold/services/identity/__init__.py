"""AgentCore Identity: workload identities, their access tokens, and the keys that sign these."""
