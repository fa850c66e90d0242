"""Container images: fetched, unpacked once, and run from in sandboxes."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

CONFIG_FILE = "image.json"
"""In an image's folder: its ImageConfig."""

Note = Callable[[str], None]
"""Told what happens, for a build's log. Never a secret."""


class ImageRefused(Exception):
    """The image cannot be had or used. The message is for whoever named it; no secret in it."""


class ImageConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What an image says of how it is run. `command` is its entry point and arguments, never
    empty. `user` is shown alone: inside a sandbox there is one user.
    """

    digest: str
    command: tuple[str, ...]
    environment: dict[str, str] = {}
    workdir: str = "/"
    user: str = ""


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """`folder` is what `SandboxSpec.root` takes: it holds `closed/rootfs`, which only we may enter,
    `session`, an empty folder that each sandbox mounts its own view over, and CONFIG_FILE.
    """

    folder: Path
    config: ImageConfig


class Images(Protocol):
    async def fetch(self, uri: str, *, note: Note) -> Image:
        """The image that `uri` names now: its digest says which. Raises ImageRefused.

        `uri`: `[registry/]repository[:tag][@digest]`, or `oci:/directory[:tag]`.
        """
