"""The commands' part of docs/cli.md, made from the commands themselves.

`python -m freehold.cli.reference docs/cli.md` rewrites it; a test compares.
"""

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from freehold.cli.root import root

BEGIN = "<!-- commands: made by `python -m freehold.cli.reference docs/cli.md` -->"
END = "<!-- end of commands -->"


def markdown() -> str:
    return "\n\n".join(_section(context) for context in _contexts(click.Context(root)))


def _contexts(parent: click.Context) -> Iterator[click.Context]:
    """Every command that can be run, in the order of `--help`."""
    group = parent.command
    assert isinstance(group, click.Group)
    for name in group.list_commands(parent):
        command = group.commands[name]
        context = click.Context(command, info_name=name, parent=parent)
        if isinstance(command, click.Group):
            yield from _contexts(context)
        elif not command.hidden:
            yield context


def _section(context: click.Context) -> str:
    path = context.command_path.strip()
    usage = " ".join(context.command.collect_usage_pieces(context))
    parts = [f"## freehold {path}", f"```\nfreehold {path} {usage}\n```", _help(context.command)]
    options = [o for o in context.command.params if isinstance(o, click.Option)]
    rows = "\n".join(_row(option, context) for option in options)
    parts.append(f"| option | meaning |\n|---|---|\n{rows}")
    return "\n\n".join(parts)


def _help(command: click.Command) -> str:
    """The docstring; a block after `\\b` is kept as it is, as an example."""
    out = []
    for block in inspect.cleandoc(command.help or "").split("\n\n"):
        if not block.startswith("\b"):
            out.append(block)
            continue
        title, _, rest = block.removeprefix("\b\n").partition("\n")
        out.append(f"{title}\n\n```\n{inspect.cleandoc(rest)}\n```")
    return "\n\n".join(out)


def _row(option: click.Option, context: click.Context) -> str:
    record = option.get_help_record(context)
    assert record is not None, f"{option.name} is hidden"
    names, meaning = record
    return f"| `{names.replace('|', ', ')}` | {meaning.replace('|', ', ')} |"


def page(text: str) -> str:
    """The page with its commands' part made anew; what is written by hand stays."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks {BEGIN!r} or {END!r}")
    return f"{before}{BEGIN}\n\n{markdown()}\n\n{END}{after}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(page(path.read_text(encoding="utf-8")), encoding="utf-8")
