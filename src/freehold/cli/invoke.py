"""`freehold invoke`: talk to an agent, its answer shown as it comes."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from freehold.cli import runtimes
from freehold.cli.answer import NotText, pieces, show_answer
from freehold.cli.errors import explained
from freehold.cli.failure import CliError
from freehold.cli.options import platform_options
from freehold.cli.platform import Platform
from freehold.cli.session_id import checked_session

_CHUNK_BYTES = 65536


@click.command()
@click.argument("name")
@click.argument("payload", default="{}")
@click.option(
    "--session",
    help="The session to go on with, or `new`. Without it a new one is made and shown.",
)
@click.option("--qualifier", help="The endpoint to call (default: DEFAULT).")
@click.option("--user", help="The user id that the agent is told.")
@click.option(
    "--token",
    envvar="FREEHOLD_TOKEN",
    help="A bearer token, for an agent whose authorizer asks for one; better in FREEHOLD_TOKEN.",
)
@click.option(
    "--content-type", default="application/json", show_default=True, help="What the payload is."
)
@click.option("--raw", is_flag=True, help="The answer's bytes as they come, whatever they are.")
@platform_options
def invoke(
    platform: Platform,
    *,
    name: str,
    payload: str,
    session: str | None,
    qualifier: str | None,
    user: str | None,
    token: str | None,
    content_type: str,
    raw: bool,
) -> None:
    """Send PAYLOAD to an agent and show the answer as it comes.

    NAME is the agent's name, id or ARN. PAYLOAD is JSON, or text that becomes
    {"prompt": text}; `-` reads it from standard input, `@file` from a file. The session id goes
    to standard error: give it to the next call to go on in the same sandbox.

    \b
    Examples:
      freehold invoke greeter "Good morning"
      freehold invoke greeter '{"prompt": "And now?"}' --session ID
      freehold invoke greeter @order.xml --content-type application/xml --raw
    """
    if raw and platform.output.as_json:
        raise click.UsageError("--raw and --json exclude each other.")
    session_id = checked_session(session)
    body = _body(payload, content_type)
    runtime = runtimes.find(platform, name)
    request: dict[str, Any] = {
        "agentRuntimeArn": runtime.arn,
        "runtimeSessionId": session_id,
        "contentType": content_type,
        "accept": "text/event-stream, application/json, */*",
        "payload": body,
    }
    if qualifier:
        request["qualifier"] = qualifier
    if user:
        request["runtimeUserId"] = user
    platform.output.note(f"session: {session_id}")
    try:
        data = platform.data_with(token) if token else platform.data
        _talk(platform, data, request, session_id, raw=raw)
    except CliError as error:
        _hint_at_log(error, runtime.name, session_id)
        raise
    except Exception as error:  # a boundary: what no client of ours raised goes on as it is
        meant = explained(error, platform.connection)
        if meant is None:
            raise
        _hint_at_log(meant, runtime.name, session_id)
        raise meant from error


def _talk(
    platform: Platform, data: Any, request: dict[str, Any], session_id: str, *, raw: bool
) -> None:
    answer = data.invoke_agent_runtime(**request)
    kind = answer.get("contentType", "")
    chunks = _chunks(answer["response"])
    if raw:
        for chunk in chunks:
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
        return
    if platform.output.as_json:
        document = {
            "sessionId": answer.get("runtimeSessionId") or session_id,
            "statusCode": answer.get("statusCode"),
            "contentType": kind,
        }
        platform.output.document({**document, **pieces(kind, chunks)})
        return
    try:
        show_answer(kind, chunks)
    except NotText as error:
        raise CliError(
            f"The answer is {kind or 'of no stated type'}, which is not text.",
            code="NotText",
            hint="Write it to a file with: --raw > FILE",
        ) from error


def _chunks(body: Any) -> Iterator[bytes]:
    """The answer's bytes the moment that they come: `read` would wait for a full buffer."""
    with body as stream:
        while chunk := stream.read1(_CHUNK_BYTES):
            yield chunk
        # botocore tells urllib3 not to check, and checks in the `read` that is not used here.
        if missing := stream.length_remaining:
            raise CliError(f"The answer broke off: {missing} bytes lack.", code="ConnectionLost")


def _body(payload: str, content_type: str) -> bytes:
    """What to send. Only for JSON is text that is not JSON made into a prompt."""
    if payload == "-":
        data = sys.stdin.buffer.read()
    elif payload.startswith("@"):
        data = Path(payload[1:]).read_bytes()
    else:
        data = payload.encode()
    if content_type.partition(";")[0].strip().lower() != "application/json":
        return data
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise CliError(
            "The payload is not text: say what it is with --content-type.", code="NotText"
        ) from None
    try:
        json.loads(text)
    except ValueError:
        return json.dumps({"prompt": text}, ensure_ascii=False).encode()
    return data


def _hint_at_log(error: CliError, name: str, session_id: str) -> None:
    """A failure of the agent itself says how to read what the agent wrote."""
    if error.code in {"RuntimeClientError", "AgentFailed", "ConnectionLost"}:
        error.hint = f"See its log: freehold logs {name} --session {session_id}"
    if error.code == "RuntimeClientError":
        error.message = f"The agent failed: {error.message}"
