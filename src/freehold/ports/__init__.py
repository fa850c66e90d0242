"""What Freehold needs from the world: a Protocol a file, its adapters under one contract suite."""
