"""Programs that run inside sandboxes begun from a checkpoint: see docs/decisions/0011-gvisor.md."""
