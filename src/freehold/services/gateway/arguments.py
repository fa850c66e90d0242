"""Arguments of a tool, checked against its input schema before anything is called."""

from collections.abc import Callable, Sequence
from typing import Any

import jsonschema_rs
import msgspec

from freehold.ports.targets import Json

_PROBLEMS_SHOWN = 5
_VALUE_CHARACTERS_SHOWN = 80
_BACKTRACKS_MAX = 100_000
_SIZES_MAX = 1 << 20

Check = Callable[[Json], str | None]
"""What is wrong, in words that a model can act on; None for arguments that will do."""


def checker(schema: Json) -> Check:
    """Raises ValueError for a schema that is none. Nothing is ever fetched: what a schema names
    elsewhere makes it one that cannot be used."""
    try:
        validator = _validator(schema)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        raise ValueError(_first_line(str(error))) from error

    def check(arguments: Json) -> str | None:
        if validator.is_valid(arguments):
            return None
        return _explained(list(validator.iter_errors(arguments)), schema)

    return check


def _validator(schema: Json) -> jsonschema_rs.Validator:
    try:
        # Linear in the length of the text, whatever the pattern is.
        linear = jsonschema_rs.RegexOptions(size_limit=_SIZES_MAX)
        return jsonschema_rs.validator_for(schema, pattern_options=linear, retriever=_refuse)
    except jsonschema_rs.ValidationError:
        bounded = jsonschema_rs.FancyRegexOptions(backtrack_limit=_BACKTRACKS_MAX)
        return jsonschema_rs.validator_for(schema, pattern_options=bounded, retriever=_refuse)


def _refuse(uri: str) -> Any:
    raise ValueError(f"{uri} is outside the schema")


def _explained(errors: Sequence[Any], schema: Json) -> str:
    lines = [_line(error, schema) for error in errors[:_PROBLEMS_SHOWN]]
    if len(errors) > _PROBLEMS_SHOWN:
        lines.append(f"- and {len(errors) - _PROBLEMS_SHOWN} more")
    return "\n".join(["The arguments do not fit the tool's input schema:", *lines])


def _line(error: Any, schema: Json) -> str:
    path = ".".join(str(step) for step in error.instance_path)
    where = f"`{path}`" if path else "the arguments"
    line = f"- {where}: {_shortened(error.message)}"
    expected = _expected(error.schema_path, schema)
    return f"{line}; expected {expected}" if expected else line


def _expected(schema_path: Sequence[Any], schema: Json) -> str:
    """The part of the schema that was not met, where it is short enough to help."""
    part: Any = schema
    for step in list(schema_path)[:-1]:
        try:
            part = part[step]
        except (KeyError, IndexError, TypeError):
            return ""
    if not isinstance(part, dict) or part is schema:
        return ""
    shown = {k: part[k] for k in ("type", "enum", "format", "pattern") if k in part}
    if not shown:
        return ""
    return _shortened(msgspec.json.encode(shown).decode())


def _first_line(text: str) -> str:
    return _shortened(text.partition("\n")[0])


def _shortened(text: str) -> str:
    if len(text) <= _VALUE_CHARACTERS_SHOWN * 3:
        return text
    return text[: _VALUE_CHARACTERS_SHOWN * 3] + "..."
