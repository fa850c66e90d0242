"""CloudWatch Logs' protocol: AWS JSON 1.1."""
