"""The OpenAPI document of our own API, from its operations."""

from collections.abc import Sequence
from typing import Any

import msgspec

from freehold.kernel.operation import Operation, Parameter

PREFIX = "/freehold/v1"


class ErrorDetail(msgspec.Struct, rename="camel"):
    code: str
    message: str
    request_id: str


class ErrorAnswer(msgspec.Struct):
    """The one shape of every error of this API."""

    error: ErrorDetail


def document(operations: Sequence[Operation], *, version: str) -> dict[str, Any]:
    types = [ErrorAnswer, *(t for o in operations for t in (o.body, o.answer) if t is not None)]
    _, components = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        path = paths.setdefault(PREFIX + operation.path, {})
        path[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Freehold", "version": version, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "sigv4": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "AWS Signature Version 4, service name `freehold`",
                }
            },
        },
        "security": [{"sigv4": []}],
    }


def _operation(operation: Operation) -> dict[str, Any]:
    media = "application/x-ndjson" if operation.streams else "application/json"
    answer: dict[str, Any] = {"description": operation.summary}
    if operation.answer is not None:
        answer["content"] = {media: {"schema": _schema(operation.answer)}}
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [_parameter(p) for p in operation.parameters],
        "responses": {
            str(operation.status): answer,
            "default": {
                "description": "What went wrong",
                "content": {"application/json": {"schema": _schema(ErrorAnswer)}},
            },
        },
    }
    if operation.open:
        described["security"] = []
    if operation.body is not None:
        content = {"application/json": {"schema": _schema(operation.body)}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _schema(kind: Any) -> dict[str, Any]:
    (schema,), _ = msgspec.json.schema_components(
        [kind], ref_template="#/components/schemas/{name}"
    )
    return schema


def _parameter(parameter: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": parameter.kind}
    if parameter.choices:
        schema["enum"] = list(parameter.choices)
    if parameter.default is not None:
        schema["default"] = parameter.default
    for name, value in (("minimum", parameter.minimum), ("maximum", parameter.maximum)):
        if value is not None:
            schema[name] = value
    return {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.where == "path",
        "description": parameter.meaning,
        "schema": schema,
    }
