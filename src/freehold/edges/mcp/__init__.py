"""The Model Context Protocol, as gateways speak it to their clients."""
