"""`freehold env`: the exports that point AWS's own clients at this platform."""

import shlex
from pathlib import Path

import click

from freehold.cli.options import platform_options
from freehold.cli.platform import Platform

_SERVICES = (
    "BEDROCK_AGENTCORE",
    "BEDROCK_AGENTCORE_CONTROL",
    "AGENT_REGISTRY",
    "AGENT_REGISTRY_CONTROL",
)


@click.command()
@platform_options
def env(platform: Platform) -> None:
    """Print exports that point boto3 and the SDK here.

    \b
    Example:
      eval "$(freehold env)"
    """
    connection = platform.connection
    variables = {
        **{f"AWS_ENDPOINT_URL_{name}": connection.endpoint for name in _SERVICES},
        "AWS_ENDPOINT_URL_S3": f"{connection.endpoint}/_s3",
        "AWS_ACCESS_KEY_ID": connection.access_key_id,
        "AWS_SECRET_ACCESS_KEY": connection.secret_access_key,
        "AWS_REGION": connection.region,
        "AWS_DEFAULT_REGION": connection.region,
        "FREEHOLD_ENDPOINT": connection.endpoint,
    }
    if connection.session_token is not None:
        variables["AWS_SESSION_TOKEN"] = connection.session_token
    if connection.ca_certificate is not None:
        # The bundle holds what this machine trusts anyway, too: other programs go on to work.
        bundle = str(Path(connection.ca_certificate).with_name("bundle.pem"))
        variables |= {
            "AWS_CA_BUNDLE": bundle,
            "SSL_CERT_FILE": bundle,
            "NODE_EXTRA_CA_CERTS": connection.ca_certificate,
        }
    if platform.output.as_json:
        platform.output.document(variables)
        return
    # A session token or a profile of the user's would be signed with, or asked, first.
    platform.output.say("unset AWS_SESSION_TOKEN AWS_PROFILE")
    for name, value in variables.items():
        platform.output.say(f"export {name}={shlex.quote(value)}")
