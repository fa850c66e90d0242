"""A client of registries: manifests and blobs, each checked against its digest.

Source: OCI distribution specification 1.1.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import aiohttp
from yarl import URL

from freehold.adapters.images import challenge
from freehold.adapters.images.credentials import Credentials
from freehold.adapters.images.manifest import ACCEPT, DOCUMENT_BYTES_MAX, Descriptor
from freehold.adapters.images.reach import Forbidden, Reach, Session, bounded
from freehold.adapters.images.reference import (
    DOCKER_HUB,
    Reference,
    digest_of,
    hasher,
    is_digest,
)
from freehold.kernel.threads import in_thread
from freehold.ports.images import ImageRefused

_ATTEMPTS_MAX = 4
_PAUSE_SECONDS, _PAUSE_SECONDS_MAX = 0.5, 20.0
_DOCKER_HUB_HOST = "registry-1.docker.io"
_CHUNK_BYTES = 1 << 20

T = TypeVar("T")


class _TryAgain(Exception):
    """It may go better in a while."""

    def __init__(self, what: str, seconds: float | None = None) -> None:
        super().__init__(what)
        self.seconds = seconds


class Registry:
    """One repository of one registry, for one pull."""

    def __init__(
        self, session: Session, reach: Reach, reference: Reference, credentials: Credentials | None
    ) -> None:
        self._session, self._reference, self._credentials = session, reference, credentials
        host = reference.registry
        base = reach.base(_DOCKER_HUB_HOST if host == DOCKER_HUB else host)
        self._url = base / "v2" / reference.repository
        self._authorization: str | None = None
        self._logging_in = asyncio.Lock()

    async def manifest(self, version: str) -> tuple[str, bytes]:
        """Its digest and what it is. Raises ImageRefused."""

        async def attempt() -> bytes:
            async with self._asked(self._url / "manifests" / version, Accept=ACCEPT) as answer:
                return await bounded(answer, DOCUMENT_BYTES_MAX)

        content = await self._patiently(attempt)
        digest = digest_of(content, version if is_digest(version) else "sha256:")
        if is_digest(version) and digest != version:
            raise ImageRefused(f"the registry gives something else for {version}")
        return digest, content

    async def blob(self, descriptor: Descriptor, target: Path) -> None:
        """To a file; what was cut off is gone on with. Raises ImageRefused."""
        download = _Download(descriptor, target)

        async def attempt() -> None:
            headers = {"Range": f"bytes={download.done}-"} if download.done else {}
            async with self._asked(self._url / "blobs" / descriptor.digest, **headers) as answer:
                if answer.status != 206:
                    download.start_over()
                async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
                    await in_thread(download.take, chunk)
            if download.done < descriptor.size:
                raise _TryAgain("it ended early")

        try:
            await self._patiently(attempt)
            download.check()
        finally:
            download.close()

    @contextlib.asynccontextmanager
    async def _asked(self, url: URL, **headers: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to a GET that went well; logs in where that is asked for."""
        for first in (True, False):
            sent = self._authorization
            if sent:
                headers["Authorization"] = sent
            async with self._session.get(url, headers) as answer:
                # A host that we were sent on to does not say where the registry's login goes.
                own = answer.url.origin() == url.origin()
                if answer.status == 401 and own and first and "WWW-Authenticate" in answer.headers:
                    asked = answer.headers["WWW-Authenticate"]
                else:
                    self._check(answer)
                    yield answer
                    return
            await self._log_in(asked, sent)

    async def _log_in(self, asked: str, sent: str | None) -> None:
        async with self._logging_in:
            if self._authorization == sent:  # nobody else has done so meanwhile
                scope = f"repository:{self._reference.repository}:pull"
                self._authorization = await challenge.authorization(
                    self._session, asked, self._credentials, scope
                )

    def _check(self, answer: aiohttp.ClientResponse) -> None:
        status = answer.status
        if status in (200, 206):
            return
        if status in (408, 429) or status >= 500:
            after = answer.headers.get("Retry-After", "")
            raise _TryAgain(f"HTTP {status}", float(after) if after.isdecimal() else None)
        if status in (401, 403):
            raise ImageRefused(f"{self._reference.registry} does not allow it (HTTP {status})")
        if status == 404:
            raise ImageRefused(f"{self._reference.registry} has no such image (HTTP 404)")
        raise ImageRefused(f"{self._reference.registry} answers HTTP {status}")

    async def _patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        pause = _PAUSE_SECONDS
        for number in range(1, _ATTEMPTS_MAX + 1):
            seconds = None
            try:
                return await attempt()
            except Forbidden as error:
                raise ImageRefused(str(error)) from error
            except _TryAgain as error:
                problem, seconds = str(error), error.seconds
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                because = getattr(
                    error, "os_error", None
                )  # aiohttp's word for what a resolver says
                if isinstance(because, Forbidden):
                    raise ImageRefused(str(because)) from error
                problem = str(error) or type(error).__name__
            if number < _ATTEMPTS_MAX:
                await asyncio.sleep(min(seconds or pause, _PAUSE_SECONDS_MAX))
                pause *= 2
        raise ImageRefused(f"{self._reference.registry} could not be read: {problem}")


class _Download:
    """What was taken of a blob so far, and its hash."""

    def __init__(self, descriptor: Descriptor, target: Path) -> None:
        self._descriptor = descriptor
        self._file = target.open("wb")
        self.start_over()

    def start_over(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._hash = hasher(self._descriptor.digest)
        self.done = 0

    def take(self, chunk: bytes) -> None:
        self.done += len(chunk)
        if self.done > self._descriptor.size:
            raise ImageRefused(f"the registry gives more than it said of {self._descriptor.digest}")
        self._hash.update(chunk)
        self._file.write(chunk)

    def check(self) -> None:
        if self._hash.hexdigest() != self._descriptor.digest.partition(":")[2]:
            raise ImageRefused(f"the registry gives something else for {self._descriptor.digest}")

    def close(self) -> None:
        self._file.close()
