"""docs/settings.md."""

import typing
from dataclasses import fields

from freehold.settings.checks import variable
from freehold.settings.environment import base_type
from freehold.settings.fields import Settings


def markdown() -> str:
    """One row for each setting."""
    hints = typing.get_type_hints(Settings)
    rows = []
    for f in fields(Settings):
        default = (
            ""
            if f.default is None
            else f"`{str(f.default).lower() if isinstance(f.default, bool) else f.default}`"
        )
        kind = getattr(base_type(hints[f.name]), "__name__", "text")
        meaning = f.metadata["meaning"]
        if f.metadata["choices"]:
            meaning += " One of " + ", ".join(f"`{c}`" for c in f.metadata["choices"]) + "."
        rows.append(f"| `{variable(f.name)}` | {kind} | {default} | {meaning} |")
    return "\n".join(
        [
            "# Settings",
            "",
            "Each is an environment variable of `freehold up`; the flags of `up` come before them.",
            "",
            "| variable | type | default | meaning |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )
