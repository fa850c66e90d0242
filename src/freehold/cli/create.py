"""`freehold create`: a new agent from a template."""

from importlib import resources
from pathlib import Path

import click

from freehold.cli.failure import CliError
from freehold.cli.options import json_option
from freehold.cli.output import Output
from freehold.cli.project import runtime_here
from freehold.cli.runtimes import checked_name

TEMPLATES = ("plain", "strands", "langgraph")
_SUFFIX = ".tmpl"


@click.command()
@click.argument("name")
@click.option(
    "--template",
    type=click.Choice(TEMPLATES),
    default="plain",
    show_default=True,
    help="plain needs no model; strands and langgraph talk to one.",
)
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to (default: a folder called NAME).",
)
@json_option
def create(output: Output, name: str, template: str, directory: Path | None) -> None:
    """Make the folder of a new agent. Files that are there are never overwritten."""
    name = checked_name(name)
    target = directory or Path(name)
    files = rendered(template, name)
    if there := sorted(path for path in files if (target / path).exists()):
        raise CliError(
            f"{target} has {', '.join(there)} already; nothing was written.",
            code="AlreadyThere",
            hint="Choose another place with --dir.",
        )
    target.mkdir(parents=True, exist_ok=True)
    for path, text in files.items():
        with (target / path).open("x", encoding="utf-8") as file:
            file.write(text)
    if output.as_json:
        output.document(
            {
                "name": name,
                "template": template,
                "directory": str(target.absolute()),
                "files": sorted(files),
            }
        )
    output.say(f"Made {name} in {target}: {', '.join(sorted(files))}")
    output.note(f"Next: freehold deploy {target}   (or try it here: freehold dev {target})")


def rendered(template: str, name: str) -> dict[str, str]:
    """The files of a new agent by their paths. Files of all templates come from `common`."""
    templates = resources.files("freehold.cli") / "templates"
    values = {"{{name}}": name, "{{runtime}}": runtime_here(), "{{template}}": template}
    files = {}
    for folder in ("common", template):
        for source in (templates / folder).iterdir():
            if not source.name.endswith(_SUFFIX):
                continue
            text = source.read_text(encoding="utf-8")
            for mark, value in values.items():
                text = text.replace(mark, value)
            path = source.name.removesuffix(_SUFFIX)
            files["." + path[4:] if path.startswith("dot-") else path] = text
    return files
