"""Small Smithy models, written as their authors write them."""

import json
from typing import Any

Json = dict[str, Any]

NS = "example.pets"


def trait(name: str, value: Any = None) -> Json:
    return {name if "#" in name else f"smithy.api#{name}": {} if value is None else value}


def member(target: str, **traits: Any) -> Json:
    """`required=True` and `length={"min": 1}` become traits of those names."""
    given = {f"smithy.api#{n}": {} if v is True else v for n, v in traits.items()}
    return {"target": full(target), "traits": given}


def full(name: str) -> str:
    if "#" in name:
        return name
    return f"smithy.api#{name}" if name in _PRELUDE else f"{NS}#{name}"


_PRELUDE = (
    "String", "Blob", "BigInteger", "BigDecimal", "Timestamp", "Document", "Boolean", "Integer",
    "Long", "Float", "Double", "Unit",
)  # fmt: skip


def structure(**members: Json) -> Json:
    return {"type": "structure", "members": members}


def operation(
    taken: str = "Unit",
    answered: str = "Unit",
    *,
    http: tuple[str, str] | None = None,
    **traits: Any,
) -> Json:
    given: Json = {f"smithy.api#{n}": {} if v is True else v for n, v in traits.items()}
    if http is not None:
        given["smithy.api#http"] = {"method": http[0], "uri": http[1], "code": 200}
    return {
        "type": "operation",
        "input": {"target": full(taken)},
        "output": {"target": full(answered)},
        "traits": given,
    }


def model(
    shapes: Json, *, protocol: str = "aws.protocols#restJson1", version: str = "2.0", **service: Any
) -> Json:
    """Every operation of `shapes` is the service's, unless `service` says otherwise."""
    operations = [{"target": full(n)} for n, s in shapes.items() if s.get("type") == "operation"]
    traits = {protocol: {}} if protocol else {}
    traits |= service.pop("traits", {})
    made = {
        "type": "service", "version": "2026-01-01", "operations": operations, "traits": traits,
        **service,
    }  # fmt: skip
    return {
        "smithy": version,
        "shapes": {full("Pets"): made, **{full(n): s for n, s in shapes.items()}},
    }


def text(shapes: Json, **more: Any) -> str:
    return json.dumps(model(shapes, **more))
