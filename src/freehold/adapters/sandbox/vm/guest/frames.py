"""What host and guest say to one another, over one serial line that may be cut at any byte.

A frame ends with a byte that occurs nowhere else, so that whoever comes to a line in the middle of
a frame is in step again with the next. A frame that was cut is known by its length, and dropped.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_END, _END_ESCAPED = b"\x7e", b"\x7d\x5e"
_ESCAPE, _ESCAPE_ESCAPED = b"\x7d", b"\x7d\x5d"
_HEADER = struct.Struct("<BII")  # kind, stream, bytes of payload
NUMBER = struct.Struct("<I")
SIZE = struct.Struct("<HH")  # rows, columns

FRAME_BYTES_MAX = 4 << 20
CHUNK_BYTES_MAX = 32 << 10
WINDOW_BYTES = 256 << 10
"""What either end may send on a stream before the other has said that it was read."""

# The host's. A payload is JSON where a name is given in braces.
ATTACH = 1  # a nonce: forget every stream, answer with HELLO
JOB = 2  # {links, bound, files, filter, limits, images, prepared, environment}: make the cell
GO = 3  # {command, environment, workdir, limits, ports}: run the command in it
CLOCK = 4  # {time_ns, entropy}: now, and randomness for the kernel
SIGNAL = 5  # stream: the signal's number, for the command
OPEN = 6  # a port: connect a new stream to it
EXECUTE = 7  # {command, environment, workdir, terminal}: run it too, as a new stream
RESIZE = 8  # rows and columns of that stream's terminal
HANG_UP = 9  # SIGHUP to that stream's process group
# The guest's.
HELLO = 20  # {nonce, state, code, memory_kills}
READY = 21  # {what was seen while modules were imported}: the cell is made
ENDED = 22  # {code, memory_kills}
FAILED = 23  # {reason}: the job cannot be done
OPENED = 24
REFUSED = 25
ACCEPTED = 26  # a port: somebody inside connected to the platform's port
RETURN = 27  # a number: the content of that writable mount follows, see `tree`
NOT_STARTED = 28  # {reason}: why there is no such program
EXITED = 29  # {code} of the stream's program, of which more may still be read
ERRORS = 30  # as DATA, from its stderr
# Of both.
DATA = 40
CREDIT = 41  # a number of bytes that were read
EOF = 42
ABORT = 43  # a program's: SIGKILL to its process group, and nothing more of it but EXITED


class LineFailed(Exception):
    """The other end does not keep to this protocol."""


def encoded(kind: int, stream: int = 0, payload: bytes = b"") -> bytes:
    frame = _HEADER.pack(kind, stream, len(payload)) + payload
    return frame.replace(_ESCAPE, _ESCAPE_ESCAPED).replace(_END, _END_ESCAPED) + _END


def fresh_start() -> bytes:
    """Ends whatever frame was cut off before."""
    return _END


class Decoder:
    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._held = 0

    def frames(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """(kind, stream, payload) of each frame that is whole. Raises LineFailed."""
        first, *others = data.split(_END)
        self._rest.append(first)
        self._held += len(first)
        if self._held > 2 * FRAME_BYTES_MAX:
            raise LineFailed("a frame is too long")
        if not others:
            return
        whole = [b"".join(self._rest), *others]
        self._rest, self._held = [whole.pop()], len(others[-1])
        for escaped in whole:
            if escaped.endswith(_ESCAPE):
                continue  # cut within an escape
            frame = escaped.replace(_END_ESCAPED, _END).replace(_ESCAPE_ESCAPED, _ESCAPE)
            if len(frame) >= _HEADER.size:
                kind, stream, length = _HEADER.unpack_from(frame)
                if len(frame) == _HEADER.size + length:
                    yield kind, stream, frame[_HEADER.size :]
