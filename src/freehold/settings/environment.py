"""Settings out of the environment, and into that of another process."""

import difflib
import math
import os
import types
import typing
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from freehold.settings.checks import SettingsError, check, variable
from freehold.settings.fields import Settings

_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_NO_SETTINGS = frozenset(
    {
        "FREEHOLD_ENDPOINT",  # which platform the command line talks to
        "FREEHOLD_DEBUG",  # tracebacks of the command line
        "FREEHOLD_TEST_DATABASE_URL",  # where the tests make their databases
    }
)


def default_state() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/freehold")
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "freehold"


def load(environment: Mapping[str, str] | None = None, **flags: Any) -> Settings:
    """Settings from flags (None: not given) over the environment. Raises SettingsError."""
    environment = os.environ if environment is None else environment
    hints = typing.get_type_hints(Settings)
    values = {name: value for name, value in flags.items() if value is not None}
    known = {variable(f.name): f.name for f in fields(Settings)}
    for key, text in environment.items():
        name = known.get(key)
        if name and name not in values and text != "":
            values[name] = _read(name, base_type(hints[name]), text)
    values["state"] = Path(values.get("state") or default_state()).expanduser().absolute()
    settings = Settings(**values)
    check(settings)
    return settings


def environment_of(settings: Settings) -> dict[str, str]:
    """The variables that give another process the same settings."""
    return {
        variable(f.name): str(value).lower() if isinstance(value, bool) else str(value)
        for f in fields(Settings)
        if (value := getattr(settings, f.name)) is not None
    }


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """A sentence about each FREEHOLD_* variable that means nothing: most likely misspelt."""
    known = [variable(f.name) for f in fields(Settings)]
    found = []
    for name in sorted(environment):
        if name.startswith("FREEHOLD_") and name not in _NO_SETTINGS and name not in known:
            rest = name.removeprefix("FREEHOLD_")
            near = difflib.get_close_matches(rest, [k.removeprefix("FREEHOLD_") for k in known], 1)
            hint = f"did you mean FREEHOLD_{near[0]}?" if near else "docs/settings.md has them all."
            found.append(f"{name} is not a setting; {hint}")
    return found


def base_type(annotation: Any) -> Any:
    """Without the None of one that may be absent."""
    if isinstance(annotation, types.UnionType):
        return next(t for t in typing.get_args(annotation) if t is not type(None))
    return annotation


def _read(name: str, kind: Any, text: str) -> Any:
    try:
        if kind is bool:
            return _BOOLEANS[text.strip().lower()]
        value = kind(text)
        if kind is float and not math.isfinite(value):
            raise ValueError(text)
        return value
    except (KeyError, ValueError) as error:
        wanted = {bool: "true or false", int: "a whole number", float: "a number"}.get(kind, "text")
        raise SettingsError(f"{variable(name)}={text!r}: expected {wanted}") from error
