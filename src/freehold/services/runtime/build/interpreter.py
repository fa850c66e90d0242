"""Which interpreter of this machine a bundle gets."""

import re
from collections.abc import Mapping

from freehold.ports.interpreters import Interpreter
from freehold.services.runtime.build.model import BuildFailed

_NAME = re.compile(r"([A-Z]+)_(\d+)(?:_(\d+))?")


def choose_interpreter(
    asked: str, present: Mapping[str, Interpreter], *, fallback: bool
) -> Interpreter:
    """The one that was asked for; with `fallback` the nearest of the same language."""
    if asked in present:
        return present[asked]
    alike = [name for name in present if _language(name) == _language(asked)]
    if not fallback or not alike:
        listed = ", ".join(sorted(present, key=_version)) or "none"
        raise BuildFailed(f"{asked} is not on this machine. There is: {listed}")

    def distance(name: str) -> tuple[int, int, int]:
        """A newer one before an older one as far away."""
        major, minor = _version(name)
        wanted_major, wanted_minor = _version(asked)
        return abs(major - wanted_major), abs(minor - wanted_minor), -minor

    return present[min(alike, key=distance)]


def is_python(interpreter: Interpreter) -> bool:
    return _language(interpreter.name) == "PYTHON"


def _language(name: str) -> str | None:
    match = _NAME.fullmatch(name)
    return match[1] if match else None


def _version(name: str) -> tuple[int, int]:
    match = _NAME.fullmatch(name)
    return (int(match[2]), int(match[3] or 0)) if match else (0, 0)
