"""`freehold trace`: what agents did, step by step, and why."""
