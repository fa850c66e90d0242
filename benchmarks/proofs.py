"""What it costs to prove things about policies, beside parsing and validating the same ones.

    .venv/bin/python benchmarks/proofs.py [--rounds 3]

50 policies over 20 tools, in the ways that people write them: roles, scopes, amounts, countries,
paths, times, source addresses. The second set differs in five of them. Medians.
"""

import argparse
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import cedarpy
import z3

from freehold.adapters.smt import proofs
from freehold.ports.policies import Rule

GATEWAY = 'resource == AgentCore::Gateway::"arn:aws:bedrock-agentcore:us-east-1:1:gateway/g"'
USER = "principal is AgentCore::OAuthUser"
TARGETS = ("Bank", "Refund", "Travel", "Shipping", "Files")
VERBS = ("read", "create", "change", "delete")
LONG, STRING = {"type": "Long"}, {"type": "String"}
DECIMAL = {"type": "Extension", "name": "decimal"}
INPUT: dict[str, Any] = {
    "id": STRING,
    "amount": LONG,
    "country": STRING,
    "price": DECIMAL,
    "labels": {"type": "Set", "element": STRING},
    "path": {**STRING, "required": False},
    "urgent": {"type": "Boolean", "required": False},
    "approval": {
        "type": "Record",
        "required": False,
        "attributes": {"manager": STRING, "limit": {**LONG, "required": False}},
    },
}
CONDITIONS = (
    'when { principal.hasTag("role") && principal.getTag("role") == "%ROLE%" }',
    "when { context.input.amount <= %AMOUNT% }",
    'when { principal.hasTag("scope") && principal.getTag("scope") like "*%ROLE%:write*" }',
    'when { ["US", "CA", "%COUNTRY%"].contains(context.input.country) }',
    'when { context.input.price.lessThan(decimal("%AMOUNT%.50")) }',
    'when { context.input has path && context.input.path like "/home/%ROLE%/*" }',
    'when { context has source && context.source.isInRange(ip("10.0.0.0/8")) }',
    'when { context.time.toTime() >= duration("8h") && context.time.toTime() < duration("18h") }',
    'when { context.input.labels.containsAny(["%ROLE%", "shared"]) }',
    "when { context.input has approval.limit"
    " && context.input.amount <= context.input.approval.limit }",
)
CHANGED = {
    13: ("1013", "1014"),  # another policy allows as much: no difference
    30: ("teller", "clerk"),
    33: ("1033", "1500"),
    39: ("MX", "BR"),
    46: ("lead:write", "lead:"),
}
"""What the second set says otherwise in the policy of this number."""


def schema() -> dict[str, Any]:
    session = {
        "type": "Record",
        "required": False,
        "attributes": {"id": STRING, "user": {**STRING, "required": False}},
    }
    context = {
        "type": "Record",
        "attributes": {
            "input": {"type": "Record", "attributes": INPUT},
            "time": {"type": "Extension", "name": "datetime"},
            "source": {"type": "Extension", "name": "ipaddr", "required": False},
            "session": session,
        },
    }
    actions: dict[str, Any] = {"Mcp": {}, "CallTool": {"memberOf": [{"id": "Mcp"}]}}
    for target in TARGETS:
        actions[target] = {"memberOf": [{"id": "CallTool"}]}
        for verb in VERBS:
            actions[f"{target}___{verb}"] = {
                "memberOf": [{"id": target}],
                "appliesTo": {
                    "principalTypes": ["OAuthUser"],
                    "resourceTypes": ["Gateway"],
                    "context": context,
                },
            }
    named = {"type": "Record", "attributes": {"id": STRING}}
    entities = {"OAuthUser": {"shape": named, "tags": STRING}, "Gateway": {"shape": named}}
    return {"AgentCore": {"entityTypes": entities, "actions": actions}}


def policies() -> list[Rule]:
    rules = []
    for number in range(50):
        target, verb = TARGETS[number % 5], VERBS[number // 5 % 4]
        # Every tenth speaks of a whole target, as rules for administrators do.
        scope = f'action == AgentCore::Action::"{target}___{verb}", {GATEWAY}'
        if number % 10 == 9:
            scope = f'action in AgentCore::Action::"{target}", resource'
        effect = "forbid" if number % 4 == 3 else "permit"
        condition = CONDITIONS[number * 7 % len(CONDITIONS)]
        for mark, value in (
            ("%ROLE%", ("teller", "lead", "admin")[number % 3]),
            ("%AMOUNT%", str(1000 * (number % 4) + number)),
            ("%COUNTRY%", ("MX", "FR", "CH")[number % 3]),
        ):
            condition = condition.replace(mark, value)
        statement = f"{effect}({USER}, {scope}) {condition};"
        rules.append(Rule(id=f"policy-{number:02}", statement=statement))
    return rules


def changed(rules: list[Rule]) -> list[Rule]:
    return [
        Rule(id=rule.id, statement=rule.statement.replace(*CHANGED.get(number, ("", ""))))
        for number, rule in enumerate(rules)
    ]


def only_validated(rules: list[Rule], described: dict[str, Any]) -> None:
    """The limit from below: all that is not proof."""
    parsed = cedarpy.Schema.from_json_str(json.dumps(described))
    for rule in rules:
        cedarpy.policies_to_json_str(rule.statement)
        assert cedarpy.validate_policies(rule.statement, parsed).validation_passed


class Asked:
    """Counts what the solver is asked."""

    def __init__(self) -> None:
        self.questions = 0
        check = z3.Solver.check

        def counted(solver: Any, *assumptions: Any) -> Any:
            self.questions += 1
            return check(solver, *assumptions)

        z3.Solver.check = counted


Prove = Callable[[], str]


def measure(prove: Prove, rounds: int, asked: Asked) -> tuple[float, float, int, str]:
    """(seconds, CPU seconds, questions, what came out)"""
    walls, cpus, before, said = [], [], asked.questions, ""
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        said = prove()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    questions = (asked.questions - before) // rounds
    return statistics.median(walls), statistics.median(cpus), questions, said


def main(rounds: int) -> None:
    old, described, asked = policies(), schema(), Asked()
    new = changed(old)
    assert sum(a != b for a, b in zip(old, new, strict=True)) == len(CHANGED)

    def bare() -> str:
        only_validated(old, described)
        return ""

    def analyse() -> str:
        made = proofs.analyse(old, described)
        found = Counter(each.property.value for each in made.findings)
        return ", ".join(f"{count} {name}" for name, count in sorted(found.items()))

    def compare(rules: list[Rule]) -> str:
        made = proofs.compare(old, rules, described)
        shown = Counter(each.change for each in made.differences)
        told = ", ".join(f"{count} actions {name}" for name, count in sorted(shown.items()))
        return "equivalent" if made.equivalent else told or "cannot tell"

    print(f"{len(old)} policies, {len(TARGETS) * len(VERBS)} tools; {rounds} rounds\n")
    print("| | seconds | CPU s | questions to the solver | against the limit | found |")
    print("|---|---|---|---|---|---|")
    rows: dict[str, Prove] = {
        "limit: parse and validate": bare,
        "analyse": analyse,
        "compare with itself, reversed": lambda: compare(list(reversed(old))),
        "compare with the second set": lambda: compare(new),
    }
    limit = 0.0
    for name, prove in rows.items():
        wall, cpu, questions, said = measure(prove, rounds, asked)
        limit = limit or wall
        print(f"| {name} | {wall:.3f} | {cpu:.3f} | {questions} | {wall / limit:.0f}x | {said} |")


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=3)
    main(options.parse_args().rounds)
