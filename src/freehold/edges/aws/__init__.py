"""The AWS edge: AgentCore's REST APIs, derived from the models that botocore ships."""
