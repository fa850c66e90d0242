"""The other gateways of `gateway.py`: each in a virtual environment of its own, with one worker and
the echo server behind it, as its documentation has it. Nothing is stood in for: what cannot be
installed, or does not answer, is left out with its reason.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from gateway_systems import (
    System,
    called,
    environment,
    requested,
    tool_named_echo,
    tree,
)
from gateway_upstream import LEGACY, MODERN
from platform_under_test import free_port, until_listening

_REQUIREMENTS = Path(__file__).parent / "peers"
_INSTALL_SECONDS_MAX, _START_SECONDS_MAX = 900, 120
_SECRET = "only-this-benchmark-knows-it-0123456789"
_PASSWORD = "Benchm4rk-Passw0rd!"


class CannotRun(Exception):
    """With the reason."""


class Running(NamedTuple):
    """Where a started peer is called, with which headers, and what its tool is called."""

    url: str
    headers: Mapping[str, str]
    tool: str


class Peer(NamedTuple):
    """`words` (executable of its environment, arguments) for (port, folder, upstream); `ready`
    for (port, bin folder) makes what has to be made over its own API."""

    name: str
    python: str
    words: Callable[[int, Path, str], list[str]]
    settings: Callable[[Path], dict[str, str]]
    ready: Callable[[int, Path, str], Running]
    eras: tuple[str, ...] = (LEGACY,)


@contextlib.contextmanager
def running(peer: Peer, upstream: str, environments: Path | None) -> Iterator[list[System]]:
    programs = installed(peer, environments)
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="freehold-peer-") as path:
        folder = Path(path)
        words = peer.words(port, folder, upstream)
        log = folder / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [programs / words[0], *words[1:]], cwd=folder, stdout=output, stderr=output,
                env=environment(HOME=path, **peer.settings(folder)),
            )  # fmt: skip
        try:
            try:
                until_listening(port, _START_SECONDS_MAX)
            except SystemExit as error:
                tail = log.read_text(errors="replace")[-500:]
                raise CannotRun(f"it did not start: {error}: {tail}") from None
            found = peer.ready(port, programs, upstream)
            yield [
                called(
                    peer.name if len(peer.eras) == 1 else f"{peer.name}, {era}",
                    found.url, era=era, tool=found.tool, headers=found.headers,
                    pids=lambda: tree(process.pid), is_peer=True,
                )
                for era in peer.eras
            ]  # fmt: skip
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


def installed(peer: Peer, environments: Path | None) -> Path:
    """The folder of its programs; made where it is not there yet, or of other requirements."""
    key = next(key for key, each in PEERS.items() if each is peer)
    requirements = (_REQUIREMENTS / f"{key}.txt").read_text()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    root = (environments or cache / "freehold-benchmarks") / key
    stamp = root / "installed.txt"
    if not stamp.exists() or stamp.read_text() != requirements:
        shutil.rmtree(root, ignore_errors=True)
        run("uv", "venv", "--quiet", "--no-python-downloads", "--python", python(peer.python), root)
        run("uv", "pip", "install", "--quiet", "--python", root / "bin" / "python",
            "--requirement", _REQUIREMENTS / f"{key}.txt")  # fmt: skip
        stamp.write_text(requirements)
    return root / "bin"


def python(version: str) -> Path:
    """An interpreter of this version, from the path or pyenv's folder. Raises CannotRun."""
    found = [Path(where) for where in (shutil.which(f"python{version}"), sys.executable) if where]
    found += sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    for each in found:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            asked = [str(each), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
            said = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True)
            if said.stdout.strip() == version:
                return each
    raise CannotRun(f"it needs Python {version}, which is not here")


def run(program: str, *words: object) -> None:
    own = Path(sys.executable).with_name(program)
    try:
        subprocess.run(
            [own if own.exists() else program, *map(str, words)], check=True,
            capture_output=True, timeout=_INSTALL_SECONDS_MAX,
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        raise CannotRun(f"it cannot be installed: {error.stderr.decode()[-500:]}") from None


# -- FastMCP's proxy


def _fastmcp_words(port: int, folder: Path, upstream: str) -> list[str]:
    return [
        "fastmcp", "run", upstream, "--transport", "http", "--port", str(port), "--no-banner",
        "--skip-env", "--log-level", "WARNING",
    ]  # fmt: skip


def _fastmcp_ready(port: int, programs: Path, upstream: str) -> Running:
    url = f"http://127.0.0.1:{port}/mcp"
    return Running(url, {}, tool_named_echo(url, {}))


# -- ContextForge, with SQLite; its plugins are off, its authentication and its rate limit on


def _contextforge_settings(folder: Path) -> dict[str, str]:
    return {
        "BASIC_AUTH_PASSWORD": _PASSWORD,
        "DEFAULT_USER_PASSWORD": _PASSWORD,
        "PLATFORM_ADMIN_PASSWORD": _PASSWORD,
        "DATABASE_URL": f"sqlite:///{folder}/contextforge.db",
        "JWT_SECRET_KEY": _SECRET,
        "AUTH_ENCRYPTION_SECRET": _SECRET,
        "PLATFORM_ADMIN_EMAIL": "admin@example.com",
        "PLUGINS_ENABLED": "false",
        "MCPGATEWAY_UI_ENABLED": "false",
        "SSRF_ALLOW_LOCALHOST": "true",
        "SSRF_ALLOW_PRIVATE_NETWORKS": "true",
        "RATE_LIMIT_MEDIUM_RPM": "100000000",
        "LOG_LEVEL": "ERROR",
    }


def _contextforge_ready(port: int, programs: Path, upstream: str) -> Running:
    base = f"http://127.0.0.1:{port}"
    token = subprocess.run(
        [programs / "python", "-m", "mcpgateway.utils.create_jwt_token", "--admin",
         "--username", "admin@example.com", "--exp", "1000", "--secret", _SECRET],
        env=environment(**_contextforge_settings(Path(tempfile.gettempdir()))),
        capture_output=True, text=True, timeout=120, check=True,
    ).stdout.split()[-1]  # fmt: skip
    bearer = {"Authorization": f"Bearer {token}"}
    sent = {**bearer, "Content-Type": "application/json"}
    made = {"name": "echo", "url": upstream, "transport": "STREAMABLEHTTP"}
    requested("POST", f"{base}/v1/gateways", made, sent)
    tools, _ = requested("GET", f"{base}/v1/tools", None, sent)
    ids = [tool["id"] for tool in tools]
    server = {"server": {"name": "echo", "associated_tools": ids}}
    id = requested("POST", f"{base}/v1/servers", server, sent)[0]["id"]
    url = f"{base}/servers/{id}/mcp"
    return Running(url, bearer, tool_named_echo(url, bearer))


# -- LiteLLM's proxy, without a database


def _litellm_words(port: int, folder: Path, upstream: str) -> list[str]:
    configuration = {
        "mcp_servers": {"echo": {"url": upstream, "transport": "http"}},
        "general_settings": {"master_key": f"sk-{_SECRET}"},
    }
    path = folder / "litellm.yaml"
    path.write_text(json.dumps(configuration))  # all JSON is YAML
    return [
        "litellm", "--config", str(path), "--host", "127.0.0.1", "--port", str(port),
        "--num_workers", "1", "--telemetry", "False",
    ]  # fmt: skip


def _litellm_ready(port: int, programs: Path, upstream: str) -> Running:
    url, key = f"http://127.0.0.1:{port}/mcp/", {"x-litellm-api-key": f"Bearer sk-{_SECRET}"}
    return Running(url, key, tool_named_echo(url, key))


PEERS = {
    "fastmcp": Peer(
        "FastMCP 4.1.2", "3.11", _fastmcp_words, lambda _: {"FASTMCP_CHECK_FOR_UPDATES": "off"},
        _fastmcp_ready, eras=(LEGACY, MODERN),
    ),
    "contextforge": Peer(
        "ContextForge 1.1.0", "3.12",
        lambda port, *_: ["mcpgateway", "--host", "127.0.0.1", "--port", str(port),
                          "--workers", "1"],
        _contextforge_settings, _contextforge_ready,
    ),
    "litellm": Peer(
        "LiteLLM 1.106.2", "3.11", _litellm_words,
        lambda _: {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}, _litellm_ready,
    ),
}  # fmt: skip
