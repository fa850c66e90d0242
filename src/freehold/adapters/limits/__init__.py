"""Rate limits: `ports.limits`."""
