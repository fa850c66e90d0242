"""`freehold gateway check`: what a gateway could make of a document, without one."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from freehold.cli.failure import CliError
from freehold.cli.gateway import documents
from freehold.cli.options import json_option
from freehold.cli.output import Output, counted
from freehold.kernel.errors import ValidationFailed

if TYPE_CHECKING:
    from freehold.ports.targets import Described


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--openapi", "kind", flag_value="openapi", help="It is an OpenAPI document.")
@click.option("--smithy", "kind", flag_value="smithy", help="It is a Smithy JSON model.")
@json_option
def check(output: Output, *, file: Path, kind: str | None) -> int:
    """Say which tools the document FILE makes, and what cannot be converted and why.

    Nothing is asked or changed. Exits with 1 where nothing can be converted.
    """
    text = documents.read(file)
    kind = kind or _kind(text, file)
    try:
        described = _described(text, kind)
    except ValidationFailed as error:
        raise CliError(f"{file}: {error.message}", code="BadDocument") from None
    tools = [each for each in described.definitions if each.kind == "tool"]
    skipped = sum(problem.skipped for problem in described.problems)
    if output.as_json:
        output.document(_document(kind, described))
        return 0 if tools else 1
    title = described.server.get("title") or described.server.get("service") or file.name
    output.say(f"{title} ({kind}): {counted(len(tools), 'tool')}, {skipped} not converted")
    if tools:
        output.table(
            ("TOOL", "ARGUMENTS", "DESCRIPTION"),
            [(tool.name, _arguments(tool.document), _first_line(tool.document)) for tool in tools],
        )
    if described.problems:
        output.say("")
        output.table(
            ("WHERE", "TAKEN OVER", "WHY NOT, OR NOT WHOLLY"),
            [(p.where, "no" if p.skipped else "in part", p.why) for p in described.problems],
        )
    return 0 if tools else 1


def _kind(text: str, file: Path) -> str:
    """A Smithy model says so at its root; whatever else is read as OpenAPI, and its reader says
    what is wrong with it."""
    if text.lstrip().startswith("{"):
        try:
            root = json.loads(text)
        except ValueError:
            root = {}
        if "smithy" in root and "shapes" in root:
            return "smithy"
    elif file.suffix == ".smithy":
        raise CliError(
            f"{file} is written in Smithy's own language; a gateway takes its JSON form.",
            code="BadDocument",
            hint=f"Make it with: smithy ast {file} > model.json",
        )
    return "openapi"


def _described(text: str, kind: str) -> "Described":
    # The readers of documents are slow to import, and no other command needs them.
    if kind == "smithy":
        from freehold.adapters.targets.smithy.convert import convert as of_smithy

        return of_smithy(text, region="us-east-1")
    from freehold.adapters.targets.openapi.conversion import convert as of_openapi

    return of_openapi(text)


def _document(kind: str, described: "Described") -> dict[str, Any]:
    return {
        "kind": kind,
        "tools": [each.document for each in described.definitions],
        "problems": [
            {"where": p.where, "why": p.why, "skipped": p.skipped} for p in described.problems
        ],
        "about": described.server,
    }


def _arguments(tool: dict[str, Any]) -> str:
    schema = tool.get("inputSchema") or {}
    required = schema.get("required") or ()
    names = [name if name in required else f"[{name}]" for name in schema.get("properties") or ()]
    return " ".join(names) or "-"


def _first_line(tool: dict[str, Any]) -> str:
    text = str(tool.get("description") or tool.get("title") or "").strip()
    line = text.partition("\n")[0]
    return line if len(line) <= 80 else f"{line[:77]}..."
