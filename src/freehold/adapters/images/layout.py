"""An image on disk. Source: OCI image specification 1.1, "Image Layout"."""

import asyncio
import os
from pathlib import Path
from typing import BinaryIO

from freehold.adapters.images.manifest import DOCUMENT_BYTES_MAX, Descriptor, Manifest, read
from freehold.adapters.images.reference import LayoutReference, digest_of, hasher, is_digest
from freehold.kernel.threads import in_thread
from freehold.ports.images import ImageRefused

_NAME = "org.opencontainers.image.ref.name"
_COPY_BYTES = 1 << 20


class Layout:
    """`allowed` are the directories that the operator listed: tenants read no others."""

    def __init__(self, reference: LayoutReference, allowed: tuple[Path, ...]) -> None:
        # One answer for what is not there and what is not allowed: no looking around.
        refused = ImageRefused(
            f"{reference.directory} is not an OCI layout below one of the directories that the"
            " operator lists in FREEHOLD_IMAGE_LAYOUT_DIRECTORIES"
        )
        self._directory = Path(os.path.realpath(reference.directory))
        if not any(self._directory.is_relative_to(os.path.realpath(each)) for each in allowed):
            raise refused
        try:
            there = (self._directory / "index.json").is_file()
        except OSError as error:  # a name that is too long
            raise refused from error
        if not there:
            raise refused

    async def manifest(self, version: str) -> tuple[str, bytes]:
        """Of a tag, a digest, or of the only image there (empty)."""
        digest = version if is_digest(version) else await asyncio.to_thread(self._found, version)
        content = await asyncio.to_thread(self._small, self._blob(digest))
        if digest_of(content, digest) != digest:
            raise ImageRefused(f"the layout has something else for {digest}")
        return digest, content

    def _found(self, tag: str) -> str:
        index = read(self._small(self._directory / "index.json"), Manifest, "the layout's index")
        named = {(each.annotations or {}).get(_NAME, ""): each for each in index.manifests or ()}
        wanted = named.get(tag)
        if wanted is None and not tag and len(index.manifests or ()) == 1:
            wanted = (index.manifests or [])[0]
        if wanted is None or not is_digest(wanted.digest):
            there = ", ".join(sorted(filter(None, named))) or "none with a name"
            raise ImageRefused(f"the layout has no image {tag or 'without a name'}; it has {there}")
        return wanted.digest

    async def blob(self, descriptor: Descriptor, target: Path) -> None:
        await in_thread(self._copy, descriptor, target)

    def _copy(self, descriptor: Descriptor, target: Path) -> None:
        """Copied while it is checked: the layout may change under our eyes."""
        seen, left = hasher(descriptor.digest), descriptor.size
        with self._open(self._blob(descriptor.digest)) as source, target.open("wb") as file:
            while chunk := source.read(_COPY_BYTES):
                left -= len(chunk)
                if left < 0:
                    break
                seen.update(chunk)
                file.write(chunk)
        if left != 0 or seen.hexdigest() != descriptor.digest.partition(":")[2]:
            raise ImageRefused(f"the layout has something else for {descriptor.digest}")

    def _small(self, path: Path) -> bytes:
        with self._open(path) as file:
            content = file.read(DOCUMENT_BYTES_MAX + 1)
        if len(content) > DOCUMENT_BYTES_MAX:
            raise ImageRefused(f"{path.name} is larger than {DOCUMENT_BYTES_MAX >> 20} MiB")
        return content

    def _blob(self, digest: str) -> Path:
        return self._directory / "blobs" / digest.replace(":", "/")

    def _open(self, path: Path) -> BinaryIO:
        """A plain file of the layout: no link leads elsewhere, and no FIFO holds us up."""
        try:
            if Path(os.path.realpath(path)) != path or not path.is_file():
                raise ImageRefused(f"the layout has no {path.name}")
            return path.open("rb")
        except OSError as error:
            raise ImageRefused(f"the layout has no {path.name}") from error
