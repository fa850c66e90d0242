"""A bank's gateway: its schema, and short ways to say rules about it."""

from collections.abc import Mapping
from typing import Any

from freehold.adapters.smt import proofs
from freehold.ports.policies import Rule
from freehold.ports.reasoning import Analysis, Finding, Property

GATEWAY = 'AgentCore::Gateway::"bank"'
BALANCE = "Bank___balance"
TRANSFER = "Bank___transfer"

STRING = {"type": "String"}
LONG = {"type": "Long"}
BOOL = {"type": "Boolean"}


def extension(name: str) -> dict[str, Any]:
    return {"type": "Extension", "name": name}


def optional(type: Mapping[str, Any]) -> dict[str, Any]:
    return {**type, "required": False}


def set_of(type: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "Set", "element": type}


def record(**attributes: Any) -> dict[str, Any]:
    return {"type": "Record", "attributes": attributes}


def user(name: str) -> dict[str, Any]:
    return {"type": "Entity", "name": name}


INPUT = record(
    amount=LONG,
    other=LONG,
    to=STRING,
    note=optional(STRING),
    urgent=BOOL,
    rate=optional(extension("decimal")),
    labels=optional(set_of(STRING)),
    more=set_of(STRING),
    payee=optional(record(name=STRING, bank=optional(STRING))),
    payees=set_of(record(name=STRING, bank=optional(STRING))),
    line=optional(record(n=LONG, s=STRING)),
    lines=set_of(record(n=LONG, s=STRING)),
    matrix=optional(set_of(set_of(LONG))),
    owner=user("OAuthUser"),
    teams=set_of(user("Team")),
)


def schema(**tools: Any) -> dict[str, Any]:
    context = {
        "time": extension("datetime"),
        "source": optional(extension("ipaddr")),
        "session": optional(record(id=STRING, agent=optional(STRING))),
        "left": optional(extension("duration")),
    }
    applies = {"principalTypes": ["OAuthUser"], "resourceTypes": ["Gateway"]}
    actions: dict[str, Any] = {
        "Mcp": {},
        "CallTool": {"memberOf": [{"id": "Mcp"}]},
        "Bank": {"memberOf": [{"id": "CallTool"}]},
    }
    for name, input in tools.items():
        actions[name] = {
            "memberOf": [{"id": "Bank"}],
            "appliesTo": {**applies, "context": record(input=input, **context)},
        }
    return {
        "AgentCore": {
            "entityTypes": {
                "OAuthUser": {
                    "shape": record(id=STRING, level=optional(LONG), home=user("Team")),
                    "tags": STRING,
                    "memberOfTypes": ["Team"],
                },
                "Team": {"memberOfTypes": ["Team", "Company"], "shape": record(open=BOOL)},
                "Company": {},
                "Gateway": {"shape": record(id=STRING, name=STRING)},
            },
            "actions": actions,
        }
    }


SCHEMA = schema(**{BALANCE: record(account=STRING), TRANSFER: INPUT})


def permit(
    id: str, when: str = "", *, action: str | None = TRANSFER, principal: str = "principal"
) -> Rule:
    return _rule("permit", id, when, action, principal)


def forbid(
    id: str, when: str = "", *, action: str | None = TRANSFER, principal: str = "principal"
) -> Rule:
    return _rule("forbid", id, when, action, principal)


def _rule(effect: str, id: str, when: str, action: str | None, principal: str) -> Rule:
    scope = "action" if action is None else f'action == AgentCore::Action::"{action}"'
    condition = f" when {{ {when} }}" if when else ""
    return Rule(
        id=id, statement=f"{effect} ({principal}, {scope}, resource == {GATEWAY}){condition};"
    )


def analysed(*rules: Rule) -> Analysis:
    return proofs.analyse(rules, SCHEMA)


def found(*rules: Rule, of: str | None = None) -> list[Finding]:
    """Of the first rule, if no other is named; "" names the set."""
    wanted = rules[0].id if of is None else of
    return [each for each in analysed(*rules).findings if each.policy == wanted]


def properties(*rules: Rule, of: str | None = None) -> set[Property]:
    return {each.property for each in found(*rules, of=of)}
