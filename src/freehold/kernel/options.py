"""`freehold:*` tags: what resources can be told that AgentCore has no field for.

Tags, so that boto3, the AWS CLI and Terraform can say them as they are. AWS allows letters, digits,
spaces and `_.:/=+-@` in a value, 256 of them. An unknown setting or a bad value is an error, never
a label.
"""

from collections.abc import Callable, Mapping
from typing import Any

from freehold.kernel.errors import ValidationFailed

PREFIX = "freehold:"

Reader = Callable[[str], Any]
"""Raises ValueError with what was expected: "a whole number from 1 to 64"."""


class Options:
    """The settings of one kind of resource, by the rest of their tag's key. A reader whose name
    ends in a colon reads every setting that begins so."""

    def __init__(self, kind: str, readers: Mapping[str, Reader]) -> None:
        self._kind, self._readers = kind, dict(readers)

    def _reader(self, name: str) -> Reader | None:
        head, colon, rest = name.partition(":")
        return self._readers.get(name) or (self._readers.get(head + colon) if rest else None)

    def check(self, tags: Mapping[str, str]) -> None:
        self.read(tags)

    def read(self, tags: Mapping[str, str]) -> dict[str, Any]:
        """What is set, read. Raises ValidationFailed."""
        found = {}
        for key, value in tags.items():
            if not key.startswith(PREFIX):
                continue
            name = key.removeprefix(PREFIX)
            reader = self._reader(name)
            if reader is None:
                known = ", ".join(PREFIX + n for n in sorted(self._readers)) or "none"
                raise ValidationFailed(
                    f"tag {key}: {self._kind} has no such setting; there is {known}"
                )
            try:
                found[name] = reader(value)
            except ValueError as error:
                raise ValidationFailed(f"tag {key}={value}: expected {error}") from None
        return found


def one_of(*values: str) -> Reader:
    def read(text: str) -> str:
        if text not in values:
            raise ValueError(", ".join(sorted(values)))
        return text

    return read


def whole_number(least: int, most: int) -> Reader:
    def read(text: str) -> int:
        number = int(text) if text.isascii() and text.isdigit() else -1
        if not least <= number <= most:
            raise ValueError(f"a whole number from {least} to {most}")
        return number

    return read
