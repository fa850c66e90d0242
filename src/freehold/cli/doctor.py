"""`freehold doctor`: what this machine offers to the platform, and what is missing."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from freehold.cli.failure import CliError
from freehold.cli.options import json_option
from freehold.cli.output import Output

if TYPE_CHECKING:
    from freehold.processes.examination import Examination

_SIGNS = {"ok": "ok", "limited": "limited", "missing": "MISSING"}


@click.command()
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    help="The state directory to look at.",
)
@json_option
def doctor(output: Output, *, state: Path | None) -> int:
    """Say what this machine offers and what is missing.

    That is: sandbox tiers, each by starting one (a vm by running KVM); Postgres; cgroups and what
    they limit; interpreters for agents; the state directory. The exit status is 0 unless nothing
    here can run a session.
    """
    # The platform's own parts are slow to import, and no other command needs them.
    import asyncio

    from freehold.processes.examination import examine
    from freehold.settings import SettingsError, load

    try:
        settings = load(state=state)
    except SettingsError as error:
        raise CliError(str(error), code="BadSetting", exit_code=2) from error
    found = asyncio.run(examine(settings))
    if output.as_json:
        output.document(msgspec.to_builtins(found))
    else:
        _tell(output, found)
    return 0 if found.sessions else 1


def _tell(output: Output, found: "Examination") -> None:
    width = max(len(finding.name) for finding in found.findings)
    for finding in found.findings:
        output.say(f"{_SIGNS[finding.status]:8} {finding.name:{width}}  {finding.detail}")
        if finding.advice:
            output.say(f"{'':8} {'':{width}}  -> {finding.advice}")
    if not found.sessions:
        output.say("Nothing here can run a session.")
