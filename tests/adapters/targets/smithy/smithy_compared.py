"""Requests and answers of a whole service, by botocore and by us."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import jsonschema_rs
from botocore.model import OperationModel, ServiceModel, StructureShape
from smithy_counterpart import (
    answer_of,
    as_json,
    lower_prefixed,
    read_by_botocore,
    sent_by_botocore,
    sent_by_us,
)
from smithy_of_botocore import protocol_of
from smithy_samples import Samples

from freehold.adapters.targets.smithy import plan as plans
from freehold.adapters.targets.smithy.answer import result
from freehold.adapters.targets.smithy.request import request
from freehold.ports.targets import Definition, Described

Json = dict[str, Any]
ENDPOINT = "https://service.example.com"
# Not a thing of the wire: botocore takes an object there and makes text of it.
_JSON_VALUES = "jsonvalue"


def operations(model: ServiceModel, made: Described) -> Iterator[tuple[Definition, OperationModel]]:
    for definition in made.definitions:
        operation = model.operation_model(definition.name)
        shapes = [s for s in (operation.input_shape, operation.output_shape) if s is not None]
        members = [m for s in shapes for m in s.members.values()]
        if not any(m.serialization.get(_JSON_VALUES) for m in members):
            yield definition, operation


def without_patterns(schema: Any) -> Any:
    """Samples do not follow regular expressions."""
    if isinstance(schema, dict):
        return {
            k: {n: without_patterns(s) for n, s in v.items()}
            if k in ("properties", "$defs")
            else without_patterns(v)
            for k, v in schema.items()
            if k not in ("pattern", "minLength", "maxLength", "minItems", "maxItems",
                         "minProperties", "maxProperties", "uniqueItems", "minimum", "maximum",
                         "propertyNames")
        }  # fmt: skip
    return [without_patterns(s) for s in schema] if isinstance(schema, list) else schema


def compared(
    service: str, description: Json, made: Described, *, seeds: Iterable[int] = (1, 2)
) -> tuple[int, list[str]]:
    """How many operations went both ways, and what differed. `made` is our reading of the same."""
    protocol, model = protocol_of(description), ServiceModel(description, service)
    differences: list[str] = []
    count = 0
    for definition, operation in operations(model, made):
        count += 1
        plan = plans.read(json.loads(json.dumps(definition.plan)))
        for seed in seeds:
            differences += _request_differences(protocol, definition, operation, plan, seed)
            differences += _answer_differences(protocol, definition, operation, plan, seed)
    return count, differences


def _request_differences(
    protocol: str, definition: Definition, operation: OperationModel, plan: plans.Plan, seed: int
) -> list[str]:
    samples = Samples(seed)
    shape = operation.input_shape
    pair = samples.structure(shape) if shape is not None else None
    theirs_in, ours_in = (pair.theirs, pair.ours) if pair is not None else ({}, {})
    where = f"{operation.service_model.service_name}.{operation.name}"
    schema = without_patterns(definition.document["inputSchema"])
    problems = [
        f"{where}: {error.message[:200]} at {error.instance_path}"
        for error in jsonschema_rs.validator_for(schema).iter_errors(ours_in)
        if not samples.cut_short
    ]
    theirs = sent_by_botocore(protocol, operation, theirs_in)
    ours = sent_by_us(request(plan, ours_in, ENDPOINT), theirs)
    return problems + [
        f"{where} {name}:\n  {str(theirs[name])[:1500]}\n  {str(ours[name])[:1500]}"
        for name in theirs
        if theirs[name] != ours[name]
    ]


def _answer_differences(
    protocol: str, definition: Definition, operation: OperationModel, plan: plans.Plan, seed: int
) -> list[str]:
    shape = operation.output_shape
    if not isinstance(shape, StructureShape):
        return []
    where = f"{operation.service_model.service_name}.{operation.name} answer"
    members = Samples(seed + 100).structure(shape).theirs
    answer = answer_of(protocol, operation, members)
    theirs = read_by_botocore(protocol, operation, answer)
    ours = result(plan, answer)["structuredContent"]
    schema = definition.document.get("outputSchema", {})
    problems = [
        f"{where}: {error.message[:200]} at {error.instance_path}"
        for error in jsonschema_rs.validator_for(schema).iter_errors(ours)
    ]
    theirs, ours = lower_prefixed(shape, theirs), lower_prefixed(shape, as_json(ours))
    if theirs == ours:
        return problems
    return [*problems, f"{where}:\n  {str(theirs)[:1500]}\n  {str(ours)[:1500]}"]
