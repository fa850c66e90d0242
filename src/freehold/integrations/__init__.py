"""What runs in agents, not in the platform: nothing here is imported by it, and nothing here needs
it. Each file can be copied beside an agent."""
