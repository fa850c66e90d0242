"""The operator's file of stdio servers.

[servers.files]
directory = "/srv/mcp/files"
runtime = "PYTHON_3_12"
command = ["server.py", "--verbose"]
tenants = ["100000000001"]
"""

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec

SCHEME = "stdio:"
BUCKET = "freehold-stdio"
"""Of the tenant's own, for what its servers are made of."""
TAG = "freehold-stdio"
"""On the runtime under the hood: the server's name."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_RUNTIME = re.compile(r"(PYTHON|NODE)_\d+(_\d+)?")
_TENANT = re.compile(r"\d{12}")


class StdioFileError(Exception):
    """The file cannot be used; says which server and why."""


class StdioServer(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"
):
    """`directory` is what is installed on this machine, and goes into every sandbox of the server,
    read-only. `command` is what starts it there: a file of the directory, or `-m MODULE`, for the
    interpreter that `runtime` names; with `program = true` a program of the directory's own.
    `tenants` are accounts, "*" for all. The rest is as in the tags of an agent runtime: see
    docs/limits.md and docs/network.md."""

    directory: str
    runtime: str
    command: list[str]
    program: bool = False
    environment: dict[str, str] = {}
    tenants: list[str] = []
    egress_hosts: list[str] = []
    tier: str = ""
    memory_mib: int | None = None

    def __repr__(self) -> str:
        return f"StdioServer({self.directory})"

    def is_for(self, tenant: str) -> bool:
        return tenant in self.tenants or "*" in self.tenants

    def tags(self, name: str) -> dict[str, str]:
        tags = {TAG: name}
        if self.egress_hosts:
            tags["freehold:egress-hosts"] = " ".join(self.egress_hosts)
        if self.tier:
            tags["freehold:tier"] = self.tier
        if self.memory_mib is not None:
            tags["freehold:memory-mib"] = str(self.memory_mib)
        return tags


class _File(msgspec.Struct, forbid_unknown_fields=True):
    servers: dict[str, StdioServer] = {}


def read_servers(path: Path) -> dict[str, StdioServer]:
    """By name. Raises StdioFileError."""
    try:
        document: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        servers = msgspec.convert(document, _File).servers
    except (OSError, ValueError) as error:  # msgspec's and tomllib's are ValueErrors
        raise StdioFileError(str(error)) from None
    for name, server in servers.items():
        _check(name, server)
    return servers


def _check(name: str, server: StdioServer) -> None:
    def refuse(why: str) -> None:
        raise StdioFileError(f"servers.{name}: {why}")

    if not _NAME.fullmatch(name):
        refuse("a name is up to 32 lower-case letters, digits and '_', and begins with a letter")
    if not Path(server.directory).is_absolute() or not Path(server.directory).is_dir():
        refuse(f"directory: {server.directory} is no directory of this machine, by its whole path")
    if not _RUNTIME.fullmatch(server.runtime):
        refuse("runtime: PYTHON_3_12, NODE_22 and so on")
    if not server.command or not all(server.command):
        refuse("command: what starts the server, and its arguments")
    bad = [each for each in server.tenants if each != "*" and not _TENANT.fullmatch(each)]
    if bad:
        refuse(f'tenants: {bad[0]!r} is neither an account of 12 digits nor "*"')
