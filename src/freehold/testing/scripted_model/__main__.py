"""`python -m freehold.testing.scripted_model`: serves until SIGINT or SIGTERM."""

import asyncio
import signal
from pathlib import Path

import click

from freehold.testing.scripted_model.script import DEFAULT_SCRIPT, MODEL_NAME, Script
from freehold.testing.scripted_model.server import ScriptedModel


@click.command()
@click.option("--port", default=0, show_default=True, help="Loopback port; 0 takes a free one.")
@click.option("--script", "path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(port: int, path: Path | None) -> None:
    """A scripted stand-in for a model, for tests and demos without an account."""
    try:
        script = Script.from_json(path.read_bytes()) if path else DEFAULT_SCRIPT
    except ValueError as error:
        raise click.ClickException(f"{path}: {error}") from error
    asyncio.run(_serve(script, port))


async def _serve(script: Script, port: int) -> None:
    stop = asyncio.Event()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    async with ScriptedModel(script, port=port) as model:
        click.echo(f"{MODEL_NAME}: a scripted stand-in, not a model, at {model.base_url}")
        await stop.wait()


if __name__ == "__main__":
    main()
