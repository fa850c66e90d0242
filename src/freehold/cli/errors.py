"""What went wrong, as the command line tells it: one line, a hint, an exit status; no traceback."""

import sys
from types import ModuleType
from typing import Any

import click

from freehold.cli.connection import Connection
from freehold.cli.failure import CliError

_SIGNATURE_CODES = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "IncompleteSignatureException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)


def no_platform(endpoint: str) -> CliError:
    return CliError(f"No Freehold at {endpoint}. Start one with: freehold up", code="NoPlatform")


def refused(code: str, message: str, request_id: str | None, connection: Connection) -> CliError:
    """An error that the platform answered with."""
    hint = None
    if code in ("ExpiredTokenException", "ExpiredToken"):
        hint = "Sign in again with: freehold login"
    elif code in _SIGNATURE_CODES:
        hint = f"Signed with access key {connection.access_key_id}, from {connection.source}."
    return CliError(message or code, code=code, hint=hint, request_id=request_id)


def explained(error: BaseException, connection: Connection) -> CliError | None:
    """What an error of boto3, botocore or urllib3 means here; None when it is none of theirs.

    The libraries are looked up, not imported: when one is not loaded, the error is not its own.
    """
    botocore = sys.modules.get("botocore.exceptions")
    urllib3 = sys.modules.get("urllib3.exceptions")
    uploads = sys.modules.get("boto3.exceptions")
    meant = None
    if _is_any(error, botocore, "ClientError"):
        meant = _client_error(error, connection)
    elif _is_any(error, botocore, "ParamValidationError"):
        meant = CliError(str(error), code="ValidationException")
    elif _is_any(error, botocore, "EndpointConnectionError", "ConnectTimeoutError") or _is_any(
        error, urllib3, "NewConnectionError", "ConnectTimeoutError"
    ):
        meant = no_platform(connection.endpoint)
    elif _is_any(error, botocore, "BotoCoreError") or _is_any(error, urllib3, "HTTPError"):
        meant = CliError(f"The answer broke off: {error}", code="ConnectionLost")
    elif _is_any(error, uploads, "Boto3Error"):
        # The S3 transfer wraps the answer in text of its own and keeps it as the context.
        cause = error.__cause__ or error.__context__
        inner = explained(cause, connection) if cause is not None else None
        meant = inner or CliError(str(error), code="UploadFailed")
    return meant


def _is_any(error: BaseException, library: ModuleType | None, *names: str) -> bool:
    return library is not None and isinstance(error, tuple(getattr(library, n) for n in names))


def _client_error(error: Any, connection: Connection) -> CliError:
    body = error.response.get("Error", {})
    metadata = error.response.get("ResponseMetadata", {})
    return refused(
        body.get("Code", "Failed"),
        body.get("Message", "") or str(error),
        metadata.get("RequestId"),
        connection,
    )


def print_error(error: CliError, *, as_json: bool) -> None:
    """To standard error, as one JSON object or as a line for people."""
    if as_json:
        import json

        click.echo(json.dumps({"error": error.document()}, ensure_ascii=False), err=True)
        return
    click.echo(f"{click.style('Error:', fg='red')} {error.message}", err=True)
    if error.hint:
        click.echo(error.hint, err=True)
