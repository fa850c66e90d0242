"""The `--session` of the commands that go into one."""

import uuid

from freehold.cli.failure import CliError

CHARACTERS_MIN, CHARACTERS_MAX = 33, 256


def checked_session(given: str | None) -> str:
    """As given; a new id for `new` and for none. Raises CliError for one that AgentCore refuses."""
    if given is None or given == "new":
        return str(uuid.uuid4())
    if not CHARACTERS_MIN <= len(given) <= CHARACTERS_MAX:
        raise CliError(
            f"--session {given!r} has {len(given)} characters; AgentCore wants "
            f"{CHARACTERS_MIN} to {CHARACTERS_MAX}.",
            code="BadSessionId",
            hint="Use --session new, and then the id that is shown.",
            exit_code=2,
        )
    return given
