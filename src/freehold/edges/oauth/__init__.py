"""The two addresses that a person's browser visits on its way to an OAuth provider and back."""
