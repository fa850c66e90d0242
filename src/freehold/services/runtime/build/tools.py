"""What runs in the build sandbox: our pip, and the script beside this file."""

import ensurepip
import hashlib
import importlib.util
import shutil
import zipfile
from pathlib import Path

from freehold.kernel.errors import PlatformFailed
from freehold.services.runtime.build.tree import BuildTree, seal

INSIDE = "inside.py"
PIP_RUNNER = "pip/__pip-runner__.py"
_BYTES_MAX = 64 << 20
_ENTRIES_MAX = 10_000


def prepare_tools(tree: BuildTree, staged: Path) -> Path:
    """A read-only directory with both, made once a version. Copied, since the sandbox's user may
    not reach the place where we are installed.
    """
    script = Path(__file__).with_name(INSIDE)
    pip = _pip()
    version = hashlib.sha256(script.read_bytes() + str(pip).encode())
    version.update(pip.stat().st_mtime_ns.to_bytes(8, "big"))
    tools = tree.tools(version.hexdigest()[:32])
    if not tools.exists():
        staged.mkdir()
        shutil.copyfile(script, staged / INSIDE)
        if pip.is_dir():
            shutil.copytree(pip, staged / "pip")
        else:
            with zipfile.ZipFile(pip) as wheel:
                wheel.extractall(staged)
        seal(staged, bytes_max=_BYTES_MAX, entries_max=_ENTRIES_MAX)
        tree.publish(staged, tools)
    return tools


def _pip() -> Path:
    """The directory of the pip beside us, or the wheel that comes with Python."""
    found = importlib.util.find_spec("pip")
    if found is not None and found.origin is not None:
        return Path(found.origin).parent
    for wheel in (Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"):
        return wheel
    raise PlatformFailed("pip is not installed beside the platform; bundles cannot be built")
