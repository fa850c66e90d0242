"""Reads the scope of a Cedar policy from what Cedar's own parser makes of it."""

import json
from typing import Any

import cedarpy

from freehold.adapters.cedar.splitting import check_depth
from freehold.ports.policies import PolicyRefused, Uid
from freehold.ports.statements import Statement


class CedarStatements:
    """Implements `ports.statements.Statements`."""

    def read(self, text: str) -> Statement:
        check_depth(text)
        try:
            parsed = json.loads(cedarpy.policies_to_json_str(text))
        except ValueError as error:
            raise PolicyRefused([str(error)]) from error
        except RecursionError:  # its JSON is nested once for each `&&` of a chain
            raise PolicyRefused(["the policy is nested too deeply"]) from None
        if parsed.get("templates") or parsed.get("templateLinks"):
            raise PolicyRefused(
                ["a policy with ?principal or ?resource is a template, and no policy"]
            )
        found = list(parsed["staticPolicies"].values())
        if len(found) != 1:
            raise PolicyRefused([f"expected exactly one policy, and there are {len(found)}"])
        (policy,) = found
        type, resource, exact = _resource(policy["resource"])
        return Statement(
            effect=policy["effect"], actions=_actions(policy["action"]), resource=resource,
            resource_type=type, exact=exact,
        )  # fmt: skip


def _actions(scope: dict[str, Any]) -> tuple[Uid, ...]:
    if "entity" in scope:
        return (_uid(scope["entity"]),)
    return tuple(_uid(each) for each in scope.get("entities", ()))


def _resource(scope: dict[str, Any]) -> tuple[str, Uid | None, bool]:
    """Its type, its name, and whether exactly that."""
    entity = scope.get("entity") or (scope.get("in") or {}).get("entity")
    named = _uid(entity) if entity else None
    type = scope.get("entity_type") or (named.type if named else "")
    return type, named, scope["op"] == "=="


def _uid(entity: dict[str, str]) -> Uid:
    return Uid(entity["type"], entity["id"])
