"""The keywords of a schema one by one: what of each is taken, and in which form."""

from functools import lru_cache
from typing import Any, TypeGuard

import jsonschema_rs
import msgspec

Json = dict[str, Any]

TYPES = frozenset({"string", "number", "integer", "boolean", "array", "object", "null"})
ANNOTATIONS = frozenset({"title", "description", "default", "examples", "deprecated"})
ONE = ("not", "if", "then", "else", "contains", "propertyNames", "unevaluatedItems",
       "unevaluatedProperties", "contentSchema")  # fmt: skip
MANY = ("allOf", "anyOf", "oneOf", "prefixItems")
NAMED = ("properties", "patternProperties", "dependentSchemas")

_TEXTS = ("title", "description", "format", "contentEncoding", "contentMediaType")
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties",
           "minContains", "maxContains")  # fmt: skip
_EXAMPLE_BYTES_MAX = 400
_EXAMPLES_MAX = 3


def plain(value: Json) -> Json:
    """The keywords that hold no schemas. What has not the form that it should have is left out:
    one bad keyword would make the whole tool impossible to validate."""
    found: Json = {name: value[name] for name in _TEXTS if isinstance(value.get(name), str)}
    found |= {name: value[name] for name in ("const", "default") if name in value}
    found |= {name: True for name in ("uniqueItems", "deprecated") if value.get(name) is True}
    _bounds(value, found)
    pattern = value.get("pattern")
    if isinstance(pattern, str) and compiles(pattern):
        found["pattern"] = pattern
    if found.get("format") == "byte":
        del found["format"]
        found["contentEncoding"] = "base64"
    examples = _examples(value)
    if examples:
        found["examples"] = examples
    return found


def types(value: Json) -> list[str]:
    """Of `type`, and the `nullable` of 3.0 and its forerunners."""
    given = value.get("type")
    found = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    found = [t for t in found if isinstance(t, str) and t in TYPES | {"file"}]
    found = list(dict.fromkeys("string" if t == "file" else t for t in found))
    if found and is_nullable(value) and "null" not in found:
        found.append("null")
    return found


def is_nullable(value: Json) -> bool:
    return value.get("nullable") is True or value.get("x-nullable") is True


def choices(value: Json, allowed: list[str]) -> list[Any] | None:
    """`enum`. Numbers among the choices of a text are what YAML made of a text."""
    given = value.get("enum")
    if not isinstance(given, list) or not given:
        return None
    if "string" in allowed and not {"number", "integer", "boolean"} & set(allowed):
        given = [_as_text(each) for each in given]
    found: list[Any] = []
    seen: set[bytes] = set()
    for each in given:
        key = msgspec.json.encode(each)
        if key not in seen:
            seen.add(key)
            found.append(each)
    if "null" in allowed and None not in found:
        found.append(None)
    return found


def names(value: Any) -> list[str]:
    if not isinstance(value, list):
        return []
    return list(dict.fromkeys(each for each in value if isinstance(each, str)))


@lru_cache(maxsize=4096)
def compiles(pattern: str) -> bool:
    """Documents have patterns of every dialect of regular expressions."""
    try:
        jsonschema_rs.validator_for({"pattern": pattern})
    except ValueError:
        return False
    return True


def _bounds(value: Json, found: Json) -> None:
    for name in _NUMBERS:
        if _is_number(value.get(name)):
            found[name] = value[name]
    # Up to 3.0 `exclusiveMinimum` is a flag of `minimum`.
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if value.get(exclusive) is True and bound in found:
            found[exclusive] = found.pop(bound)
    for name in _COUNTS:
        count = value.get(name, -1)
        if _is_number(count) and count >= 0 and count == int(count):
            found[name] = int(count)
    multiple = value.get("multipleOf", 0)
    if _is_number(multiple) and multiple > 0:
        found["multipleOf"] = multiple


def _examples(value: Json) -> list[Any]:
    given = value.get("examples")
    found = list(given) if isinstance(given, list) else []
    if "example" in value:
        found.insert(0, value["example"])
    return [e for e in found if len(msgspec.json.encode(e)) <= _EXAMPLE_BYTES_MAX][:_EXAMPLES_MAX]


def _as_text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
