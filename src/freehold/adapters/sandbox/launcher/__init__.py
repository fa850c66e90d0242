"""The program that runs an agent's entry point; see `launcher.py`, which stands alone."""

import hashlib
import os
import tempfile
from pathlib import Path

CONFINED_VARIABLE = "FREEHOLD_CONFINED"
"""Tells `launcher.py` to give up all files that the sandbox's mounts do not show."""

LAUNCHER_FILE = Path(__file__).with_name("launcher.py")


def installed_launcher(directory: Path) -> Path:
    """A copy that every user can read, wherever the platform itself is installed."""
    return installed_copy(LAUNCHER_FILE, directory)


def installed_copy(source: Path, directory: Path) -> Path:
    content = source.read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:12]
    target = directory / f"{source.stem}-{digest}{source.suffix}"
    if not target.exists():
        descriptor, fresh = tempfile.mkstemp(dir=directory)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(fresh).chmod(0o644)
        Path(fresh).replace(target)
    return target
