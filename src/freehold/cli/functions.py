"""`freehold function`: functions by AWS Lambda's contract, on this platform."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from freehold.cli import bundle, code_bucket
from freehold.cli.build import wait_until_ready
from freehold.cli.failure import CliError
from freehold.cli.options import platform_options
from freehold.cli.output import Progress, when
from freehold.cli.platform import Platform
from freehold.cli.project import RUNTIMES, runtime_here

_READY = "READY"
_KEY_PREFIX = "function-code"  # no agent's name has a hyphen


@click.group("function")
def function() -> None:
    """Functions that gateways call: an event in, a JSON value out."""


def _pairs(_: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.BadParameter("NAME=VALUE", param=option)
        found[name] = value
    return found


def _of_code(command: Any) -> Any:
    for option in reversed(
        (
            click.argument("name"),
            click.argument(
                "directory", metavar="[DIR]", default=".",
                type=click.Path(path_type=Path, exists=True, file_okay=False),
            ),
            click.option(
                "--handler", help="The module and the function in it (default: main.handler)."
            ),
            click.option(
                "--runtime", type=click.Choice(RUNTIMES), help="Default: that of this Python."
            ),
            click.option("--timeout", type=int, help="Seconds an event may take (default: 30)."),
            click.option("--memory", type=int, help="MiB of an instance (default: 512)."),
            click.option("--description", help="What it is for."),
            click.option(
                "--env", multiple=True, callback=_pairs, metavar="NAME=VALUE",
                help="A variable of its environment; may be given again.",
            ),
        )
    ):  # fmt: skip
        command = option(command)
    return command


@function.command("create")
@_of_code
@click.option(
    "--tag", multiple=True, callback=_pairs, metavar="KEY=VALUE",
    help="A tag; freehold:egress and the like are settings. May be given again.",
)  # fmt: skip
@platform_options
def create(
    platform: Platform, /, *, name: str, directory: Path, tag: dict[str, str], **given: Any
) -> None:
    """Make the function NAME from the folder DIR and wait until it is ready.

    DIR is this folder when it is not given. A requirements.txt in it is installed.
    """
    defaults = {"handler": "main.handler", "runtime": runtime_here()}
    with platform.output.progress("Packing ...") as progress:
        body = {**defaults, **_configuration(given), "name": name, "tags": tag}
        body["code"] = _uploaded(platform, name, directory, progress)
        made = platform.own.post("functions", body=body)
        _wait(platform, made, progress)
    _show(platform, platform.own.get("functions", name))
    platform.output.note(f"Next: freehold function invoke {name} '{{}}'")


@function.command("update")
@_of_code
@platform_options
def update(platform: Platform, /, *, name: str, directory: Path, **given: Any) -> None:
    """Give the function NAME the code in DIR, and what else is said; the rest stays.

    Events go on to the old code until the new is ready. With --env, all of the environment is new.
    """
    current = platform.own.get("functions", name)
    kept = {
        member: current[member]
        for member in (
            "handler", "runtime", "timeoutSeconds", "memoryMib", "description", "environment",
        )
    }  # fmt: skip
    with platform.output.progress("Packing ...") as progress:
        code = _uploaded(platform, name, directory, progress)
        body = {**kept, **_configuration(given), "code": code}
        made = platform.own.put("functions", name, body=body)
        _wait(platform, made, progress)
    _show(platform, platform.own.get("functions", name))


@function.command("list")
@platform_options
def list_functions(platform: Platform) -> None:
    """List the functions of the account."""
    rows = platform.own.pages("functions", items="functions")
    if platform.output.as_json:
        platform.output.document({"functions": rows})
    elif not rows:
        platform.output.note("No functions yet. Make one with: freehold function create NAME DIR")
    else:
        platform.output.table(
            ("NAME", "RUNTIME", "HANDLER", "UPDATED", "ARN"),
            [(r["name"], r["runtime"], r["handler"], when(r["updatedAt"]), r["arn"]) for r in rows],
        )


@function.command("show")
@click.argument("name")
@platform_options
def show(platform: Platform, name: str) -> None:
    """Show one function: its status, limits and ARN."""
    _show(platform, platform.own.get("functions", name))


@function.command("invoke")
@click.argument("name")
@click.argument("event", default="{}")
@platform_options
def invoke(platform: Platform, name: str, event: str) -> None:
    """Give the function EVENT, which is JSON, and show what it returns.

    `-` reads the event from standard input, `@file` from a file. When the function fails, its
    error is shown and the exit status is 1.
    """
    outcome = platform.own.post("functions", name, "invocations", body={"event": _event(event)})
    failed = outcome.get("functionError")
    if failed:
        raise CliError(
            f"{name} failed: {failed['errorMessage']}",
            code=failed["errorType"] or "FunctionFailed",
            hint=f"What it printed: freehold logs, with the agentRuntimeId of "
            f"`freehold function show {name} --json`",
        )
    platform.output.document(outcome.get("result"))


@function.command("delete")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@platform_options
def delete(platform: Platform, name: str, yes: bool) -> None:
    """Delete the function NAME, its instances and its code."""
    if not yes and not platform.output.as_json:
        click.confirm(f"Delete the function {name}?", abort=True)
    platform.own.delete("functions", name)
    code_bucket.remove(platform, f"{_KEY_PREFIX}/{name}")
    platform.output.say(f"{name} is deleted.")
    if platform.output.as_json:
        platform.output.document({"name": name, "deleted": True})


def _configuration(given: dict[str, Any]) -> dict[str, Any]:
    names = {
        "handler": "handler", "runtime": "runtime", "timeout": "timeoutSeconds",
        "memory": "memoryMib", "description": "description", "env": "environment",
    }  # fmt: skip
    return {names[option]: value for option, value in given.items() if value not in (None, {})}


def _uploaded(platform: Platform, name: str, directory: Path, progress: Progress) -> dict[str, str]:
    with tempfile.TemporaryFile() as scratch:
        packed = bundle.write(directory, (), scratch)
        scratch.seek(0)
        key = code_bucket.key(f"{_KEY_PREFIX}/{name}", packed.sha256)
        progress.update(f"Uploading {packed.files} files ...")
        code_bucket.upload(platform, scratch, key)
    return {"bucket": code_bucket.BUCKET, "key": key}


def _wait(platform: Platform, made: dict[str, Any], progress: Progress) -> None:
    progress.update(f"Building {made['name']} ...")
    got = wait_until_ready(platform, made["agentRuntimeId"], progress)
    if got["status"] != _READY:
        raise CliError(
            f"{made['name']} could not be built: {got.get('failureReason') or got['status']}",
            code=got["status"],
        )


def _show(platform: Platform, document: dict[str, Any]) -> None:
    output = platform.output
    if output.as_json:
        output.document(document)
        return
    reason = f" ({document['statusReason']})" if document["statusReason"] else ""
    output.say(f"{document['name']} is {document['status']}{reason}")
    output.say(document["arn"])
    output.table(
        ("RUNTIME", "HANDLER", "SECONDS", "MIB", "AGENT RUNTIME"),
        [
            (
                document["runtime"],
                document["handler"],
                str(document["timeoutSeconds"]),
                str(document["memoryMib"]),
                document["agentRuntimeId"],
            )
        ],
    )


def _event(text: str) -> Any:
    if text == "-":
        text = sys.stdin.read()
    elif text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except OSError as error:
            raise CliError(str(error), code="NoEvent") from None
    try:
        return json.loads(text)
    except ValueError as error:
        raise CliError(f"The event is no JSON: {error}", code="BadEvent") from None
