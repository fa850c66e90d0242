"""What Freehold needs from the world: one Protocol a file, each with adapters and one contract suite."""
