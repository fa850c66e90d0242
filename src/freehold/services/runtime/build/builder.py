"""From a bundle in object storage to read-only directories that sessions start from."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

from freehold.kernel.errors import NotFound
from freehold.kernel.threads import in_thread
from freehold.ports.blobs import Blobs
from freehold.ports.egress import Egress
from freehold.ports.interpreters import Interpreter
from freehold.ports.sandbox import SandboxDriver
from freehold.services.runtime.build.index import PackageIndex, operator_index
from freehold.services.runtime.build.interpreter import choose_interpreter, is_python
from freehold.services.runtime.build.layer import LayerBuilder, compile_code
from freehold.services.runtime.build.log import BuildLog
from freehold.services.runtime.build.model import (
    BuildFailed,
    BuildLimits,
    BuildRequest,
    BuildResult,
)
from freehold.services.runtime.build.requirements import read_requirements
from freehold.services.runtime.build.tree import BuildTree, TooLarge, seal
from freehold.services.runtime.build.unpack import unpack

_HASHED_AT_ONCE_BYTES = 4 << 20


class Builder:
    """One for a machine's build `root`, though several do no harm: what is finished appears whole
    under a name that says what it is. A build that was cut off leaves nothing that the next
    builder does not sweep, and can be run again.
    """

    def __init__(
        self,
        *,
        root: Path,
        blobs: Blobs,
        driver: SandboxDriver,
        egress: Egress,
        interpreters: Mapping[str, Interpreter],
        limits: BuildLimits | None = None,
        index: Callable[[], Awaitable[PackageIndex]] = operator_index,
    ) -> None:
        self._tree = BuildTree(root)
        self._blobs = blobs
        self._driver = driver
        self._egress = egress
        self._interpreters = interpreters
        self._limits = limits or BuildLimits()
        self._layers = LayerBuilder(
            tree=self._tree, driver=driver, egress=egress, index=index, limits=self._limits
        )
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}
        self._swept = False

    async def build(self, request: BuildRequest) -> BuildResult:
        """Raises BuildFailed for the bundle's faults, FreeholdError and OSError for ours."""
        log_path = await asyncio.to_thread(self._tree.log_path, request.id)
        with BuildLog(log_path, bytes_max=self._limits.log_bytes_max) as log:
            try:
                return await self._build(request, log)
            except BuildFailed as failure:
                tail = log.tail
                log.note(f"failed: {failure.reason}")
                raise BuildFailed(failure.reason, tail) from failure

    async def _build(self, request: BuildRequest, log: BuildLog) -> BuildResult:
        interpreter = choose_interpreter(
            request.runtime, self._interpreters, fallback=request.fallback
        )
        fallback_from = request.runtime if interpreter.name != request.runtime else None
        if fallback_from:
            log.note(f"{fallback_from} is not on this machine: {interpreter.name} instead")
        async with self._staging() as staged:
            code = await self._code(request, interpreter, staged, log)
            _check_entry_point(request.entry_point, code)
            layer = await self._layer(request.tenant, code, interpreter, staged, log)
        log.note("done")
        return BuildResult(
            code_dir=code,
            layer_dir=layer,
            interpreter=interpreter.name,
            fallback_from=fallback_from,
            log_path=log.path,
        )

    async def _code(
        self, request: BuildRequest, interpreter: Interpreter, staged: Path, log: BuildLog
    ) -> Path:
        archive = staged / "bundle.zip"
        digest = await self._fetch(request, archive)
        code = self._tree.code(request.tenant, digest)
        async with self._alone(f"code {code}"):
            if not code.exists():
                log.note("unpacking the bundle")
                unpacked = staged / "code"
                await in_thread(unpack, archive, unpacked, self._limits)
                if is_python(interpreter) and any(unpacked.rglob("*.py")):
                    await compile_code(
                        unpacked,
                        interpreter,
                        tree=self._tree,
                        driver=self._driver,
                        egress=self._egress,
                        staged=staged,
                        limits=self._limits,
                        log=log,
                    )
                await in_thread(self._publish_code, unpacked, code)
        return code

    def _publish_code(self, unpacked: Path, code: Path) -> None:
        try:
            # Twice what was in the zip, for the bytecode beside it.
            seal(
                unpacked,
                bytes_max=self._limits.unpacked_bytes_max * 2,
                entries_max=self._limits.entries_max * 3,
            )
        except TooLarge as error:
            raise BuildFailed("the bundle is too large") from error
        self._tree.publish(unpacked, code)

    async def _fetch(self, request: BuildRequest, archive: Path) -> str:
        """The bundle to a file; its SHA-256."""
        digest = hashlib.sha256()
        total = 0
        try:
            _, chunks = await self._blobs.get(request.tenant, request.bucket, request.key)
            with archive.open("wb") as file:
                async for batch in _batches(chunks):
                    total += len(batch)
                    if total > self._limits.zip_bytes_max:
                        raise BuildFailed(
                            f"the bundle is larger than {self._limits.zip_bytes_max >> 20} MiB"
                        )
                    await in_thread(_take, batch, digest.update, file.write)
        except NotFound as error:
            raise BuildFailed(
                f"there is no {request.key!r} in the bucket {request.bucket!r}"
            ) from error
        return digest.hexdigest()

    async def _layer(
        self, tenant: str, code: Path, interpreter: Interpreter, staged: Path, log: BuildLog
    ) -> Path | None:
        requirements = await asyncio.to_thread(read_requirements, code)
        if requirements is None or not is_python(interpreter):
            log.note("no requirements.txt and no dependencies in pyproject.toml: none installed")
            return None
        key = self._layers.key(tenant, code, interpreter, requirements)
        async with self._alone(f"layer {key}"):
            known = await asyncio.to_thread(self._layers.known, tenant, key)
            if known is not None:
                log.note(f"{requirements.source} was installed before: the same layer")
                return known
            return await self._layers.install(
                tenant,
                key,
                code=code,
                interpreter=interpreter,
                requirements=requirements,
                staged=staged,
                log=log,
            )

    @contextlib.asynccontextmanager
    async def _staging(self) -> AsyncIterator[Path]:
        async with self._alone("sweep"):
            if not self._swept:
                await in_thread(self._tree.sweep)
                self._swept = True
        staged = await in_thread(self._tree.stage)
        try:
            yield staged.path
        finally:
            await in_thread(self._tree.unstage, staged)

    @contextlib.asynccontextmanager
    async def _alone(self, name: str) -> AsyncIterator[None]:
        """One at a time for each name: the second finds what the first has done."""
        lock, users = self._locks.get(name, (asyncio.Lock(), 0))
        self._locks[name] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks.pop(name)
            if users > 1:
                self._locks[name] = lock, users - 1


async def _batches(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Fewer, larger pieces: each costs a trip to a thread."""
    pending = bytearray()
    async for chunk in chunks:
        pending += chunk
        if len(pending) >= _HASHED_AT_ONCE_BYTES:
            yield bytes(pending)
            pending.clear()
    yield bytes(pending)


def _take(batch: bytes, *takers: Callable[[bytes], object]) -> None:
    for take in takers:
        take(batch)


def _check_entry_point(entry_point: tuple[str, ...], code: Path) -> None:
    """A file of the bundle, behind a command that starts it or not; or a module."""
    if entry_point[:1] == ("-m",):
        return
    for word in entry_point[:2]:
        if ".." not in Path(word).parts and (code / word).is_file():
            return
    raise BuildFailed(f"the entry point {' '.join(entry_point)!r} is not in the bundle")
