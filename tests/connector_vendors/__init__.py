"""Stand-ins for the vendors of connectors, from their published descriptions: see README.md."""
