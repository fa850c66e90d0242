"""`freehold tls`: the certificate authority of this machine's platform, and how to trust it."""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from freehold.cli.connection import default_state
from freehold.cli.failure import CliError
from freehold.cli.options import json_option
from freehold.cli.output import Output

if TYPE_CHECKING:
    from freehold.tls import Facts


@click.command()
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    help="The state directory of the platform.",
)
@json_option
def tls(output: Output, *, state: Path | None) -> None:
    """Show the certificate authority of `freehold up --tls` and how clients trust it.

    The `freehold` command itself trusts it without being told.
    """
    from freehold.tls import Unreadable, facts

    directory = state or default_state(os.environ)
    try:
        found = facts(directory)
    except Unreadable as error:
        raise CliError(str(error), code="CertificatesUnreadable") from error
    except OSError as error:
        raise CliError(
            f"The certificates in {directory} cannot be read: {error.strerror}.",
            code="CertificatesUnreadable",
            hint="They are for the user who runs the platform alone.",
        ) from error
    if found is None:
        raise CliError(
            f"{directory} has no certificates yet.",
            code="NoCertificates",
            hint="They are made on first use: freehold up --tls",
        )
    if output.as_json:
        output.document(msgspec.to_builtins(found))
        return
    _tell(output, found)


def _tell(output: Output, found: "Facts") -> None:
    ca, bundle = shlex.quote(found.ca), shlex.quote(found.bundle)
    output.say(f"Authority    {found.ca}")
    output.say(f"  SHA-256    {found.fingerprint}")
    output.say(f"  until      {found.ca_until:%Y-%m-%d}")
    output.say("Certificate  of the server, renewed by itself")
    output.say(f"  names      {', '.join(found.names)}")
    output.say(f"  until      {found.until:%Y-%m-%d}")
    output.say("To trust it:")
    output.say(f"  curl                       --cacert {ca}")
    output.say(f"  boto3, the AWS CLI         export AWS_CA_BUNDLE={bundle}")
    output.say(f"  Python (httpx, websockets) export SSL_CERT_FILE={bundle}")
    output.say(f"  Node.js                    export NODE_EXTRA_CA_CERTS={ca}")
    output.say('All of it at once, with the endpoints: eval "$(freehold env)"')
