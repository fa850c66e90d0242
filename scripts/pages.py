"""Writes the pages of docs/ that are made from the code; with --check it only compares.

python scripts/pages.py [--check]
"""

import argparse
import dataclasses
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

DOCS = Path(__file__).parent.parent / "docs"


def settings() -> str:
    from freehold.settings import markdown

    return markdown()


def operations() -> str:
    from freehold.edges.aws.coverage import table
    from freehold.processes.api import aws_handlers

    handlers = aws_handlers(_settings(), _services())
    return (
        "# AWS operations\n\nEvery operation of AgentCore's services is routed, validated and "
        "signed. What is not implemented yet answers 501 `NotImplemented`.\n\n" + table(handlers)
    )


def own_api() -> str:
    from freehold.processes.api import own_operations

    rows = [
        f"| `{o.method} /freehold/v1{o.path}` | {o.summary} | "
        + (", ".join(f"`{p.name}`" for p in o.parameters) or "-")
        + " |"
        for o in own_operations(_settings(), _services())
    ]
    return "\n".join(
        [
            "# Freehold's own API",
            "",
            "What AWS has no operation for. Requests are signed with SigV4, service name "
            '`freehold`; errors have one shape, `{"error": {"code", "message", '
            '"requestId"}}`. The whole description is at `/freehold/v1/openapi.json`.',
            "",
            "| operation | what it does | parameters |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def cli() -> str:
    from freehold.cli import reference

    return reference.page((DOCS / "cli.md").read_text(encoding="utf-8"))


def _settings() -> Any:
    from freehold.settings import load

    return load({})


def _services() -> Any:
    """Operations are described without anything behind them."""
    from freehold.processes.api import Services

    return _nothing(Services)


def _nothing(kind: Any) -> Any:
    """What is put together of parts, of parts that are None in the end."""
    put_together = dataclasses.is_dataclass(kind) or hasattr(kind, "_fields")
    if not put_together and not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return None
    parts = typing.get_type_hints(kind)
    return kind(**{name: _nothing(part) for name, part in parts.items()})


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings,
    "operations.md": operations,
    "own-api.md": own_api,
    "cli.md": cli,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    stale = []
    for name, made in PAGES.items():
        path, text = DOCS / name, made()
        if check and (not path.exists() or path.read_text() != text):
            stale.append(name)
        elif not check:
            path.write_text(text)
    if stale:
        sys.exit(f"docs/ is behind the code in {', '.join(stale)}: run `make docs`")


if __name__ == "__main__":
    main()
