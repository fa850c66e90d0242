"""JSON bodies. A plan has only what differs between the caller's JSON and the service's."""

from typing import Any

from freehold.adapters.targets.smithy.plan import Aggregate, Slot
from freehold.adapters.targets.smithy.scalars import BadArgument, read_time, written_time

Shapes = dict[str, Aggregate]


def written(value: Any, slot: Slot, shapes: Shapes, where: str) -> Any:
    """Raises BadArgument."""
    if value is None:  # of a sparse list or map
        return None
    if slot.kind == "timestamp":
        return written_time(value, slot.format, where)
    if not slot.shape:
        return value
    return written_aggregate(value, shapes[slot.shape], shapes, where)


def written_aggregate(value: Any, shape: Aggregate, shapes: Shapes, where: str) -> Any:
    slots = shape.members
    if shape.kind == "list":
        if not isinstance(value, list):
            raise BadArgument(f"{where} has to be a list")
        slot = slots["member"]
        return [written(v, slot, shapes, f"{where}[{i}]") for i, v in enumerate(value)]
    if not isinstance(value, dict):
        raise BadArgument(f"{where} has to be an object")
    if shape.kind == "map":
        slot = slots["value"]
        return {k: written(v, slot, shapes, f"{where}.{k}") for k, v in value.items()}
    if not slots:
        return value
    made = {}
    for name, entry in value.items():
        found = slots.get(name)
        if found is None:
            made[name] = entry
        else:
            made[found.wire] = written(entry, found, shapes, f"{where}.{name}")
    return made


def read(value: Any, slot: Slot, shapes: Shapes) -> Any:
    if slot.kind == "timestamp":
        return read_time(value)
    if not slot.shape or value is None:
        return value
    return read_aggregate(value, shapes[slot.shape], shapes)


def read_aggregate(value: Any, shape: Aggregate, shapes: Shapes) -> Any:
    """What is not as the model says stays as it is: whoever called sees what came."""
    slots = shape.members
    if shape.kind == "list" and isinstance(value, list):
        slot = slots["member"]
        return [read(v, slot, shapes) for v in value]
    if shape.kind == "list" or not isinstance(value, dict):
        return value
    if shape.kind == "map":
        slot = slots["value"]
        return {k: read(v, slot, shapes) for k, v in value.items()}
    made = dict(value)
    for name, slot in slots.items():
        if slot.wire in value:
            entry = made.pop(slot.wire) if slot.wire != name else value[name]
            made[name] = read(entry, slot, shapes)
    return made


def without_nulls(value: Any) -> Any:
    """A member that is null is one that is not there; an entry of a list stays in its place."""
    if isinstance(value, dict):
        return {k: without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [without_nulls(v) for v in value]
    return value
