"""`freehold shell`: a terminal in a session, which goes on when the connection does not."""

import shlex
import uuid

import click

from freehold.cli import runtimes
from freehold.cli.options import platform_options
from freehold.cli.platform import Platform
from freehold.cli.session_id import checked_session


@click.command()
@click.argument("name")
@click.option(
    "--session",
    help="The session to go into, or `new`. Without it a new one is made and shown.",
)
@click.option("--qualifier", help="The endpoint that the session belongs to (default: DEFAULT).")
@click.option("--shell", "shell_id", help="The shell to come back to. Without it a new one begins.")
@platform_options
def shell(
    platform: Platform,
    *,
    name: str,
    session: str | None,
    qualifier: str | None,
    shell_id: str | None,
) -> int:
    """Open a terminal in an agent's session.

    NAME is the agent's name, id or ARN. Ctrl-] leaves the shell running, to be come back to with
    --shell; a connection that breaks is made again. Without a terminal, standard input is typed
    into the shell. The exit status is the shell's.

    \b
    Examples:
      freehold shell greeter --session ID
      echo "ps aux" | freehold shell greeter --session ID
    """
    from freehold.cli.visit import Visit, raw_terminal

    if platform.output.as_json:
        raise click.UsageError("--json: a terminal has no JSON; `freehold exec` does.")
    session_id = checked_session(session)
    runtime = runtimes.find(platform, name)
    if session in (None, "new"):
        platform.output.note(f"session: {session_id}")
    visit = Visit(platform, runtime.arn, session_id, qualifier, shell_id or str(uuid.uuid4()))
    with raw_terminal():
        code = visit.visited()
    if code is not None:
        return code
    flags = f" --qualifier {shlex.quote(qualifier)}" if qualifier else ""
    platform.output.note(
        f"Left running. Come back with: freehold shell {shlex.quote(name)} --session {session_id}"
        f"{flags} --shell {visit.shell_id}"
    )
    return 0
