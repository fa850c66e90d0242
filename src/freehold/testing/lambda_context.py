"""Lambda's context object, as the fake gives it to its functions."""

import uuid
from typing import Any


class ClientContext:
    def __init__(self, given: dict[str, Any]) -> None:
        self.custom = given.get("custom")
        self.env = given.get("env")
        self.client = given.get("client")


class LambdaContext:
    def __init__(self, name: str, given: dict[str, Any]) -> None:
        self.function_name = name
        self.aws_request_id = str(uuid.uuid4())
        self.client_context = ClientContext(given)
