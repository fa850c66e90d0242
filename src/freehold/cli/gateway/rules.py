"""`freehold gateway rules`: which requests go to which target."""

import re
from typing import Any

import click

from freehold.cli.failure import CliError
from freehold.cli.gateway import found
from freehold.cli.gateway.found import Gateway
from freehold.cli.options import confirm, platform_options, yes_option
from freehold.cli.platform import Platform

_WILDCARDS = re.compile(r"[*?]")


@click.group()
def rules() -> None:
    """Send requests to targets by path, model or caller, by weight, with others to fall back on."""


@rules.command("list")
@click.argument("gateway")
@platform_options
def list_rules(platform: Platform, gateway: str) -> None:
    """List the rules of GATEWAY: the first whose conditions all fit decides."""
    which = found.find(platform, gateway)
    rows = _all(platform, which)
    if platform.output.as_json:
        platform.output.document({"rules": rows})
    elif not rows:
        platform.output.note(
            f"No rules yet: freehold gateway rules set {which.name} 10 --to TARGET"
        )
    else:
        platform.output.table(
            (">PRIORITY", "WHERE", "TO", "DESCRIPTION"),
            [
                (str(r["priority"]), _conditions(r), _actions(r), r.get("description") or "-")
                for r in rows
            ],
        )


@rules.command("set")
@click.argument("gateway")
@click.argument("priority", type=click.IntRange(min=1))
@click.option(
    "--to", "to", multiple=True, required=True, metavar="TARGET[,MODEL][=WEIGHT]",
    help="Where requests go; two, with weights that sum up to 100, share them.",
)  # fmt: skip
@click.option(
    "--fallback", multiple=True, metavar="TARGET[,MODEL]",
    help="Where they go when that fails; may be given again, in order.",
)  # fmt: skip
@click.option(
    "--path", multiple=True, help="Requests below this, such as '/inference/*'; may be given again."
)
@click.option("--model", multiple=True, help="Requests for this model, such as gpt-*; likewise.")
@click.option("--principal", multiple=True, metavar="ARN", help="Of this IAM caller; likewise.")
@click.option("--description", help="What it is for.")
@platform_options
def set_rule(
    platform: Platform,
    /,
    *,
    gateway: str,
    priority: int,
    to: tuple[str, ...],
    fallback: tuple[str, ...],
    description: str | None,
    **conditions: tuple[str, ...],
) -> None:
    """Make the rule with PRIORITY, or replace it. The lowest priority that fits decides.

    \b
    Examples:
      freehold gateway rules set llm 10 --model 'gpt-*' --to openai --fallback local,llama-3
      freehold gateway rules set llm 20 --to old=90 --to new=10
    """
    request: dict[str, Any] = {
        "priority": priority,
        "conditions": _wanted(**conditions),
        "actions": [{"routeToTarget": _route(to, fallback)}],
    }
    if description is not None:
        request["description"] = description
    which = found.find(platform, gateway)
    before = _of(platform, which, priority)
    if before is None:
        request = {key: value for key, value in request.items() if value != []}
        put: Any = platform.control.create_gateway_rule(gatewayIdentifier=which.id, **request)
    else:
        put = platform.control.update_gateway_rule(
            gatewayIdentifier=which.id, ruleId=before["ruleId"], **request
        )
    if platform.output.as_json:
        platform.output.document({k: v for k, v in put.items() if k != "ResponseMetadata"})
    else:
        platform.output.say(f"{priority}: {_conditions(put)} -> {_actions(put)}")


@rules.command("delete")
@click.argument("gateway")
@click.argument("priority", type=int)
@yes_option
@platform_options
def delete_rule(platform: Platform, gateway: str, priority: int, yes: bool) -> None:
    """Delete the rule of GATEWAY with PRIORITY."""
    which = found.find(platform, gateway)
    rule = _of(platform, which, priority)
    if rule is None:
        raise CliError(
            f"{which.name} has no rule with the priority {priority}.",
            code="ResourceNotFoundException",
        )
    confirm(platform, f"Delete rule {priority} of {which.name}?", yes=yes)
    platform.control.delete_gateway_rule(gatewayIdentifier=which.id, ruleId=rule["ruleId"])
    if platform.output.as_json:
        platform.output.document({"ruleId": rule["ruleId"], "deleted": True})
    platform.output.say(f"Rule {priority} is deleted.")


def _all(platform: Platform, which: Gateway) -> list[Any]:
    pages = platform.control.get_paginator("list_gateway_rules").paginate(
        gatewayIdentifier=which.id
    )
    rows = [rule for page in pages for rule in page["gatewayRules"]]
    return sorted(rows, key=lambda rule: rule["priority"])


def _of(platform: Platform, which: Gateway, priority: int) -> Any:
    return next((r for r in _all(platform, which) if r["priority"] == priority), None)


def _wanted(
    *, path: tuple[str, ...], model: tuple[str, ...], principal: tuple[str, ...]
) -> list[dict[str, Any]]:
    wanted: list[dict[str, Any]] = []
    if path:
        wanted.append({"matchPaths": {"anyOf": list(path)}})
    if model:
        models = [{"value": each, "operator": _operator(each)} for each in model]
        wanted.append({"matchModels": {"anyOf": models}})
    if principal:
        arns = [{"iamPrincipal": {"arn": each, "operator": _operator(each)}} for each in principal]
        wanted.append({"matchPrincipals": {"anyOf": arns}})
    return wanted


def _operator(pattern: str) -> str:
    return "StringLike" if _WILDCARDS.search(pattern) else "StringEquals"


def _route(to: tuple[str, ...], fallback: tuple[str, ...]) -> dict[str, Any]:
    chain = {"fallback": {"targetFallback": list(map(_step, fallback))}} if fallback else {}
    if len(to) == 1 and "=" not in to[0]:
        return {"staticRoute": {**_step(to[0]), **chain}}
    split = []
    for each in to:
        step, equals, weight = each.rpartition("=")
        if not equals or not weight.isdigit():
            raise click.UsageError(f"--to {each}: of several, each has a weight: TARGET=90.")
        made = _step(step)
        split.append({**made, **chain, "name": _label(made), "weight": int(weight)})
    return {"weightedRoute": {"trafficSplit": split}}


def _step(text: str) -> dict[str, str]:
    target, comma, model = text.partition(",")
    if not target or (comma and not model):
        raise click.UsageError(f"{text!r}: expected TARGET or TARGET,MODEL.")
    return {"targetName": target, "model": model} if model else {"targetName": target}


def _label(step: dict[str, str]) -> str:
    """Variants need names of letters, digits and hyphens: of one target, the model tells apart."""
    text = "-".join(step.values())
    return re.sub(r"[^a-zA-Z0-9]+", "-", text)[:64].strip("-")


def _conditions(rule: Any) -> str:
    parts = []
    for condition in rule.get("conditions") or ():
        ((kind, value),) = condition.items()
        for each in value["anyOf"]:
            if kind == "matchPaths":
                parts.append(f"path {each}")
            elif kind == "matchModels":
                parts.append(f"model {each['value']}")
            else:
                parts.append(f"principal {each['iamPrincipal']['arn']}")
    return ", ".join(parts) or "everything"


def _actions(rule: Any) -> str:
    found = []
    for action in rule["actions"]:
        route = action.get("routeToTarget") or {}
        if static := route.get("staticRoute"):
            found.append(_chain(static))
        for each in (route.get("weightedRoute") or {}).get("trafficSplit") or ():
            found.append(f"{_chain(each)}={each['weight']}")
    return ", ".join(found) or "-"


def _chain(step: Any) -> str:
    after = (step.get("fallback") or {}).get("targetFallback") or ()
    return " then ".join(
        f"{each['targetName']},{each['model']}" if each.get("model") else each["targetName"]
        for each in (step, *after)
    )
