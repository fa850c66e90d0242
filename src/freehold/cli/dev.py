"""`freehold dev`: an agent run on this machine, without a sandbox, and again at each change."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType

import click

from freehold.cli import connection, project
from freehold.cli.failure import CliError
from freehold.cli.ignore import ALWAYS, Ignore
from freehold.cli.options import json_option
from freehold.cli.output import Output
from freehold.cli.project import PORTS, Project

STOP_SECONDS_MAX = 5.0
_WATCH_MS = 200
_INSTRUMENT, _COLLECTOR = "opentelemetry-instrument", "OTEL_EXPORTER_OTLP_ENDPOINT"
_PATHS = {"HTTP": "/invocations", "AGUI": "/invocations", "MCP": "/mcp", "A2A": "/"}


@click.command()
@click.argument(
    "directory",
    metavar="[DIR]",
    default=".",
    type=click.Path(path_type=Path, file_okay=False),
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="Handed to the agent as PORT (default: 8080, for MCP 8000, for A2A 9000).",
)
@click.option(
    "--install", is_flag=True, help="Install requirements.txt into DIR/.venv first, making it."
)
@json_option
def dev(output: Output, directory: Path, port: int | None, install: bool) -> None:
    """Run the agent in DIR here, again at each change.

    DIR is this folder when it is not given. The agent runs as you, without a sandbox, with the
    Python of DIR/.venv where there is one. When a platform runs here, the agent's AWS clients
    are pointed at it. Ctrl-C ends it. With --json, one object on each line of standard output,
    and the agent's own output on standard error.
    """
    directory = directory.absolute()
    agent = project.load(directory)
    if agent.image is not None:
        raise CliError(
            f"{agent.name} is a container image, and dev runs code.",
            code="NotCode",
            hint=f"Try it with: docker run --rm -p 8080:8080 {agent.image}",
        )
    if install:
        _install(output, directory)
    port = port or PORTS[agent.protocol]
    _refuse_taken(port)
    runner = _Runner(output, directory, agent, port)
    # Whatever asks this process to end, the agent must not outlive it.
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        _run_and_restart(runner, directory)
    finally:
        runner.stop()


def _as_interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _run_and_restart(runner: "_Runner", directory: Path) -> None:
    from watchfiles import Change, watch

    ignore = Ignore(ALWAYS)

    def counts(change: Change, path: str) -> bool:
        relative = Path(path).relative_to(directory)
        return not any(
            ignore.matches(part.as_posix(), folder=folder)
            for part in (relative, *relative.parents)
            if part.name
            for folder in (False, True)
        )

    stream = watch(
        directory,
        watch_filter=counts,
        raise_interrupt=True,
        rust_timeout=_WATCH_MS,
        yield_on_timeout=True,
    )
    # The watch stands once the first round is over: only then start, and miss no change.
    next(stream)
    runner.start()
    for changes in stream:
        if changes:
            runner.restart(sorted({str(Path(path).relative_to(directory)) for _, path in changes}))


class _Runner:
    """The agent's process, one at a time."""

    def __init__(self, output: Output, directory: Path, agent: Project, port: int) -> None:
        self._output = output
        self._directory = directory
        self._agent = agent
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        url = f"http://127.0.0.1:{self._port}{_PATHS[self._agent.protocol]}"
        process = subprocess.Popen(
            _command(self._directory, self._agent),
            cwd=self._directory,
            env=_environment(self._directory, self._agent, self._port),
            # Its own group: Ctrl-C reaches us, and we end it and what it started.
            start_new_session=True,
            stdout=sys.stderr.fileno() if self._output.as_json else None,
        )
        self._process = process
        threading.Thread(target=self._watch, args=(process,), daemon=True).start()
        self._tell("started", f"{self._agent.name} runs at {url}", pid=process.pid, url=url)

    def restart(self, changed: list[str]) -> None:
        self._tell("changed", f"Changed: {', '.join(changed)}", files=changed)
        try:
            self._agent = project.load(self._directory)
        except CliError as error:
            # Half-edited; the agent goes on as it was until the file is whole again.
            self._tell("invalid", error.message, message=error.message)
            return
        self.stop()
        self.start()

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        _signal_group(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS_MAX)
        # What the agent itself started and left behind ends too.
        _signal_group(process, signal.SIGKILL)
        process.wait()

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        code = process.wait()
        if process is self._process:
            self._tell(
                "ended",
                f"The agent ended with status {code}. It starts again at the next change.",
                exitCode=code,
            )

    def _tell(self, event: str, text: str, **fields: object) -> None:
        if self._output.as_json:
            self._output.line({"event": event, **fields})
        self._output.note(text)


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return


def _bin(directory: Path) -> Path | None:
    folder = directory / ".venv" / "bin"
    return folder if (folder / "python").exists() else None


def _command(directory: Path, agent: Project) -> list[str]:
    """Instrumented only where somebody said to where spans go: nothing here takes them."""
    folder = _bin(directory)
    *launcher, entry = agent.entry_point
    if agent.runtime.startswith("NODE"):
        plain = ["node", entry]
    else:
        plain = [str(folder / "python") if folder else sys.executable, entry]
    if not launcher:
        return plain
    found = shutil.which(launcher[0], path=f"{folder}:{os.environ.get('PATH', '')}")
    if launcher[0] != _INSTRUMENT:
        return [found or launcher[0], entry]
    wanted = _COLLECTOR in agent.environment or _COLLECTOR in os.environ
    return [found, *plain] if found and wanted else plain


def _environment(directory: Path, agent: Project, port: int) -> dict[str, str]:
    """Ours, then the platform's address where one runs, then what freehold.toml says."""
    values = {**os.environ, "PYTHONUNBUFFERED": "1", "PORT": str(port)}
    if folder := _bin(directory):
        values["PATH"] = f"{folder}:{values.get('PATH', '')}"
        values["VIRTUAL_ENV"] = str(folder.parent)
    values |= _platform_variables()
    return values | agent.environment


def _platform_variables() -> dict[str, str]:
    """What points AWS's clients at the platform; nothing where none is found or listens."""
    try:
        found = connection.resolve(endpoint=None, state=None)
    except CliError:
        return {}
    if not connection.listens(found.endpoint):
        return {}
    return {
        "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE": found.endpoint,
        "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL": found.endpoint,
        "AWS_REGION": found.region,
        "AWS_DEFAULT_REGION": found.region,
        "AWS_ACCESS_KEY_ID": found.access_key_id,
        "AWS_SECRET_ACCESS_KEY": found.secret_access_key,
        **({"AWS_SESSION_TOKEN": found.session_token} if found.session_token else {}),
    }


def _refuse_taken(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise CliError(
                f"Port {port} cannot be used: {error.strerror}.",
                code="PortTaken",
                hint="Give another with --port.",
            ) from error


def _install(output: Output, directory: Path) -> None:
    requirements = directory / "requirements.txt"
    if not requirements.is_file():
        raise CliError(f"There is no requirements.txt in {directory}.", code="NoRequirements")
    python = directory / ".venv" / "bin" / "python"
    steps = [[str(python), "-m", "pip", "install", "--quiet", "-r", str(requirements)]]
    if not python.exists():
        steps.insert(0, [sys.executable, "-m", "venv", str(directory / ".venv")])
    with output.progress("Installing requirements.txt into .venv ..."):
        for step in steps:
            done = subprocess.run(step, capture_output=True, text=True, check=False)
            if done.returncode:
                last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
                raise CliError(f"The installation failed:\n{last}", code="InstallFailed")
