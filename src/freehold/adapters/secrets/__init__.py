"""Sealing secrets at rest: `ports.secrets.Sealer`."""
