"""What `freehold login` leaves: temporary credentials by endpoint, in a file of their owner's."""

import json
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from freehold.cli.failure import CliError

_FILE = Path("freehold") / "login.json"


@dataclass(frozen=True, kw_only=True)
class SignedIn:
    """`expiration` is ISO 8601."""

    endpoint: str
    region: str
    account: str
    user: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expiration: str

    @property
    def expired(self) -> bool:
        return datetime.fromisoformat(self.expiration) <= datetime.now(UTC)


def file_path(environment: Mapping[str, str] | None = None) -> Path:
    environment = os.environ if environment is None else environment
    base = environment.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / _FILE


def of_endpoint(endpoint: str | None, path: Path) -> SignedIn | None:
    """Of the last sign-in where no endpoint is given. Expired ones too. Raises CliError."""
    document = _read(path)
    found = document["logins"].get(endpoint or document["last"])
    if found is None:
        return None
    try:
        signed_in = SignedIn(**found)
        datetime.fromisoformat(signed_in.expiration)
    except (TypeError, ValueError) as error:
        raise _damaged(path) from error
    return signed_in


def save(signed_in: SignedIn, path: Path) -> None:
    try:
        document = _read(path)
    except CliError as error:
        if error.code != "BadLoginFile":
            raise
        document = {"last": "", "logins": {}}
    document["logins"][signed_in.endpoint] = asdict(signed_in)
    _write({**document, "last": signed_in.endpoint}, path)


def forget(endpoint: str, path: Path) -> None:
    document = _read(path)
    document["logins"].pop(endpoint, None)
    if document["last"] == endpoint:
        document["last"] = next(iter(document["logins"]), "")
    _write(document, path)


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            document = json.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return {"last": "", "logins": {}}
    except ValueError as error:
        raise _damaged(path) from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise CliError(
            f"{path} holds a secret and may be read by others.",
            code="UnsafeLoginFile",
            hint=f"Close it with: chmod 600 {path}",
        )
    if (
        not isinstance(document, dict)
        or not isinstance(document.get("logins"), dict)
        or not isinstance(document.get("last"), str)
    ):
        raise _damaged(path)
    return document


def _write(document: dict[str, Any], path: Path) -> None:
    """Replaced whole, readable to the owner alone from its first byte."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        fresh.unlink()
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=2)
        file.write("\n")
    fresh.replace(path)


def _damaged(path: Path) -> CliError:
    return CliError(
        f"{path} is not what freehold login wrote.",
        code="BadLoginFile",
        hint=f"Remove it and sign in again: rm {path} && freehold login",
    )
