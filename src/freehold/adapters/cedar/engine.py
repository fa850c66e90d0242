"""Cedar through cedarpy, with parsed handles, and with what it leaves open closed.

Cedar skips a policy whose condition fails, so that a `forbid` that fails would allow: here it
forbids. Only the answer `Allow` allows; `NoDecision`, an exception or an unknown word forbid.
"""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import cedarpy
import msgspec

from freehold.adapters.cedar.answers import (
    INPUT_BYTES_MAX,
    SECONDS_MAX,
    described,
    failed,
    judged,
    uid,
)
from freehold.adapters.cedar.rules import compile_rules
from freehold.adapters.cedar.splitting import check_depth, split
from freehold.ports.policies import (
    CompiledPolicies,
    CompiledRules,
    Decision,
    Entity,
    PolicyRefused,
    PolicyRequest,
    Rule,
)

POLICY_BYTES_MAX = 1 << 20
SCHEMA_BYTES_MAX = 1 << 20


class CedarEngine:
    """Implements `ports.policies.PolicyEngine`.

    Cedar has no loops: a decision costs at most policies times input, and both are bounded in
    bytes. The engine cannot be interrupted; a decision that used more than `seconds_max` of this
    thread's processor time is thrown away, and forbidden.
    """

    def __init__(self, *, seconds_max: float = SECONDS_MAX) -> None:
        self._seconds_max = seconds_max

    def compile(self, policies: str, schema: str) -> CompiledPolicies:
        _check_size("the policies", policies, POLICY_BYTES_MAX)
        _check_size("the schema", schema, SCHEMA_BYTES_MAX)
        check_depth(policies)
        try:
            parsed_schema = cedarpy.Schema.from_str(schema)
        except ValueError as error:
            raise PolicyRefused([f"schema: {error}"]) from error
        named, forbidding = _by_id(policies)
        try:
            handle = cedarpy.PolicySet.from_json_str(json.dumps(named))
            checked = cedarpy.validate_policies(policies, parsed_schema)
        except ValueError as error:
            raise PolicyRefused([str(error)]) from error
        if not checked.validation_passed:
            raise PolicyRefused([str(e) for e in checked.errors] or ["the policies do not fit"])
        return CedarPolicies(handle, parsed_schema, forbidding, self._seconds_max)

    def compile_rules(self, rules: Sequence[Rule], schema: Mapping[str, Any]) -> CompiledRules:
        return compile_rules(rules, schema, self._seconds_max)

    def split(self, text: str) -> Sequence[Rule]:
        _check_size("the policies", text, POLICY_BYTES_MAX)
        return split(text)


class CedarPolicies:
    """Implements `ports.policies.CompiledPolicies`."""

    def __init__(
        self,
        handle: cedarpy.PolicySet,
        schema: cedarpy.Schema,
        forbidding: dict[str, bool],
        seconds_max: float,
    ) -> None:
        self._handle = handle
        self._schema = schema
        self._forbidding = forbidding
        self._seconds_max = seconds_max

    def decide(self, request: PolicyRequest, entities: Sequence[Entity]) -> Decision:
        started = time.thread_time()
        try:
            decision = self._decide(request, entities)
        except Exception as error:  # noqa: BLE001 - the boundary: whatever fails is forbidden
            return failed(f"{type(error).__name__}: {error}")
        if time.thread_time() - started > self._seconds_max:
            return failed(f"the decision took more than {self._seconds_max} s")
        return decision

    def _decide(self, request: PolicyRequest, entities: Sequence[Entity]) -> Decision:
        entities_json = described(entities)
        context = msgspec.json.encode(request.context)
        if len(entities_json) + len(context) > INPUT_BYTES_MAX:
            return failed(f"a request has at most {INPUT_BYTES_MAX} bytes")
        answer = cedarpy.is_authorized(
            {
                "principal": uid(request.principal),
                "action": uid(request.action),
                "resource": uid(request.resource),
                "context": context.decode(),
            },
            self._handle,
            entities_json.decode(),
            self._schema,
        )
        return judged(answer, self._forbidding)


def _by_id(policies: str) -> tuple[dict[str, Any], dict[str, bool]]:
    """The policy set in JSON, its policies by the ids of our port; and which of them forbid."""
    try:
        parsed = json.loads(cedarpy.policies_to_json_str(policies))
    except ValueError as error:
        raise PolicyRefused([str(error)]) from error
    if parsed.get("templates") or parsed.get("templateLinks"):
        raise PolicyRefused(["a policy with ?principal or ?resource is a template, and no policy"])
    named: dict[str, Any] = {}
    for id, policy in parsed["staticPolicies"].items():
        name = policy.get("annotations", {}).get("id") or id
        if name in named:
            raise PolicyRefused([f"two policies have the id {name!r}"])
        if "`" in name:
            raise PolicyRefused(["a policy's id must not hold a backtick"])
        named[name] = policy
    forbidding = {name: policy["effect"] != "permit" for name, policy in named.items()}
    return {"staticPolicies": named, "templates": {}, "templateLinks": []}, forbidding


def _check_size(what: str, text: str, bytes_max: int) -> None:
    if len(text.encode("utf-8", "surrogatepass")) > bytes_max:
        raise PolicyRefused([f"{what} have at most {bytes_max} bytes"])
