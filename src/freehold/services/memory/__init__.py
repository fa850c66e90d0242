"""Memory of agents: what was said, what was learned from it, and how it is found again."""
