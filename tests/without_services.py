"""The platform's lists of operations, with nothing behind them."""

import dataclasses
import typing
from typing import Any

import msgspec

from freehold.processes.api import Services, aws_handlers, own_operations
from freehold.settings import load


def handled_operations() -> list[str]:
    """AWS operations that have a handler."""
    return sorted(aws_handlers(load({}), _nothing(Services)))


def native_operations() -> list[Any]:
    """Those of our own API that need authentication."""
    return [op for op in own_operations(load({}), _nothing(Services)) if not op.open]


def _nothing(kind: Any) -> Any:
    """What is put together of parts, of parts that are None in the end."""
    put_together = dataclasses.is_dataclass(kind) or hasattr(kind, "_fields")
    if not put_together and not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return None
    parts = typing.get_type_hints(kind)
    return kind(**{name: _nothing(part) for name, part in parts.items()})
