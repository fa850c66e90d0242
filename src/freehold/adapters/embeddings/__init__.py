"""Texts as vectors: `ports.embeddings`."""
