"""Gateways and agents of one platform, each the other's target."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_inner_ground import deployed

from gateway_ground import Gateway, MakeGateway
from running import PYTHON, Agent, RunningPlatform

STDIO = """
[servers.notes]
directory = "{directory}"
runtime = "{runtime}"
command = ["stdio_server.py", "--verbose"]
environment = {{ SETTING = "of the operator" }}
tenants = ["*"]

[servers.sdk]
directory = "{directory}/sdk"
runtime = "{runtime}"
command = ["-m", "adding"]
tenants = ["*"]

[servers.closed]
directory = "{directory}"
runtime = "{runtime}"
command = ["stdio_server.py"]
tenants = ["222233334444"]
"""


ADDING = '''
from mcp.server.mcpserver import MCPServer

server = MCPServer("adding")


@server.tool()
def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


server.run()
'''


@pytest.fixture(scope="session")
def platform(open_directory: Path) -> Iterator[RunningPlatform]:
    """In place of the one that other tests share: two workers, and servers that the operator
    configured."""
    installed = open_directory / "stdio"
    installed.mkdir()
    server = Path(__file__).with_name("stdio_server.py")
    (installed / server.name).write_text(server.read_text())
    (installed / "sdk" / "adding").mkdir(parents=True)
    (installed / "sdk" / "requirements.txt").write_text("mcp==2.3.0\n")
    (installed / "sdk" / "adding" / "__main__.py").write_text(ADDING)
    file = open_directory / "stdio.toml"
    file.write_text(STDIO.format(directory=installed, runtime=PYTHON))
    running = RunningPlatform(
        open_directory / "inner",
        workers=2,
        allow_process_tier="true",
        outbound_private_hosts="127.0.0.1",
        stdio_servers=file,
    )
    with running:
        yield running


@pytest.fixture(scope="session")
def mcp_agent(platform: RunningPlatform) -> Agent:
    """It keeps sessions."""
    return deployed(platform)


@pytest.fixture
def make_gateway(platform: RunningPlatform) -> Iterator[MakeGateway]:
    made: list[Gateway] = []

    def make(seen_by: RunningPlatform = platform, **params: object) -> Gateway:
        made.append(Gateway(seen_by, **params))
        return made[-1]

    yield make
    for gateway in made:
        gateway.delete()
