"""`freehold memory`: what agents remember, where it comes from, and how to take it away."""
