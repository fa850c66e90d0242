"""What was done and decided, for good."""
