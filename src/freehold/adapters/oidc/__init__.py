"""Verifying tokens that OpenID providers signed: `ports.tokens.TokenVerifier`."""
