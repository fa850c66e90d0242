"""Values that a target fixes or presets, in the schemas of arguments and in the arguments."""

from collections.abc import Callable, Sequence
from typing import Any

from freehold.ports.targets import Json


def without(schema: Json, values: Json) -> Json:
    """The schema without what `values` fix. An object that has members of its own left, or takes
    free ones, stays."""
    properties: Json = dict(schema.get("properties", {}))
    settled: set[str] = set()
    for name, value in values.items():
        inner = properties.get(name)
        if not isinstance(inner, dict):
            continue
        if isinstance(value, dict) and _is_open(rest := without(inner, value)):
            properties[name] = rest
            if not rest.get("required"):
                settled.add(name)
        else:
            del properties[name]
            settled.add(name)
    found = {**schema, "properties": properties}
    required = [name for name in schema.get("required", ()) if name not in settled]
    found.pop("required", None)
    if required:
        found["required"] = required
    return found


def with_defaults(schema: Json, values: Json) -> Json:
    """The schema with `values` as what is taken where an argument is missing."""
    properties: Json = dict(schema.get("properties", {}))
    for name, value in values.items():
        inner = properties.get(name)
        if isinstance(inner, dict):
            if isinstance(value, dict) and isinstance(inner.get("properties"), dict):
                properties[name] = with_defaults(inner, value)
            else:
                properties[name] = {**inner, "default": value}
    found = {**schema, "properties": properties}
    required = [name for name in schema.get("required", ()) if name not in values]
    found.pop("required", None)
    if required:
        found["required"] = required
    return found


def merged(below: Json, above: Json) -> Json:
    """Both, member by member of objects within; `above` counts where both say something."""
    found = dict(below)
    for name, value in above.items():
        under = found.get(name)
        both = isinstance(value, dict) and isinstance(under, dict)
        found[name] = merged(under, value) if both and under is not None else value
    return found


def changed(values: Json, path: Sequence[str], change: Callable[[str], Any]) -> Json:
    """With the text at `path` changed, where there is one."""
    first, *rest = path
    inner = values.get(first)
    if rest and isinstance(inner, dict):
        return {**values, first: changed(inner, rest, change)}
    if not rest and isinstance(inner, str):
        return {**values, first: change(inner)}
    return values


def at(values: Json, path: tuple[str, ...]) -> bool:
    """Whether something stands there."""
    inner: Any = values
    for step in path:
        if not isinstance(inner, dict) or step not in inner:
            return False
        inner = inner[step]
    return True


def split(values: Json, path: tuple[str, ...]) -> tuple[Json, Json]:
    """`values` without what stands at `path`, and that alone. It stands there."""
    first, *rest = path
    if not rest:
        return {k: v for k, v in values.items() if k != first}, {first: values[first]}
    left, taken = split(values[first], tuple(rest))
    others = {k: v for k, v in values.items() if k != first}
    if left:
        others[first] = left
    return others, {first: taken}


def property_at(schema: Json, path: tuple[str, ...]) -> Json | None:
    inner: Any = schema
    for step in path:
        properties = inner.get("properties") if isinstance(inner, dict) else None
        inner = properties.get(step) if isinstance(properties, dict) else None
    return inner if isinstance(inner, dict) else None


def changed_at(schema: Json, path: tuple[str, ...], members: Json | None) -> Json:
    """With `members` in the property at `path`; without that property, where there are none.
    It is there."""
    first, *rest = path
    properties: Json = dict(schema["properties"])
    required = list(schema.get("required", ()))
    if rest:
        properties[first] = changed_at(properties[first], tuple(rest), members)
    elif members is not None:
        properties[first] = {**properties[first], **members}
    else:
        del properties[first]
        required = [name for name in required if name != first]
    found = {**schema, "properties": properties}
    found.pop("required", None)
    if required:
        found["required"] = required
    return found


def steps(pointer: str) -> tuple[str, ...]:
    """Of a JSON Pointer (RFC 6901); a name without the slash before it is taken for one."""
    parts = pointer.removeprefix("/").split("/")
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in parts)


def _is_open(schema: Json) -> bool:
    if schema.get("properties"):
        return True
    free = schema.get("additionalProperties", schema.get("type") == "object")
    return bool(free) and schema.get("type") == "object"
