"""Where the platform is and what to sign with: flags, then the environment, then the state."""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from freehold.cli.failure import CliError

REGION_DEFAULT = "us-east-1"
FILE_NAME = "connection.json"


@dataclass(frozen=True, kw_only=True)
class Connection:
    """`account` is None where only the environment was asked: the platform then says it.

    `source` names, for people, the place that the access key came from.
    """

    endpoint: str
    region: str
    account: str | None
    access_key_id: str
    secret_access_key: str = field(repr=False)
    source: str


def default_state(environment: Mapping[str, str]) -> Path:
    """The state directory, when no flag names one."""
    if named := environment.get("FREEHOLD_STATE"):
        return Path(named).expanduser().absolute()
    from freehold.settings import default_state as of_this_user

    return of_this_user()


def resolve(
    *, endpoint: str | None, state: Path | None, environment: Mapping[str, str] | None = None
) -> Connection:
    """The first complete connection. Raises CliError that says how to get one.

    An endpoint alone (a flag or FREEHOLD_ENDPOINT without keys) takes the state's keys when
    the state is of that endpoint, else those of the environment.
    """
    environment = os.environ if environment is None else environment
    from_environment = _keys_of(environment)
    if endpoint is None and state is None:
        endpoint = environment.get("FREEHOLD_ENDPOINT") or None
        if endpoint and from_environment:
            return _of_environment(endpoint, from_environment, environment)
    directory = state or default_state(environment)
    saved = _read(directory / FILE_NAME)
    if endpoint is None:
        if saved is None:
            raise CliError(
                f"No Freehold found: there is no {directory / FILE_NAME}. "
                "Start one with: freehold up",
                code="NoPlatform",
                hint="Or name one with FREEHOLD_ENDPOINT, AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY.",
            )
        return saved
    endpoint = _checked(endpoint)
    if saved is not None and (state is not None or saved.endpoint == endpoint):
        return Connection(**{**vars(saved), "endpoint": endpoint})
    if from_environment:
        return _of_environment(endpoint, from_environment, environment)
    raise CliError(
        f"No access key for {endpoint}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
        "or give --state with the state directory of that platform.",
        code="NoCredentials",
    )


def _keys_of(environment: Mapping[str, str]) -> tuple[str, str] | None:
    key, secret = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
    return (key, secret) if key and secret else None


def _of_environment(
    endpoint: str, keys: tuple[str, str], environment: Mapping[str, str]
) -> Connection:
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    return Connection(
        endpoint=_checked(endpoint),
        region=region or REGION_DEFAULT,
        account=None,
        access_key_id=keys[0],
        secret_access_key=keys[1],
        source="the environment",
    )


def _checked(endpoint: str) -> str:
    if not endpoint.startswith(("http://", "https://")):
        raise CliError(
            f"{endpoint!r} is not an endpoint: expected http://host:port", code="BadEndpoint"
        )
    return endpoint.rstrip("/")


def _read(path: Path) -> Connection | None:
    """What `freehold up` wrote, or None. Raises CliError when it is there and cannot be used."""
    import json

    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            document: Any = json.load(file)
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise CliError(
                f"{path} holds a secret and may be read by others.",
                code="UnsafeConnectionFile",
                hint=f"Close it with: chmod 600 {path}",
            )
        if not isinstance(document, dict) or not all(isinstance(v, str) for v in document.values()):
            raise ValueError("expected texts by name")
        return Connection(
            endpoint=_checked(document["endpoint"]),
            region=document["region"],
            account=document["account"],
            access_key_id=document["access_key_id"],
            secret_access_key=document["secret_access_key"],
            source=str(path),
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise CliError(
            f"{path} is not yours to read: the platform runs as another user.",
            code="NoCredentials",
            hint="Run this as that user, or set FREEHOLD_ENDPOINT, AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY.",
        ) from error
    except (KeyError, ValueError) as error:
        raise CliError(
            f"{path} is not a connection file ({error}).", code="BadConnectionFile"
        ) from error


def listens(endpoint: str) -> bool:
    """Whether anything takes connections there, asked for a moment only."""
    import socket
    from urllib.parse import urlsplit

    parts = urlsplit(endpoint)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((parts.hostname or "", port), timeout=0.5):
            return True
    except OSError:
        return False
