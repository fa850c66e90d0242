"""Rules that say where a service is: trees (`endpointRuleSet`) and diagrams (`endpointBdd`).

The functions in them are botocore's own. The evaluation is not: botocore's is for its own rules,
and calls whatever method of its own a rule names, while these come with a tenant's model.
"""

import base64
import functools
import struct
from collections.abc import Sequence
from typing import Any

from botocore.endpoint_provider import RuleSetStandardLibrary
from botocore.exceptions import EndpointProviderError
from botocore.loaders import Loader

Json = dict[str, Any]

_ALLOWED = frozenset(
    {
        "aws.isVirtualHostableS3Bucket", "aws.parseArn", "aws.partition", "booleanEquals",
        "coalesce", "getAttr", "isSet", "isValidHostLabel", "ite", "not", "parseURL", "split",
        "stringEquals", "substring", "uriEncode",
    }
)  # fmt: skip
_TEXT_MAX = 2048
_RESULTS_FROM = 100_000_000


class NoEndpoint(Exception):
    """The rules have none, or are none."""


def resolved(rules: Json, region: str) -> tuple[str, Json]:
    """The URL and its properties (`authSchemes`). Raises NoEndpoint."""
    try:
        functions = _Functions(_partitions())
        scope = _parameters(rules, region)
        if "rules" in rules:
            found = _by_tree(rules["rules"], scope, functions)
        else:
            found = _by_diagram(rules, scope, functions)
        if found is None or "endpoint" not in found[0]:
            raise NoEndpoint
        endpoint, scope = found[0]["endpoint"], found[1]
        url = functions.resolve_value(endpoint["url"], scope)
        if not isinstance(url, str):
            raise NoEndpoint
        properties = functions.resolve_properties(endpoint.get("properties") or {}, scope)
        return url, properties if isinstance(properties, dict) else {}
    # Rules are text of a tenant's: each of these is a rule that is none.
    except (
        EndpointProviderError, KeyError, TypeError, ValueError, AttributeError, IndexError,
        RecursionError, struct.error,
    ) as error:  # fmt: skip
        raise NoEndpoint from error


@functools.cache
def _partitions() -> Any:
    return Loader().load_data("partitions")


def _parameters(rules: Json, region: str) -> Json:
    built_in: Json = {"AWS::UseFIPS": False, "AWS::UseDualStack": False}
    if region:
        built_in["AWS::Region"] = region
    scope: Json = {}
    for name, parameter in rules.get("parameters", {}).items():
        value = built_in.get(parameter.get("builtIn"), parameter.get("default"))
        if value is not None:
            scope[name] = value
    return scope


class _Functions(RuleSetStandardLibrary):  # type: ignore[misc]
    """Those of the specification and no other method; no text grows without an end."""

    def call_function(self, func_signature: Json, scope_vars: Json) -> Any:
        if func_signature["fn"] not in _ALLOWED:
            raise NoEndpoint
        return super().call_function(func_signature, scope_vars)

    def resolve_template_string(self, value: str, scope_vars: Json) -> str:
        made: str = (
            super().resolve_template_string(value, scope_vars) if _is_short(value) else value
        )
        if not _is_short(made):
            raise NoEndpoint
        return made

    def resolve_properties(self, properties: Any, scope_vars: Json) -> Any:
        if isinstance(properties, dict):
            return {k: self.resolve_properties(v, scope_vars) for k, v in properties.items()}
        if isinstance(properties, list):
            return [self.resolve_properties(v, scope_vars) for v in properties]
        return self.resolve_value(properties, scope_vars)

    # Of version 1.1 of the rules, which botocore does not have yet.

    def ite(self, condition: Any, then: Any, otherwise: Any) -> Any:
        return then if condition else otherwise

    def coalesce(self, *values: Any) -> Any:
        return next((value for value in values if value is not None), None)

    def split(self, value: str, delimiter: str, limit: int) -> list[str]:
        return value.split(delimiter, limit - 1 if limit > 0 else -1)


def _is_short(text: str) -> bool:
    return len(text) <= _TEXT_MAX


def _holds(condition: Json, scope: Json, functions: _Functions) -> bool:
    value = functions.call_function(condition, scope)
    return value is not None and value is not False


def _by_tree(rules: Sequence[Json], scope: Json, functions: _Functions) -> tuple[Json, Json] | None:
    """The first rule that holds, with what its conditions assigned."""
    for rule in rules:
        inner = dict(scope)
        if not all(_holds(c, inner, functions) for c in rule.get("conditions", [])):
            continue
        if "rules" not in rule:
            return rule, inner
        # The first tree whose conditions hold decides, even where nothing in it does.
        return _by_tree(rule["rules"], inner, functions)
    return None


def _by_diagram(rules: Json, scope: Json, functions: _Functions) -> tuple[Json, Json] | None:
    """Nodes are triples: a condition, where to go if it holds, where if not. A reference is a
    node's number from 1, negative where the condition is meant the other way around, or a result's;
    result 0 is that nothing matches."""
    content = base64.b64decode(rules["nodes"], validate=True)
    nodes = list(struct.iter_unpack(">iii", content))
    reference = rules["root"]
    for _ in range(len(nodes) + 1):  # a diagram has no circle
        if abs(reference) == 1:
            return None
        if reference >= _RESULTS_FROM:
            index = reference - _RESULTS_FROM
            return (rules["results"][index - 1], scope) if index else None
        index, high, low = nodes[abs(reference) - 1]
        holds = _holds(rules["conditions"][index], scope, functions)
        reference = high if holds == (reference > 0) else low
    return None
