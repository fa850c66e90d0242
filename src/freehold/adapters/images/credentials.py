"""Credentials of registries, from a file as `docker login` writes it."""

import base64
import binascii
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from freehold.adapters.images.reference import DOCKER_HUB
from freehold.ports.images import ImageRefused

_HUB_KEYS = ("https://index.docker.io/v1/", "index.docker.io", "registry-1.docker.io")


class Credentials(NamedTuple):
    """`refresh_token` set: an OAuth2 token that stands for user and password."""

    user: str
    password: str
    refresh_token: str = ""

    def __repr__(self) -> str:
        return "Credentials(...)"

    @property
    def basic(self) -> str:
        pair = f"{self.user}:{self.password}"
        return "Basic " + base64.b64encode(pair.encode()).decode()


def of_registry(file: Path | None, registry: str) -> Credentials | None:
    """Read anew each time: tokens in it are renewed by others. Blocks."""
    if file is None:
        return None
    try:
        auths = msgspec.json.decode(file.read_bytes()).get("auths") or {}
    except (OSError, msgspec.DecodeError, AttributeError) as error:
        raise ImageRefused("the platform's credentials of registries cannot be read") from error
    keys: tuple[str, ...] = (
        registry,
        f"https://{registry}",
        f"http://{registry}",
        f"https://{registry}/",
    )
    if registry == DOCKER_HUB:
        keys = (*keys, *_HUB_KEYS)
    found = next((auths[key] for key in keys if key in auths), None)
    return _read(found) if isinstance(found, dict) else None


def _read(entry: dict[str, Any]) -> Credentials | None:
    user, password = entry.get("username", ""), entry.get("password", "")
    if entry.get("auth"):
        try:
            decoded = base64.b64decode(entry["auth"], validate=True).decode()
        except (binascii.Error, UnicodeDecodeError, TypeError) as error:
            raise ImageRefused(
                "the platform's credentials of this registry cannot be read"
            ) from error
        user, _, password = decoded.partition(":")
    token = entry.get("identitytoken", "")
    return Credentials(user, password, token) if token or user else None
