"""`freehold.toml`: what a folder says about the agent in it."""

import re
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from freehold.cli.failure import CliError
from freehold.cli.runtimes import checked_name

FILE_NAME = "freehold.toml"
RUNTIMES = ("PYTHON_3_10", "PYTHON_3_11", "PYTHON_3_12", "PYTHON_3_13", "PYTHON_3_14", "NODE_22")
PORTS = {"HTTP": 8080, "AGUI": 8080, "MCP": 8000, "A2A": 9000}
IDLE_SECONDS_DEFAULT = 900
LIFETIME_SECONDS_DEFAULT = 28_800
SESSION_SECONDS_MIN = 60
SESSION_SECONDS_MAX = 1_209_600
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


def runtime_here() -> str:
    """The runtime of the Python that runs this, where AgentCore has it."""
    here = f"PYTHON_{sys.version_info.major}_{sys.version_info.minor}"
    return here if here in RUNTIMES else "PYTHON_3_11"


@dataclass(frozen=True, kw_only=True)
class Project:
    """Field names are the keys of freehold.toml; docs/cli.md explains each."""

    name: str
    entry_point: tuple[str, ...] = ("main.py",)
    runtime: str = "PYTHON_3_11"
    image: str | None = None
    protocol: str = "HTTP"
    description: str | None = None
    idle_timeout_seconds: int = IDLE_SECONDS_DEFAULT
    lifetime_seconds: int = LIFETIME_SECONDS_DEFAULT
    exclude: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    authorizer: dict[str, Any] | None = None
    """None: as the runtime has it. Empty: none."""


def load(directory: Path, *, image: str | None = None) -> Project:
    """Raises CliError that names the key at fault and what it may be. `image` comes before the
    file's own.
    """
    path = directory / FILE_NAME
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise CliError(
            f"There is no {FILE_NAME} in {directory}.",
            code="NoProject",
            hint="Make an agent with: freehold create NAME",
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CliError(f"{path}: {error}", code="BadProject") from error
    project = _read(path, document)
    if image is not None:
        project = replace(project, image=image)
    if project.image is not None:
        return project
    for part in project.entry_point[-1:]:
        if not (directory / part).is_file():
            raise CliError(f"{path}: entry_point: there is no {part}", code="BadProject")
    return project


def _read(path: Path, document: dict[str, Any]) -> Project:
    if unknown := [key for key in document if key not in _READERS]:
        raise _bad(path, unknown[0], f"no such key; there are {', '.join(_READERS)}")
    if "name" not in document:
        raise _bad(path, "name", "missing")
    values = {}
    for key, value in document.items():
        try:
            values[key] = _READERS[key](value)
        except ValueError as error:
            raise _bad(path, key, str(error)) from None
    return Project(**values)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("expected text")
    return value


def _one_of(*choices: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}")
        return str(value)

    return read


def _seconds(value: Any) -> int:
    # In Python true is an int.
    if type(value) is not int or not SESSION_SECONDS_MIN <= value <= SESSION_SECONDS_MAX:
        raise ValueError(f"expected {SESSION_SECONDS_MIN} to {SESSION_SECONDS_MAX} seconds")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise ValueError("expected a list of texts")
    return tuple(value)


def _entry_point(value: Any) -> tuple[str, ...]:
    parts = (value,) if isinstance(value, str) and value else _texts(value)
    if not 1 <= len(parts) <= 2:
        raise ValueError("expected a file, or a launcher and a file")
    return parts


def _table(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError("expected a table")
    if wrong := [name for name, text in value.items() if not isinstance(text, str)]:
        raise ValueError(f"{wrong[0]}: expected text, in quotes")
    return dict(value)


def _environment(value: Any) -> dict[str, str]:
    variables = _table(value)
    if wrong := [name for name in variables if not _VARIABLE.fullmatch(name)]:
        raise ValueError(f"{wrong[0]!r} cannot be the name of a variable")
    return variables


_AUTHORIZER: dict[str, str] = {
    "audience": "allowedAudience",
    "clients": "allowedClients",
    "scopes": "allowedScopes",
}


def _authorizer(value: Any) -> dict[str, Any]:
    """The member `customJWTAuthorizer`."""
    if value is False:
        return {}
    if not isinstance(value, dict):
        raise ValueError("expected a table, or false for none")
    there = ("discovery_url", *_AUTHORIZER)
    if unknown := [key for key in value if key not in there]:
        raise ValueError(f"{unknown[0]}: no such key; there are {', '.join(there)}")
    if not any(value.get(key) for key in _AUTHORIZER):
        raise ValueError(f"one of {', '.join(_AUTHORIZER)} is needed: which tokens open it")
    rules: dict[str, Any] = {"discoveryUrl": _text(value.get("discovery_url"))}
    rules |= {_AUTHORIZER[k]: list(_texts(value[k])) for k in _AUTHORIZER if k in value}
    return rules


_READERS: dict[str, Callable[[Any], Any]] = {
    "name": lambda value: checked_name(_text(value)),
    "entry_point": _entry_point,
    "runtime": _one_of(*RUNTIMES),
    "image": _text,
    "protocol": _one_of(*PORTS),
    "description": _text,
    "idle_timeout_seconds": _seconds,
    "lifetime_seconds": _seconds,
    "exclude": _texts,
    "environment": _environment,
    "tags": _table,
    "authorizer": _authorizer,
}


def _bad(path: Path, key: str, why: str) -> CliError:
    return CliError(f"{path}: {key}: {why}", code="BadProject")
