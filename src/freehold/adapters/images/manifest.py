"""Manifests, indexes and configurations, read. Source: OCI image specification 1.1."""

import platform
from pathlib import PurePosixPath
from typing import Any, TypeVar

import msgspec

from freehold.adapters.images.reference import is_digest
from freehold.ports.images import ImageConfig, ImageRefused

DOCUMENT_BYTES_MAX = 4 << 20
INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
ACCEPT = ", ".join((*MANIFESTS, *INDEXES))
_CONFIGS = (
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
)
_LAYERS = ("application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_LAYERS_MAX = 256
_COMMAND_BYTES_MAX = 64 << 10

T = TypeVar("T")


class Platform(msgspec.Struct, frozen=True):
    os: str = ""
    architecture: str = ""
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


class Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    digest: str
    size: int
    media_type: str = ""
    platform: Platform | None = None
    annotations: dict[str, str] | None = None
    urls: list[str] | None = None


class Manifest(msgspec.Struct, frozen=True, rename="camel"):
    """Or an index, which has `manifests` in place of the others."""

    media_type: str = ""
    config: Descriptor | None = None
    layers: list[Descriptor] | None = None
    manifests: list[Descriptor] | None = None


class _Run(msgspec.Struct, frozen=True):
    Entrypoint: list[str] | None = None
    Cmd: list[str] | None = None
    Env: list[str] | None = None
    WorkingDir: str | None = None
    User: str | None = None


class _RootFs(msgspec.Struct, frozen=True):
    diff_ids: list[str] | None = None


class Configuration(msgspec.Struct, frozen=True):
    os: str = ""
    architecture: str = ""
    variant: str = ""
    config: _Run | None = None
    rootfs: _RootFs = _RootFs()

    @property
    def platform(self) -> Platform:
        return Platform(self.os, self.architecture, self.variant)


def this_platform() -> Platform:
    machine = platform.machine()
    return Platform("linux", _ARCHITECTURES.get(machine, machine))


def read(content: bytes, kind: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.DecodeError as error:
        raise ImageRefused(f"{what} is not one that can be read: {error}") from error


def chosen(index: Manifest, here: Platform) -> Descriptor:
    """The image of an index for a machine. Raises ImageRefused."""
    listed = [each for each in index.manifests or () if not _is_attestation(each)]
    for each in listed:
        if each.platform and _runs(each.platform, here):
            return each
    if len(listed) == 1 and listed[0].platform is None:
        return listed[0]
    there = sorted({str(each.platform) for each in listed if each.platform})
    raise ImageRefused(f"there is no image for {here}; there is {', '.join(there) or 'none'}")


def _is_attestation(descriptor: Descriptor) -> bool:
    return "vnd.docker.reference.type" in (descriptor.annotations or {})


def _runs(there: Platform, here: Platform) -> bool:
    return (there.os, there.architecture) == (here.os, here.architecture)


def checked(manifest: Manifest) -> tuple[Descriptor, list[Descriptor]]:
    """The descriptors of its configuration and layers. Raises ImageRefused."""
    config, layers = manifest.config, manifest.layers
    if config is None or layers is None:
        raise ImageRefused("it is neither an image manifest nor an index (schema 1 is not taken)")
    if config.media_type not in _CONFIGS:
        raise ImageRefused(f"it is no container image but {config.media_type!r}")
    if len(layers) > _LAYERS_MAX:
        raise ImageRefused(f"it has {len(layers)} layers; {_LAYERS_MAX} may be")
    for each in (config, *layers):
        check(each)
    for layer in layers:
        if not layer.media_type.startswith(_LAYERS) or layer.media_type.endswith("encrypted"):
            raise ImageRefused(f"a layer of the kind {layer.media_type!r} is not taken")
    return config, layers


def check(descriptor: Descriptor) -> None:
    if not is_digest(descriptor.digest) or descriptor.size < 0:
        raise ImageRefused("a descriptor in it has no usable digest or size")


def run_config(configuration: Configuration, digest: str, here: Platform) -> ImageConfig:
    """Raises ImageRefused when it cannot be run on this machine."""
    if not _runs(configuration.platform, here):
        raise ImageRefused(f"it is for {configuration.platform}, and this machine is {here}")
    run = configuration.config or _Run()
    command = (*(run.Entrypoint or ()), *(run.Cmd or ()))
    if not command or not command[0]:
        raise ImageRefused("it has no Entrypoint and no Cmd: nothing says what to run")
    environment = dict(_variable(text) for text in run.Env or () if text.partition("=")[0])
    texts: list[Any] = [*command, *environment, *environment.values(), run.WorkingDir or ""]
    if any("\0" in text for text in texts) or sum(map(len, texts)) > _COMMAND_BYTES_MAX:
        raise ImageRefused("its command or its environment cannot be given to a program")
    return ImageConfig(
        digest=digest,
        command=command,
        environment=environment,
        workdir=_workdir(run.WorkingDir or "/"),
        user=run.User or "",
    )


def _variable(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def _workdir(path: str) -> str:
    parts = [part for part in PurePosixPath("/", path).parts[1:] if part != "."]
    if ".." in parts:
        raise ImageRefused(f"its working directory is no plain path: {path!r}")
    return "/" + "/".join(parts)
