"""A blob on its way to S3, in a temporary file without a name: a crash leaves nothing behind."""

import hashlib
import os
import tempfile
from collections.abc import Iterator

_PARTS_MAX = 10_000
_PART_BYTES_MIN = 16 << 20


class Spooled:
    """Methods block."""

    def __init__(self, directory: str | None) -> None:
        self.file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - close() ends it
        self.size_bytes = 0
        self._md5 = hashlib.md5(usedforsecurity=False)

    @property
    def md5(self) -> str:
        return self._md5.hexdigest()

    def write(self, batch: list[bytes]) -> None:
        for chunk in batch:
            self._md5.update(chunk)
            self.file.write(chunk)
            self.size_bytes += len(chunk)

    def parts(self) -> Iterator[bytes]:
        """Of equal size but the last, as few as keep memory flat."""
        part_bytes = max(_PART_BYTES_MIN, -(-self.size_bytes // _PARTS_MAX))
        self.file.seek(0, os.SEEK_SET)
        while part := self.file.read(part_bytes):
            yield part

    def close(self) -> None:
        self.file.close()
