"""What was said in a call of a model, read out of its raw request and answer. Pure.

In the form of OpenTelemetry's GenAI conventions: messages of a role and parts. What is of a shape
that is not known here is left out; the raw texts have it all the same, and can be sent again.
"""

from freehold.ports.exchanges.changing import changed
from freehold.ports.exchanges.raw import recorded, recorded_bytes
from freehold.ports.exchanges.reading import (
    Wire,
    contents,
    raw_contents,
    wire_of_operation,
    wire_of_path,
)

__all__ = [
    "Wire",
    "changed",
    "contents",
    "raw_contents",
    "recorded",
    "recorded_bytes",
    "wire_of_operation",
    "wire_of_path",
]
