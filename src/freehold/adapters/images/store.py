"""Images on this machine: each digest is unpacked once, and appears whole or not at all.

{digest}/closed/rootfs/   the files; `closed` is for us alone, since the files' modes are wide
{digest}/session/         empty: each sandbox mounts its own view over it
{digest}/image.json       how it is run
tmp/{random}/             work in progress, locked by the process that does it
"""

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import Protocol

import msgspec

from freehold.adapters.images import credentials, manifest, reference, rootfs
from freehold.adapters.images.layers import Layers
from freehold.adapters.images.layout import Layout
from freehold.adapters.images.manifest import Configuration, Descriptor, Manifest
from freehold.adapters.images.reach import Reach
from freehold.adapters.images.reference import LayoutReference, Reference
from freehold.adapters.images.registry import Registry
from freehold.kernel.threads import in_stoppable_thread, in_thread
from freehold.ports.images import CONFIG_FILE, Image, ImageConfig, ImageRefused, Note

_DOWNLOADS_AT_ONCE = 3
_INDEX_DEPTH_MAX = 3


class ImageLimits(msgspec.Struct, frozen=True, kw_only=True):
    unpacked_bytes_max: int = 8 << 30
    compressed_bytes_max: int = 4 << 30
    entries_max: int = 500_000
    seconds_max: float = 600


class _Source(Protocol):
    async def manifest(self, version: str) -> tuple[str, bytes]: ...

    async def blob(self, descriptor: Descriptor, target: Path) -> None: ...


class ImageStore:
    """Several on one `directory` do no harm. `credentials_file` is a docker config.json."""

    def __init__(
        self,
        directory: Path,
        *,
        reach: Reach,
        layout_directories: tuple[Path, ...] = (),
        credentials_file: Path | None = None,
        limits: ImageLimits | None = None,
    ) -> None:
        self._directory, self._reach = directory, reach
        self._layouts, self._credentials_file = layout_directories, credentials_file
        self._limits = limits or ImageLimits()
        self._here = manifest.this_platform()
        self._unpacking: dict[str, tuple[asyncio.Lock, int]] = {}

    async def fetch(self, uri: str, *, note: Note) -> Image:
        wanted = reference.parsed(uri)
        try:
            async with asyncio.timeout(self._limits.seconds_max), self._source(wanted) as source:
                return await self._fetched(wanted, source, note)
        except TimeoutError as error:
            raise ImageRefused(
                f"{uri} was not there after {self._limits.seconds_max:.0f} s"
            ) from error

    @contextlib.asynccontextmanager
    async def _source(self, wanted: Reference | LayoutReference) -> AsyncIterator[_Source]:
        if isinstance(wanted, LayoutReference):
            yield await asyncio.to_thread(Layout, wanted, self._layouts)
            return
        known = await asyncio.to_thread(
            credentials.of_registry, self._credentials_file, wanted.registry
        )
        async with self._reach.session() as session:
            yield Registry(session, self._reach, wanted, known)

    async def _fetched(
        self, wanted: Reference | LayoutReference, source: _Source, note: Note
    ) -> Image:
        note(f"looking for {wanted}")
        digest, found = await self._manifest(wanted.version, source)
        note(f"it is {digest}, for {self._here}")
        folder = self._directory / digest.replace(":", "-")
        async with self._alone(digest):
            if not await asyncio.to_thread((folder / CONFIG_FILE).exists):
                await self._unpack(digest, found, source, folder, note)
            else:
                note("it was unpacked before")
        return Image(folder=folder, config=await asyncio.to_thread(read_config, folder))

    async def _manifest(self, version: str, source: _Source) -> tuple[str, Manifest]:
        """Of the image for this machine."""
        for _ in range(_INDEX_DEPTH_MAX):
            digest, content = await source.manifest(version)
            found = manifest.read(content, Manifest, "its manifest")
            if found.manifests is None:
                return digest, found
            descriptor = manifest.chosen(found, self._here)
            manifest.check(descriptor)
            version = descriptor.digest
        raise ImageRefused("it is an index of indexes")

    async def _unpack(
        self, digest: str, found: Manifest, source: _Source, folder: Path, note: Note
    ) -> None:
        about, blobs = manifest.checked(found)
        total = sum(each.size for each in blobs)
        if total > self._limits.compressed_bytes_max or about.size > manifest.DOCUMENT_BYTES_MAX:
            raise ImageRefused(
                f"it has {total >> 20} MiB of layers;"
                f" {self._limits.compressed_bytes_max >> 20} MiB may be"
            )
        async with self._staging() as staged:
            await source.blob(about, staged / "config")
            content = await asyncio.to_thread((staged / "config").read_bytes)
            configuration = manifest.read(content, Configuration, "its configuration")
            run = manifest.run_config(configuration, digest, self._here)
            diff_ids = configuration.rootfs.diff_ids or []
            if len(diff_ids) != len(blobs):
                raise ImageRefused("its configuration is of another number of layers")
            if run.user not in ("", "0", "root"):
                note(f"the image's user {run.user!r} is not made: sandboxes have one of their own")
            note(f"fetching {len(blobs)} layers, {total / (1 << 20):.1f} MiB")
            await self._layers(source, blobs, diff_ids, staged, note)
            image = staged / "image"
            await in_thread(_complete, image, run)
            await in_thread(_publish, image, folder)
        note("unpacked")

    async def _layers(
        self,
        source: _Source,
        blobs: list[Descriptor],
        diff_ids: list[str],
        staged: Path,
        note: Note,
    ) -> None:
        """A few are fetched ahead of the one that is unpacked."""
        root = staged / "image" / "closed" / "rootfs"
        await in_thread(root.mkdir, parents=True)
        limits = self._limits
        layers = Layers(root, bytes_max=limits.unpacked_bytes_max, entries_max=limits.entries_max)
        room = asyncio.Semaphore(_DOWNLOADS_AT_ONCE)

        async def fetched(number: int) -> Path:
            target = staged / f"layer-{number}"
            await room.acquire()
            await source.blob(blobs[number], target)
            return target

        fetching = [asyncio.create_task(fetched(number)) for number in range(len(blobs))]
        try:
            for number, task in enumerate(fetching):
                blob = await task
                await in_stoppable_thread(layers.stop, layers.apply, blob, diff_ids[number])
                await in_thread(blob.unlink)
                room.release()
                note(f"layer {number + 1} of {len(blobs)}: {blobs[number].size} bytes")
        finally:
            for task in fetching:
                task.cancel()
            await asyncio.gather(*fetching, return_exceptions=True)
        if layers.skipped:
            note(f"{layers.skipped} devices and the like were left out")

    @contextlib.asynccontextmanager
    async def _staging(self) -> AsyncIterator[Path]:
        staging = _staging(self._directory)
        staged = await in_thread(lambda: next(staging))
        try:
            yield staged
        finally:
            await in_thread(staging.close)

    @contextlib.asynccontextmanager
    async def _alone(self, digest: str) -> AsyncIterator[None]:
        """One at a time for each: the second finds what the first has done."""
        lock, users = self._unpacking.get(digest, (asyncio.Lock(), 0))
        self._unpacking[digest] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            lock, users = self._unpacking.pop(digest)
            if users > 1:
                self._unpacking[digest] = lock, users - 1


def read_config(folder: Path) -> ImageConfig:
    return msgspec.json.decode((folder / CONFIG_FILE).read_bytes(), type=ImageConfig)


def _complete(image: Path, run: ImageConfig) -> None:
    rootfs.finish(image / "closed" / "rootfs", run.workdir)
    (image / "closed").chmod(0o700)
    (image / "session").mkdir()
    (image / "session").chmod(0o755)
    (image / CONFIG_FILE).write_bytes(msgspec.json.encode(run))
    image.chmod(0o711)


def _publish(image: Path, folder: Path) -> None:
    """Another that came first stays: it is the same."""
    _sync(image)
    try:
        image.rename(folder)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise


def _sync(directory: Path) -> None:
    """What is under it is on disk: a power cut must not leave empty files behind."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        syncfs = getattr(ctypes.CDLL(None), "syncfs", None)
        if syncfs is None or syncfs(descriptor) != 0:
            os.sync()
    finally:
        os.close(descriptor)


def _staging(directory: Path) -> Generator[Path, None, None]:
    """A directory of our own, which goes at the end, with those of processes that are no more."""
    top = directory / "tmp"
    top.mkdir(parents=True, exist_ok=True, mode=0o700)
    directory.chmod(0o711)
    for left in top.iterdir():
        _remove_if_left(left)
    path, descriptor = _locked(top)
    try:
        yield path
    finally:
        shutil.rmtree(path)
        os.close(descriptor)


def _locked(top: Path) -> tuple[Path, int]:
    """A new directory. Before it is locked it looks like one that was left: another may take it."""
    while True:
        path = top / secrets.token_hex(8)
        path.mkdir(mode=0o700)
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if path.exists():
                return path, descriptor
            os.close(descriptor)


def _remove_if_left(path: Path) -> None:
    with contextlib.suppress(OSError):  # in use, or just removed by another
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path)
        finally:
            os.close(descriptor)
