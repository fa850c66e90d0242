"""`freehold policy create`, `update`, `list`, `show`, `delete`, `mode` and `acknowledge`."""

import re
from pathlib import Path
from typing import Any

import click

from freehold.cli.failure import CliError
from freehold.cli.options import applied, confirm, platform_options, yes_option
from freehold.cli.platform import Platform
from freehold.cli.policy import found
from freehold.cli.policy.engines import show_policies
from freehold.cli.policy.found import Engine
from freehold.cli.policy.making import Wanted, make

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,47}")
_FILE = click.Path(path_type=Path, allow_dash=True)

_written = applied(
    click.option("--description", help="What it is for."),
    click.option(
        "--ignore-findings", is_flag=True,
        help="Take it whatever the analysis would find. It is parsed and checked all the same.",
    ),
)  # fmt: skip


@click.command()
@click.argument("engine")
@click.argument("file", type=_FILE)
@click.option("--name", help="Of a single policy. Default: its @id, or the file's name.")
@click.option("--log-only", is_flag=True, help="It takes no part, but the log shows what it says.")
@_written
@platform_options
def create(
    platform: Platform,
    /,
    *,
    engine: str,
    file: Path,
    name: str | None,
    log_only: bool,
    description: str | None,
    ignore_findings: bool,
) -> int:
    """Put the policies of FILE into ENGINE, and wait until they are analysed.

    Each is one policy of its own, called what its @id("...") says. Those that forbid come first:
    where one of them has findings nothing is permitted. Exits with 1 where one has findings: it is
    not in force.
    """
    which = found.find(platform, engine)
    request: dict[str, Any] = {
        "validationMode": _validation(ignore_findings),
        "enforcementMode": "LOG_ONLY" if log_only else "ACTIVE",
    }
    if description:
        request["description"] = description
    wanted = _wanted(found.resolved(platform, found.read(file)), file, name)
    with platform.output.progress("Analysing ...") as progress:
        got = make(platform, which, wanted, request, progress)
    return _tell(platform, which, got)


@click.command()
@click.argument("engine")
@click.argument("policy")
@click.argument("file", type=_FILE)
@_written
@platform_options
def update(
    platform: Platform,
    /,
    *,
    engine: str,
    policy: str,
    file: Path,
    description: str | None,
    ignore_findings: bool,
) -> int:
    """Give POLICY of ENGINE the text of FILE, and wait until it is analysed.

    What was in force stays so until then, and also where the analysis finds something.
    """
    which = found.find(platform, engine)
    one = found.find_policy(platform, which, policy)
    text = found.resolved(platform, found.read(file))
    request: dict[str, Any] = {
        "definition": {"cedar": {"statement": text.strip()}},
        "validationMode": _validation(ignore_findings),
    }
    if description is not None:
        request["description"] = {"optionalValue": description}
    with platform.output.progress("Analysing ...") as progress:
        platform.control.update_policy(policyEngineId=which.id, policyId=one.id, **request)
        got = found.settled(platform, which, one, progress)
    return _tell(platform, which, [got])


@click.command()
@click.argument("engine")
@click.argument("policy")
@click.option("--active", "mode", flag_value="ACTIVE", help="It decides.")
@click.option("--log-only", "mode", flag_value="LOG_ONLY", help="It only shows in the log.")
@platform_options
def mode(platform: Platform, *, engine: str, policy: str, mode: str | None) -> int:
    """Say whether POLICY of ENGINE decides, or is only tried out on live calls."""
    if mode is None:
        raise click.UsageError("Say --active or --log-only.")
    which = found.find(platform, engine)
    one = found.find_policy(platform, which, policy)
    request: Any = {"enforcementMode": mode}
    with platform.output.progress("Changing its mode ...") as progress:
        platform.control.update_policy(policyEngineId=which.id, policyId=one.id, **request)
        got = found.settled(platform, which, one, progress)
    return _tell(platform, which, [got])


@click.command("list")
@click.argument("engine")
@platform_options
def list_policies(platform: Platform, engine: str) -> None:
    """List the policies of ENGINE."""
    which = found.find(platform, engine)
    rows = found.policies(platform, which)
    if platform.output.as_json:
        platform.output.document({"policies": rows})
    elif not rows:
        platform.output.note(f"No policies yet: freehold policy create {which.name} FILE")
    else:
        show_policies(platform, rows)


@click.command()
@click.argument("engine")
@click.argument("policy")
@platform_options
def show(platform: Platform, engine: str, policy: str) -> None:
    """Show POLICY of ENGINE: its text, its mode, what the analysis said."""
    which = found.find(platform, engine)
    one = found.find_policy(platform, which, policy)
    got = platform.control.get_policy(policyEngineId=which.id, policyId=one.id)
    if platform.output.as_json:
        platform.output.document(found.plain(got))
        return
    found.tell(platform.output, got)
    platform.output.say(got["policyArn"])
    if got.get("description"):
        platform.output.say(got["description"])
    platform.output.say("")
    platform.output.say(found.statement(got))


@click.command()
@click.argument("engine")
@click.argument("policy")
@yes_option
@platform_options
def delete(platform: Platform, engine: str, policy: str, yes: bool) -> None:
    """Delete POLICY of ENGINE."""
    which = found.find(platform, engine)
    one = found.find_policy(platform, which, policy)
    confirm(platform, f"Delete the policy {one.name} of {which.name}?", yes=yes)
    platform.control.delete_policy(policyEngineId=which.id, policyId=one.id)
    if platform.output.as_json:
        platform.output.document({"policyId": one.id, "deleted": True})
    platform.output.say(f"{one.name} is deleted.")


@click.command()
@click.argument("engine")
@click.argument("digest")
@platform_options
def acknowledge(platform: Platform, engine: str, digest: str) -> None:
    """Let the change with this DIGEST pass once, though it allows more than before.

    The refusal of the change says its digest. Any other change has another.
    """
    which = found.find(platform, engine)
    body = {"engineId": which.id, "digest": digest}
    said = platform.own.post("policies", "acknowledgements", body=body)
    if platform.output.as_json:
        platform.output.document(said)
    platform.output.say(f"That change of {which.name} may be made, once. Make it again now.")


def _validation(ignore_findings: bool) -> str:
    return "IGNORE_ALL_FINDINGS" if ignore_findings else "FAIL_ON_ANY_FINDINGS"


def _wanted(text: str, file: Path, name: str | None) -> list[Wanted]:
    """Each policy of the file by the name that it will have."""
    # Cedar is slow to import, and no other command of these needs it.
    from freehold.cli.policy.offline import forbids, rules_of

    rules = rules_of([(str(file), text)])
    if not rules:
        raise CliError(f"{file} holds no policy.", code="BadFile")
    if len(rules) > 1 and name:
        raise click.UsageError(f"--name goes with one policy; {file} holds {len(rules)}.")
    named = []
    for at, rule in enumerate(rules):
        called = name or rule.id
        if called == f"policy{at}":
            called = re.sub(r"\W+", "_", file.stem, flags=re.ASCII) if len(rules) == 1 else called
        if not _NAME.fullmatch(called):
            raise CliError(
                f"{called!r} cannot be a policy's name: letters, digits and underscores, a letter "
                "first, 48 at most.",
                code="BadName",
                hint="Say --name, or give the policy another @id.",
            )
        definition = {"cedar": {"statement": rule.statement}}
        named.append(Wanted(called, forbids(rule.statement), definition))
    return named


def _tell(platform: Platform, which: Engine, got: list[Any]) -> int:
    output = platform.output
    bad = any(map(found.failed, got))
    if output.as_json:
        output.document({"policies": [found.plain(each) for each in got]})
        return 1 if bad else 0
    for each in got:
        found.tell(output, each)
    if bad:
        output.note(f"Put it right: freehold policy update {which.name} POLICY FILE")
    return 1 if bad else 0
