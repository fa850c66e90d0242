"""The pages on policies say what the commands and the example really are."""

import re
import shlex
from pathlib import Path

import click
import pytest

from freehold.cli.root import root

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("policy*.md"))


def _commands(page: Path) -> list[list[str]]:
    """Each `freehold policy ...` of a page, as the words that a shell makes of it."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`(freehold policy [^`]*)`", text.replace("\n", " "))
    lines += re.findall(r"^ +(?:- run: )?(freehold policy .*)$", text, re.MULTILINE)
    return [
        shlex.split(line, comments=True) for line in lines if line.startswith("freehold policy ")
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_option_of_the_pages_exists(page: Path) -> None:
    found = _commands(page)
    assert found, page.name
    for words in found:
        command: click.Command = root
        rest = words[1:]
        while isinstance(command, click.Group) and rest:
            assert rest[0] in command.commands, " ".join(words)
            command = command.commands[rest.pop(0)]
        known = {name for option in command.params for name in option.opts}
        for word in rest:
            if word.startswith("--"):
                assert word in known, f"{word} in: {' '.join(words)}"


def test_the_rule_of_the_page_is_the_examples() -> None:
    page = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")
    example = (ROOT / "examples" / "policy" / "bank.cedar").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```cedar\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    for policy in shown.strip().split("\n\n"):
        assert policy in example
