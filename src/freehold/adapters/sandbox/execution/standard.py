"""Pipes for a program's input, output and errors."""

import os


class Standard:
    """Our ends do not block."""

    def __init__(self) -> None:
        self.ours: list[int] = []
        self.theirs: list[int] = []

    @classmethod
    def pipes(cls, owner: int | None, *, streams: int = 3) -> "Standard":
        """The first is written by us, the others are read. `owner` of them on the host."""
        made = cls()
        for number in range(streams):
            read, write = os.pipe2(os.O_CLOEXEC)
            ours, theirs = (read, write) if number else (write, read)
            made.ours.append(ours)
            made.theirs.append(theirs)
            os.set_blocking(ours, False)
            if owner is not None:
                os.fchown(theirs, owner, -1)  # programs open /dev/stderr by name
        return made

    def close_ours(self) -> None:
        _close(self.ours)

    def close_theirs(self) -> None:
        _close(self.theirs)


def _close(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())
