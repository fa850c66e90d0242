"""What was said in a call of a model, read out of its raw request and answer. Pure.

In the form of OpenTelemetry's GenAI conventions: messages of a role and parts. What is of a shape
that is not known here is left out; the raw texts have it all the same.
"""

from freehold.ports.exchanges.reading import Wire, contents, wire_of_operation, wire_of_path

__all__ = ["Wire", "contents", "wire_of_operation", "wire_of_path"]
