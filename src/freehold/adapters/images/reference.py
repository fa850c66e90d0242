"""What an image is called. Source: OCI distribution specification 1.1, "Pulling manifests"."""

import hashlib
import re
from typing import Any, NamedTuple

from freehold.ports.images import ImageRefused

DOCKER_HUB = "docker.io"
_DIGEST = re.compile(r"(sha256):[0-9a-f]{64}|(sha512):[0-9a-f]{128}")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
_LAYOUT = ("oci:", "file://")


class Reference(NamedTuple):
    """In a registry. `version` is a digest or a tag."""

    registry: str
    repository: str
    version: str

    def __str__(self) -> str:
        mark = "@" if is_digest(self.version) else ":"
        return f"{self.registry}/{self.repository}{mark}{self.version}"


class LayoutReference(NamedTuple):
    """A directory of this machine. `version` empty: the only image there."""

    directory: str
    version: str

    def __str__(self) -> str:
        return f"oci:{self.directory}" + (f":{self.version}" if self.version else "")


def parsed(uri: str) -> Reference | LayoutReference:
    """Raises ImageRefused."""
    for prefix in _LAYOUT:
        if uri.startswith(prefix):
            return _layout(uri, uri.removeprefix(prefix))
    name, at, digest = uri.partition("@")
    if at and not is_digest(digest):
        raise ImageRefused(f"{uri!r} is not an image: what follows @ is no digest")
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        registry, name = first.lower(), rest
    else:
        registry = DOCKER_HUB
    repository, _, tag = name.partition(":")
    if registry in (DOCKER_HUB, "index.docker.io"):
        registry = DOCKER_HUB
        repository = repository if "/" in repository else f"library/{repository}"
    wrong = (
        not _HOST.fullmatch(registry)
        or not _REPOSITORY.fullmatch(repository)
        or (tag and not _TAG.fullmatch(tag))
    )
    if wrong:
        raise ImageRefused(f"{uri!r} is not an image: [registry/]repository[:tag][@digest]")
    return Reference(registry, repository, digest or tag or "latest")


def _layout(uri: str, path: str) -> LayoutReference:
    directory, at, version = path.partition("@")
    if not at:
        folder, slash, last = path.rpartition("/")
        name, _, version = last.partition(":")
        directory = f"{folder}{slash}{name}"
    fits = is_digest(version) if at else not version or _TAG.fullmatch(version)
    if not directory.startswith("/") or "\0" in directory or not fits:
        raise ImageRefused(f"{uri!r} is not an OCI layout: oci:/directory[:tag]")
    return LayoutReference(directory, version)


def is_digest(text: str) -> bool:
    return bool(_DIGEST.fullmatch(text))


def hasher(digest: str) -> Any:
    return hashlib.new(digest.partition(":")[0])


def digest_of(content: bytes, like: str = "sha256:") -> str:
    algorithm = like.partition(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"
