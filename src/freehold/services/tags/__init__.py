"""Tags of every kind of resource, by ARN."""
