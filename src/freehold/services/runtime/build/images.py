"""A version whose artifact is a container image: fetched and unpacked, with a build's log."""

import asyncio
from pathlib import Path

from freehold.ports.images import Image, ImageRefused, Images
from freehold.services.runtime.build.log import BuildLog
from freehold.services.runtime.build.model import BuildFailed
from freehold.services.runtime.build.tree import BuildTree


class ImageBuilder:
    """`root` is the machine's build root, which the logs are below."""

    def __init__(self, images: Images, *, root: Path, log_bytes_max: int = 1 << 20) -> None:
        self._images, self._tree = images, BuildTree(root)
        self._log_bytes_max = log_bytes_max

    async def build(self, uri: str, build_id: str) -> Image:
        """Raises BuildFailed for the image's faults, OSError for ours."""
        path = await asyncio.to_thread(self._tree.log_path, build_id)
        with BuildLog(path, bytes_max=self._log_bytes_max) as log:
            try:
                image = await self._images.fetch(uri, note=log.note)
            except ImageRefused as refused:
                tail = log.tail
                log.note(f"failed: {refused}")
                raise BuildFailed(f"the image {uri}: {refused}", tail) from refused
            log.note("done")
            return image
