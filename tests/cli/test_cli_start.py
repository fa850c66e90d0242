"""The command starts fast, knows its commands, and refuses what it does not understand."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from cli_doubles import Run

import freehold
from freehold.cli.root import root

# Each costs more than the whole start may; a command imports one when it needs it.
SLOW_MODULES = {"boto3", "botocore", "rich", "urllib3", "watchfiles", "aiohttp", "asyncio"}


def test_help_imports_no_slow_library() -> None:
    code = (
        "import sys\n"
        "from freehold.cli.root import root\n"
        "try: root.main(['--help'], 'freehold')\n"
        "except SystemExit: print(' '.join(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert "freehold.cli.root" in done.stderr.split()
    assert not SLOW_MODULES & set(done.stderr.split())


def test_the_console_script_is_this_command() -> None:
    script = Path(sys.executable).parent / "freehold"
    done = subprocess.run(
        [script, "--version"], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == f"freehold, version {freehold.__version__}\n"


def _commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for name, command in group.commands.items():
        inner = (*path, name)
        found += _commands(command, inner) if isinstance(command, click.Group) else [inner]
    return found


def test_help_lists_every_command(run: Run) -> None:
    listed = [line.split()[0] for line in run("--help").stdout.splitlines() if line[:2] == "  "]
    for command in (
        *("up", "doctor", "env", "create", "dev", "deploy", "invoke", "list", "status", "logs"),
        *("sessions", "stop", "destroy", "costs", "keys"),
    ):
        assert command in listed


def test_an_unknown_command_exits_2_and_names_it(run: Run) -> None:
    result = run("depoly")
    assert result.exit_code == 2
    assert "depoly" in result.stderr
    assert result.stdout == ""


def test_a_wrong_option_is_one_json_object_with_json(run: Run) -> None:
    result = run("list", "--json", "--colour")
    assert result.exit_code == 2
    assert json.loads(result.stderr)["error"]["code"] == "Usage"
    assert result.stdout == ""


@pytest.mark.parametrize("command", _commands(root), ids=" ".join)
def test_every_command_takes_json(run: Run, command: tuple[str, ...]) -> None:
    assert "  --json " in run(*command, "--help").stdout
