"""The language runtimes that agents ask for by name, as this machine has them."""

from typing import Protocol

import msgspec

from freehold.ports.sandbox import Mount


class Interpreter(msgspec.Struct, frozen=True):
    """`name` as AgentCore writes it: PYTHON_3_12, NODE_22. `executable` goes in `command[0]`.

    `mounts` is what a sandbox needs to see of it beside /usr. Sandbox drivers that were given
    the interpreter add them themselves.
    """

    name: str
    version: str
    executable: str
    mounts: tuple[Mount, ...] = ()


class Interpreters(Protocol):
    def discover(self) -> dict[str, Interpreter]:
        """By name. Slow the first time (each is run once); call it in a thread."""
