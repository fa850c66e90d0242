"""A connector as one target has it: which operations, with which values, described how."""

from typing import Any

import jsonschema_rs
import msgspec

from freehold.adapters.targets.connectors import values as v
from freehold.adapters.targets.connectors.library import Prepared, Traits
from freehold.kernel.errors import ValidationFailed
from freehold.ports.targets import Definition, Json

ALL = "all"
"""The name of the configuration whose values are for every operation, and for the address."""
Path = tuple[str, ...]


def settle(prepared: Prepared, configuration: Json) -> tuple[Definition, ...]:
    """Raises ValidationFailed, which says what is wrong where."""
    _check_version(prepared, configuration)
    names = enabled(prepared, configuration)
    own = _configurations(prepared, configuration)
    common = _Given(own.pop(ALL, {"name": ALL}), ALL)
    if common.description or common.overrides:
        raise ValidationFailed(
            f'configurations: "{ALL}" takes parameterValues alone; describe and override operations'
        )
    address, rest = _address(prepared, common.values)
    _check_common(prepared, rest)
    unused = sorted(own.keys() - set(names))
    if unused:
        raise ValidationFailed(f'configurations: "{unused[0]}" is not among enabled')
    return tuple(
        _definition(prepared, name, address, rest, _Given(own.get(name, {"name": name}), name))
        for name in names
    )


def enabled(prepared: Prepared, configuration: Json) -> list[str]:
    """Without `enabled`, all of them. Raises ValidationFailed."""
    given = configuration.get("enabled") or list(prepared.traits)
    for name in given:
        if name not in prepared.traits:
            raise ValidationFailed(
                f"enabled: {prepared.title} has no operation {name[:100]!r}; it has "
                f"{', '.join(prepared.traits)}"
            )
    return list(dict.fromkeys(given))


class _Given:
    """One of `configurations`, its parts checked for their kind."""

    def __init__(self, document: Json, name: str) -> None:
        self.name = name
        self.description: str = document.get("description") or ""
        self.values: Any = document.get("parameterValues") or {}
        if not isinstance(self.values, dict):
            raise ValidationFailed(f"parameterValues of {name}: expected an object")
        self.overrides: list[tuple[Path, Json]] = []
        for override in document.get("parameterOverrides") or ():
            path = v.steps(override["path"])
            if not all(path):
                raise ValidationFailed(
                    f"parameterOverrides of {name}: path {override['path']!r} is no JSON Pointer "
                    "such as /limit"
                )
            self.overrides.append((path, override))


def _check_version(prepared: Prepared, configuration: Json) -> None:
    asked = configuration["source"].get("version")
    if asked and asked != prepared.version:
        raise ValidationFailed(
            f"version: this Freehold has {prepared.version} of {prepared.title}, not {asked}"
        )


def _configurations(prepared: Prepared, configuration: Json) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for each in configuration.get("configurations") or ():
        name = each["name"]
        if name != ALL and name not in prepared.traits:
            raise ValidationFailed(
                f"configurations: {prepared.title} has no operation {name!r}; name one of "
                f'{", ".join(prepared.traits)}, or "{ALL}" for values that all share'
            )
        if name in found:
            raise ValidationFailed(f"configurations: {name!r} is there twice")
        found[name] = each
    return found


def _address(prepared: Prepared, given: Json) -> tuple[dict[str, str], Json]:
    """What the parts of the address are, and the values that are none of those."""
    rest, found = dict(given), {}
    for parameter in prepared.parameters:
        value = rest.pop(parameter.name, parameter.default)
        if value is None:
            raise ValidationFailed(
                f'configurations: {prepared.title} needs {{"name": "{ALL}", "parameterValues": '
                f'{{"{parameter.name}": "{parameter.example}"}}}}: {parameter.meaning}'
            )
        if not isinstance(value, str) or not prepared.is_valid(parameter, value):
            raise ValidationFailed(
                f"parameterValues of {ALL}: {parameter.name} has to be like "
                f"{parameter.example!r}: {parameter.meaning}"
            )
        found[parameter.name] = value
    return found, rest


def _check_common(prepared: Prepared, given: Json) -> None:
    known = {
        argument
        for definition in prepared.definitions.values()
        for argument in definition.document["inputSchema"]["properties"]
    }
    for name in given:
        if name not in known:
            addresses = ", ".join(p.name for p in prepared.parameters)
            raise ValidationFailed(
                f"parameterValues of {ALL}: no operation of {prepared.title} has an argument "
                f"{name[:100]!r}" + (f"; its address has {addresses}" if addresses else "")
            )


def _definition(
    prepared: Prepared, name: str, address: dict[str, str], common: Json, given: _Given
) -> Definition:
    base, traits = prepared.definitions[name], prepared.traits[name]
    schema: Json = base.document["inputSchema"]
    ours = v.merged(
        {k: value for k, value in prepared.fixed.items() if k in schema["properties"]},
        traits.fixed,
    )
    schema = v.without(schema, ours)
    written = _written(schema)
    schema = v.with_defaults(schema, written)
    shared = {k: value for k, value in common.items() if k in schema["properties"]}
    fixed = v.merged(shared, given.values)
    _check_values(name, schema, fixed)
    schema, fixed, defaults = _overridden(name, schema, fixed, given)
    schema = v.with_defaults(v.without(schema, fixed), defaults)
    defaults = v.merged(written, defaults)
    request = dict(base.plan)
    for parameter, value in address.items():
        request["server"] = request["server"].replace("{" + parameter + "}", value)
    plan: Json = {"request": request, "fixed": v.merged(fixed, ours), **_manners(prepared, traits)}
    if defaults:
        plan["defaults"] = defaults
    document = {
        **base.document, "inputSchema": schema,
        "annotations": _annotations(traits, request["method"]),
    }  # fmt: skip
    if given.description:
        document["description"] = given.description
    return Definition(name=name, document=document, plan=plan)


def _manners(prepared: Prepared, traits: Traits) -> Json:
    """What a call needs to know beside the request: only what there is of it."""
    found: Json = {
        "encoded": list(traits.encoded), "twice": list(traits.twice),
        "documents": [list(v.steps(pointer)) for pointer in traits.documents],
    }  # fmt: skip
    found = {name: value for name, value in found.items() if value}
    if prepared.documents:
        found["texts"] = True
    if prepared.noise is not None and not traits.whole:
        found["noise"] = msgspec.to_builtins(prepared.noise)
    if prepared.refusal is not None:
        found["refusal"] = msgspec.to_builtins(prepared.refusal)
    return found


def _written(schema: Json) -> Json:
    """The defaults that our documents write down are sent: the service's own may be others."""
    return {name: p["default"] for name, p in schema["properties"].items() if "default" in p}


def _overridden(name: str, schema: Json, fixed: Json, given: _Given) -> tuple[Json, Json, Json]:
    """The schema, and what of the values stays fixed, and what is a default only."""
    defaults: Json = {}
    hidden: set[Path] = set()
    for path, override in given.overrides:
        if v.property_at(schema, path) is None:
            raise ValidationFailed(
                f"parameterOverrides of {name}: there is no argument at {override['path']!r}"
            )
        if override.get("visible") is False and not v.at(fixed, path):
            hidden.add(path)
        if override.get("visible") and v.at(fixed, path):
            fixed, taken = v.split(fixed, path)
            defaults = v.merged(defaults, taken)
        if override.get("description"):
            schema = v.changed_at(schema, path, {"description": override["description"]})
    for path in sorted(hidden, key=len, reverse=True):
        if _is_required(schema, path):
            raise ValidationFailed(
                f"parameterOverrides of {name}: {'/'.join(path)} is required; hide it by a value "
                "in parameterValues"
            )
        schema = v.changed_at(schema, path, None)
    return schema, fixed, defaults


def _is_required(schema: Json, path: Path) -> bool:
    holder = v.property_at(schema, path[:-1]) if path[:-1] else schema
    return holder is not None and path[-1] in holder.get("required", ())


def _check_values(name: str, schema: Json, given: Json) -> None:
    for argument in given:
        if argument not in schema["properties"]:
            raise ValidationFailed(
                f"parameterValues of {name}: there is no argument {argument[:100]!r}; there is "
                f"{', '.join(schema['properties'])}"
            )
    partial = _partial(schema)
    for error in jsonschema_rs.validator_for(partial).iter_errors(given):
        where = "/".join(str(step) for step in error.instance_path)
        raise ValidationFailed(f"parameterValues of {name}: {where}: {error.message[:300]}")


def _partial(schema: Any) -> Any:
    """Values are for some of the arguments: what else is required comes with a call."""
    if isinstance(schema, list):
        return [_partial(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {k: _partial(inner) for k, inner in value.items()} if key == "properties" else value
        for key, value in schema.items()
        if key != "required"
    }


def _annotations(traits: Traits, method: str) -> Json:
    repeats = traits.reads or traits.repeats or method in ("PUT", "DELETE")
    return {
        "readOnlyHint": traits.reads, "destructiveHint": traits.destroys and not traits.reads,
        "idempotentHint": repeats, "openWorldHint": True,
    }  # fmt: skip
