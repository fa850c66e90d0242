"""Forms of awsQuery and ec2Query: one name per value, numbered where there are several."""

from typing import Any

from freehold.adapters.targets.smithy.plan import Aggregate, Slot
from freehold.adapters.targets.smithy.scalars import BadArgument, text

Shapes = dict[str, Aggregate]
Pairs = list[tuple[str, str]]


class Form:
    """`pairs` is the form so far."""

    def __init__(self, shapes: Shapes, pairs: Pairs, *, ec2: bool) -> None:
        self._shapes, self.pairs, self._ec2 = shapes, pairs, ec2

    def add_members(self, value: Any, shape: Aggregate, prefix: str) -> None:
        """Raises BadArgument."""
        if not isinstance(value, dict):
            raise BadArgument(f"{prefix or 'the input'} has to be an object")
        for name, entry in value.items():
            slot = shape.members.get(name)
            if slot is not None and entry is not None:
                self._add(entry, slot, f"{prefix}.{slot.wire}" if prefix else slot.wire)

    def _add(self, value: Any, slot: Slot, prefix: str) -> None:
        if not slot.shape:
            self.pairs.append((prefix, text(value, slot.kind, slot.format, prefix)))
            return
        shape = self._shapes[slot.shape]
        if shape.kind == "list":
            self._add_list(value, shape, prefix, is_flat=slot.flat)
        elif shape.kind == "map":
            self._add_map(value, shape, prefix, is_flat=slot.flat)
        else:
            self.add_members(value, shape, prefix)

    def _add_list(self, value: Any, shape: Aggregate, prefix: str, *, is_flat: bool) -> None:
        if not isinstance(value, list):
            raise BadArgument(f"{prefix} has to be a list")
        if not value and not self._ec2:
            self.pairs.append((prefix, ""))
        member = shape.members["member"]
        if not is_flat:
            prefix = f"{prefix}.{member.wire}"
        for number, entry in enumerate(value, 1):
            self._add(entry, member, f"{prefix}.{number}")

    def _add_map(self, value: Any, shape: Aggregate, prefix: str, *, is_flat: bool) -> None:
        if not isinstance(value, dict):
            raise BadArgument(f"{prefix} has to be an object")
        key, content = shape.members["key"], shape.members["value"]
        if not is_flat:
            prefix = f"{prefix}.entry"
        for number, (name, entry) in enumerate(value.items(), 1):
            self.pairs.append((f"{prefix}.{number}.{key.wire}", name))
            self._add(entry, content, f"{prefix}.{number}.{content.wire}")
