"""Functions that are Python, in this process: what parts of a gateway call, and what they send."""

from collections.abc import Callable
from typing import Any

from freehold.ports.functions import FunctionFailed, Invoked

PREFIX = "arn:aws:lambda:us-east-1:111122223333:function:"


class PythonFunctions:
    """`ports.functions.Functions`."""

    def __init__(self, **functions: Callable[[Any], Any]) -> None:
        self._functions = functions
        self.calls: list[Invoked] = []

    async def invoke(self, invoked: Invoked) -> Any:
        self.calls.append(invoked)
        try:
            return self._functions[invoked.arn.removeprefix(PREFIX)](invoked.event)
        except ValueError as error:
            raise FunctionFailed(str(error), type=type(error).__name__) from error
