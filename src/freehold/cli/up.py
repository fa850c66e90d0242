"""`freehold up`: start the platform on this machine."""

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from freehold import __version__
from freehold.cli.connection import default_state
from freehold.cli.failure import CliError
from freehold.cli.options import json_option
from freehold.cli.output import Output

if TYPE_CHECKING:
    from freehold.app import Running

ADMIN_PASSWORD_FILE = "admin-password"  # noqa: S105 - its name
LOG_LEVELS = ("debug", "info", "warning", "error")
TIERS = ("auto", "container", "gvisor", "vm", "process")


@click.command()
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the platform keeps its data.",
)
@click.option("--host", help="The address to listen on (default: 127.0.0.1).")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="The port (default: 8400; 0 picks a free one)."
)
@click.option("--tls", is_flag=True, help="Serve https, with a certificate authority of its own.")
@click.option(
    "--tls-name",
    "tls_names",
    multiple=True,
    metavar="NAME",
    help="A further name that the certificate holds for. May be repeated; implies --tls.",
)
@click.option("--database-url", help="A Postgres of yours in place of the embedded one.")
@click.option("--workers", type=click.IntRange(min=1), help="How many API workers to run.")
@click.option("--tier", type=click.Choice(TIERS), help="The sandbox tier for new sessions.")
@click.option(
    "--allow-process-tier",
    is_flag=True,
    help="Allow sessions in plain processes, which isolates nothing.",
)
@click.option("--log-level", type=click.Choice(LOG_LEVELS), help="How much to log.")
@json_option
def up(
    output: Output,
    *,
    state: Path | None,
    host: str | None,
    port: int | None,
    tls: bool,
    tls_names: tuple[str, ...],
    database_url: str | None,
    workers: int | None,
    tier: str | None,
    allow_process_tier: bool,
    log_level: str | None,
) -> None:
    """Start the platform here and keep it running until Ctrl-C."""
    # The platform's own parts are slow to import, and no other command needs them.
    from freehold import app
    from freehold.settings import SettingsError, load, unknown_variables
    from freehold.state import AlreadyRunning, StateUnusable
    from freehold.supervisor import DidNotStart

    for unknown in unknown_variables(os.environ):
        click.echo(f"Warning: {unknown}", err=True)
    try:
        settings = load(
            state=state,
            host=host,
            port=port,
            tls=bool(tls or tls_names) or None,
            tls_names=",".join(tls_names) or None,
            database_url=database_url,
            workers=workers,
            sandbox_tier=tier,
            allow_process_tier=allow_process_tier or None,
            log_level=log_level,
        )
        app.up(settings, lambda running: _announce(output, running))
    except SettingsError as error:
        raise CliError(str(error), code="BadSetting", exit_code=2) from error
    except AlreadyRunning as error:
        raise CliError(str(error), code="AlreadyRunning") from error
    except StateUnusable as error:
        raise CliError(str(error), code="StateUnusable") from error
    except DidNotStart as error:
        raise CliError(str(error), code="DidNotStart") from error
    output.say("Stopped.")


def _announce(output: Output, running: "Running") -> None:
    if output.as_json:
        output.line(msgspec.to_builtins(running))
        sys.stdout.flush()
        return
    output.say(f"Freehold {__version__} is up at {running.endpoint}")
    output.say(f"  sessions   {running.tier} tier" + _detail(running))
    output.say(f"  state      {running.state}")
    output.say(f"  account    {running.account}, access key {running.access_key_id}")
    if running.ca_certificate is not None:
        output.say(
            f"  trust      {running.ca_certificate} (see: freehold tls{_state_flag(running)})"
        )
    password = Path(running.state) / ADMIN_PASSWORD_FILE
    if password.exists():
        output.say(f"  console    {running.endpoint}/console; name and password are in {password}")
    output.say("Next, in another shell:")
    output.say(f'  eval "$(freehold env{_state_flag(running)})" && freehold create hello')
    sys.stdout.flush()


def _detail(running: "Running") -> str:
    return f" ({running.tier_detail})" if running.tier_detail else ""


def _state_flag(running: "Running") -> str:
    given = Path(running.state)
    return "" if given == default_state(os.environ) else f" --state {shlex.quote(str(given))}"
