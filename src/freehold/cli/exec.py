"""`freehold exec`: a command in a session, its output as it comes, its exit code as ours."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import click

from freehold.cli import runtimes
from freehold.cli.failure import CliError
from freehold.cli.options import platform_options
from freehold.cli.platform import Platform
from freehold.cli.session_id import checked_session


@click.command(name="exec")
@click.argument("name")
@click.argument("command", nargs=-1, required=True)
@click.option(
    "--session",
    help="The session to run it in, or `new`. Without it a new one is made and shown.",
)
@click.option("--qualifier", help="The endpoint that the session belongs to (default: DEFAULT).")
@click.option(
    "--timeout", type=click.IntRange(1, 3600), help="Seconds that it may take (default: 300)."
)
@platform_options
def execute(
    platform: Platform,
    *,
    name: str,
    command: tuple[str, ...],
    session: str | None,
    qualifier: str | None,
    timeout: int | None,
) -> int:
    """Run COMMAND beside an agent, in its session, and exit as it does.

    NAME is the agent's name, id or ARN. A command of one word is a line for the session's shell;
    of several, they are its arguments as they are. A command that takes too long is ended, and the
    exit status is 124.

    \b
    Examples:
      freehold exec greeter --session ID -- python -c "print(6 * 7)"
      freehold exec greeter --session ID -- "ls /tmp | wc -l"
    """
    session_id = checked_session(session)
    runtime = runtimes.find(platform, name)
    body: dict[str, Any] = {"command": command[0] if len(command) == 1 else shlex.join(command)}
    if timeout is not None:
        body["timeout"] = timeout
    request: dict[str, Any] = {
        "agentRuntimeArn": runtime.arn,
        "runtimeSessionId": session_id,
        "body": body,
    }
    if qualifier:
        request["qualifier"] = qualifier
    if session in (None, "new"):
        platform.output.note(f"session: {session_id}")
    answer = platform.data.invoke_agent_runtime_command(**request)
    said: dict[str, list[str]] = {"stdout": [], "stderr": []}
    end: dict[str, Any] | None = None
    for content in _contents(answer["stream"]):
        end = content.get("contentStop") or end
        for stream, text in content.get("contentDelta", {}).items():
            if platform.output.as_json:
                said[stream].append(text)
            else:
                _show(stream, text)
    if end is None:
        raise CliError("The answer broke off before the command ended.", code="ConnectionLost")
    if platform.output.as_json:
        texts = {stream: "".join(parts) for stream, parts in said.items()}
        platform.output.document({"sessionId": session_id, **end, **texts})
    elif end["status"] == "TIMED_OUT":
        platform.output.note("The command took too long, and was ended.")
    return int(end["exitCode"])


def _contents(stream: Any) -> Iterator[dict[str, Any]]:
    with closing(stream):
        for event in stream:
            yield event.get("chunk", {})


def _show(stream: str, text: str) -> None:
    file = sys.stderr if stream == "stderr" else sys.stdout
    file.write(text)
    file.flush()
