"""Calls of the platform's own agents and gateways, which never leave the process."""

from typing import Protocol

from freehold.kernel.caller import Caller
from freehold.ports.targets import RequestSigner


class InnerCalls(Protocol):
    def signer(self, caller: Caller) -> RequestSigner:
        """Signs requests as `caller`, whom we know already: what it adds is worth nothing outside
        this process, and is taken once, for the very request that it was made for."""
