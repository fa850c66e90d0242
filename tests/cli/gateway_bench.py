"""What the tests of `freehold gateway` share: the command against a running platform, a library."""

import json
import runpy
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from freehold.cli.root import root
from running import RunningPlatform

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "gateway"
LIBRARY_KEY = "open-sesame"


@dataclass
class Cli:
    """`freehold gateway ...` in this process."""

    environment: dict[str, str | None]

    def __call__(self, *words: object, stdin: str | None = None) -> Result:
        return CliRunner().invoke(
            root, ["gateway", *map(str, words)], input=stdin, env=self.environment
        )

    def out(self, *words: object) -> str:
        done = self(*words)
        assert done.exit_code == 0, done.output
        return done.stdout

    def document(self, *words: object) -> Any:
        return json.loads(self.out(*words, "--json"))

    def fails(self, *words: object, code: int = 1) -> str:
        """What it says on standard error."""
        done = self(*words)
        assert done.exit_code == code, done.output
        return done.stderr

    @contextmanager
    def gateway(self, *options: object) -> Iterator[str]:
        """The name of one that lasts as long as the `with`."""
        name = f"cli-{secrets.token_hex(4)}"
        self.out("create", name, *options)
        try:
            yield name
        finally:
            self.out("delete", name, "--with-targets", "--yes")


def cli_of(platform: RunningPlatform, tmp_path: Path) -> Cli:
    return Cli(
        {
            "FREEHOLD_ENDPOINT": platform.endpoint,
            "FREEHOLD_STATE": str(tmp_path / "no-state"),
            "FREEHOLD_TOKEN": None,
            "XDG_CONFIG_HOME": str(tmp_path / "config"),
            "AWS_REGION": platform.region,
            "AWS_ACCESS_KEY_ID": platform.access_key_id,
            "AWS_SECRET_ACCESS_KEY": platform.secret_access_key,
            "COLUMNS": "200",
        }
    )


@contextmanager
def library() -> Iterator[str]:
    """The example's own server; its address."""
    server = runpy.run_path(str(EXAMPLE / "library.py"))["serve"](0)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join(5)


def document_of(address: str) -> str:
    """The example's OpenAPI document, of a library at this address."""
    text = (EXAMPLE / "library.yaml").read_text()
    return text.replace("http://127.0.0.1:8765", address)
