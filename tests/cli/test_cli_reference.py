"""docs/cli.md says what the commands are; a command or flag that it lacks fails here."""

import re
from pathlib import Path

import click
import pytest

from freehold.cli import project, reference
from freehold.cli.root import root

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def _commands(group: click.Group) -> list[click.Command]:
    found: list[click.Command] = []
    for command in group.commands.values():
        found += _commands(command) if isinstance(command, click.Group) else [command]
    return found


def test_the_page_is_what_the_commands_say() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert reference.page(text) == text, (
        "make it anew: python -m freehold.cli.reference docs/cli.md"
    )


def test_every_option_is_explained() -> None:
    for command in _commands(root):
        assert command.help, command.name
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help, f"{command.name} {option.opts[0]}"
                assert not option.hidden, f"{command.name} {option.opts[0]}"


def test_every_key_of_the_project_file_is_explained() -> None:
    text = PAGE.read_text(encoding="utf-8")
    table = text.partition("## freehold.toml")[2].partition("# Commands")[0]
    explained = {name.strip("[]") for name in re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)}
    assert explained == set(project.Project.__dataclass_fields__)


def test_every_command_of_the_guides_exists() -> None:
    commands = {command.name for command in _commands(root)} | set(root.commands)
    for page in (PAGE, PAGE.with_name("deploy-an-agent.md")):
        for name in re.findall(r"\bfreehold ([a-z]+)\b", page.read_text(encoding="utf-8")):
            assert name in commands, f"{page.name}: freehold {name}"


def test_a_page_without_its_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks"):
        reference.page("# The command line")
