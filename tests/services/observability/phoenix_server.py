"""Arize Phoenix for the tests: another's reader of what we forward. Elastic licence: for tests
only, in an environment of its own that nothing of ours is shipped with.

`make phoenix` installs it beforehand: that takes minutes and 855 MB, so no test does.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_REQUIREMENTS = Path(__file__).parent / "phoenix" / "requirements.txt"
_INSTALL_SECONDS_MAX = 600
_START_SECONDS_MAX = 180
_FREE_BYTES_MIN = 3 << 30


class NotInstalled(Exception):
    """Why it cannot be had here."""


def environment() -> Path:
    """Of these very requirements, in a cache of the user's that may go at any time."""
    digest = hashlib.sha256(_REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "freehold-tests" / f"phoenix-{digest}"


def installed() -> Path:
    """Its Python. Raises NotInstalled."""
    target = environment()
    if not (target / "installed").exists():
        raise NotInstalled("make phoenix installs it")
    return target / "bin" / "python"


def install() -> Path:
    """Its Python. Raises NotInstalled."""
    target = environment()
    if not (target / "installed").exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with (target.parent / "phoenix.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (target / "installed").exists():
                _make(target)
    return target / "bin" / "python"


def _make(target: Path) -> None:
    if shutil.disk_usage(target.parent).free < _FREE_BYTES_MIN:
        raise NotInstalled("less than 3 GiB of disk are free")
    shutil.rmtree(target, ignore_errors=True)
    pip = [str(target / "bin" / "python"), "-m", "pip", "install", "--no-deps", "--quiet"]
    try:
        _run([sys.executable, "-m", "venv", str(target)])
        _run([
            *pip, "--disable-pip-version-check", "--no-input", "--only-binary=:all:", "--retries=1",
            "--requirement", str(_REQUIREMENTS),
        ])  # fmt: skip
    except NotInstalled:
        shutil.rmtree(target, ignore_errors=True)
        raise
    (target / "installed").touch()


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_INSTALL_SECONDS_MAX, check=False
        )
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"it took more than {_INSTALL_SECONDS_MAX} s") from None
    if done.returncode:
        raise NotInstalled("\n".join(done.stderr.splitlines()[-3:]))


class Phoenix:
    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint

    def spans(self, project: str = "default") -> list[dict[str, Any]]:
        return list(self._ask(f"/v1/projects/{project}/spans?limit=1000")["data"])

    def query(self, text: str) -> dict[str, Any]:
        """Of its GraphQL."""
        answer = self._ask("/graphql", {"query": text})
        assert not answer.get("errors"), answer
        return dict(answer["data"])

    def alive(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.endpoint}/healthz", timeout=5):
                return True
        except OSError:
            return False

    def _ask(self, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            self.endpoint + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)


@contextlib.contextmanager
def phoenix() -> Iterator[Phoenix]:
    """On loopback, telling nobody anything. Raises NotInstalled."""
    python = installed()
    with tempfile.TemporaryDirectory(prefix="phoenix-") as work:
        http, grpc = _free_port(), _free_port()
        log = Path(work) / "log"
        own = {
            "PATH": os.environ["PATH"], "HOME": work,
            "PHOENIX_HOST": "127.0.0.1", "PHOENIX_PORT": str(http), "PHOENIX_GRPC_PORT": str(grpc),
            "PHOENIX_WORKING_DIR": work, "PHOENIX_TELEMETRY_ENABLED": "false",
            "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false", "PHOENIX_DISABLE_AGENT_ASSISTANT": "true",
        }  # fmt: skip
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(python), "-m", "phoenix.server.main", "serve"],
                env=own, cwd=work, stdout=output, stderr=output,
            )  # fmt: skip
        try:
            running = Phoenix(f"http://127.0.0.1:{http}")
            give_up = time.monotonic() + _START_SECONDS_MAX
            while not running.alive():
                assert process.poll() is None, log.read_text()[-2000:]
                assert time.monotonic() < give_up, log.read_text()[-2000:]
                time.sleep(0.2)
            yield running
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=20)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


if __name__ == "__main__":
    print(install())
