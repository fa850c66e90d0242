"""CloudWatch Logs' shape over spans and log records, as AgentCore's clients read them."""
