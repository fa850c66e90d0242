"""Places to run what we do not trust. `container` isolates; `process` does not, and says so."""
