"""A build's log: for the bundle's author, bounded, with no secret in it."""

from collections import deque
from pathlib import Path
from types import TracebackType

from freehold.services.runtime.build.model import LOG_TAIL_LINES

_LINE_CHARACTERS_MAX = 2_000
_PENDING_BYTES_MAX = 64 << 10


class BuildLog:
    """Lines are on disk as they come. Above `bytes_max` only the last lines are kept, at the end.

    `hide` names texts that are replaced wherever they appear.
    """

    def __init__(self, path: Path, *, bytes_max: int) -> None:
        self.path = path
        self._bytes_left = bytes_max
        self._left_out = 0
        self._hidden: list[str] = []
        self._pending = b""
        self._last: deque[str] = deque(maxlen=LOG_TAIL_LINES)
        self._file = path.open("w", encoding="utf-8", buffering=1)
        path.chmod(0o640)

    def __enter__(self) -> "BuildLog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.flush()
        if self._left_out:
            self._file.write(f"[{self._left_out} lines left out]\n")
            self._file.writelines(f"{line}\n" for line in self._last)
        self._file.close()

    @property
    def tail(self) -> tuple[str, ...]:
        return tuple(self._last)

    def hide(self, secrets: tuple[str, ...]) -> None:
        # The longest first: one may contain another.
        self._hidden = sorted({*self._hidden, *filter(None, secrets)}, key=len, reverse=True)

    def note(self, text: str) -> None:
        """A line of the platform's own."""
        self._line(f"[build] {text}")

    def feed(self, data: bytes) -> None:
        """Output of what runs in the sandbox: any bytes, in any pieces."""
        *lines, self._pending = (self._pending + data).replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            if line:
                self._line(line.decode(errors="replace"))
        if len(self._pending) > _PENDING_BYTES_MAX:
            self.flush()

    def flush(self) -> None:
        if self._pending:
            line, self._pending = self._pending, b""
            self._line(line.decode(errors="replace"))

    def _line(self, line: str) -> None:
        for secret in self._hidden:
            line = line.replace(secret, "****")
        # Nothing that a terminal would obey.
        line = "".join(c if c.isprintable() or c == "\t" else "�" for c in line)
        if len(line) > _LINE_CHARACTERS_MAX:
            line = line[:_LINE_CHARACTERS_MAX] + " [...]"
        self._last.append(line)
        size = len(line.encode()) + 1
        if self._left_out or size > self._bytes_left:
            self._left_out += 1
        else:
            self._bytes_left -= size
            self._file.write(line + "\n")
