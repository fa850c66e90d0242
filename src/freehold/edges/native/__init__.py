"""Our own API under /freehold/v1: what AWS has no operation for."""
