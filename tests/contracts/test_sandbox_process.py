"""What only the process tier does: it shares the machine's ports and paths, and says so."""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sandbox_ground import Ground, HostView, Running, ground_of

from freehold.adapters.sandbox.process import ProcessDriver
from freehold.adapters.sandbox.process.paths import Outside
from freehold.ports.sandbox import LAUNCHER, Mount

PORT = 18090
SERVER = f"""
import os, socket
server = socket.create_server(("127.0.0.1", {PORT}))
print("up")
while True:
    connection, _ = server.accept()
    connection.sendall(os.environ["NAME"].encode())
    connection.close()
"""
UVICORN = f"""
import uvicorn
async def app(scope, receive, send):
    await send({{"type": "http.response.start", "status": 204, "headers": []}})
    await send({{"type": "http.response.body", "body": b""}})
uvicorn.run(app, port={PORT}, lifespan="off")
"""


@pytest.fixture(scope="module")
async def ground() -> AsyncIterator[Ground]:
    root = Path(tempfile.mkdtemp(prefix="freehold-process-"))
    async with ground_of("process", root) as made:
        made.driver = ProcessDriver(directory=root / "driver", agent_ports=(PORT,))
        yield made


async def end_with_reason(running: Running) -> str:
    return (await running.end()).reason


async def test_a_second_agent_on_a_plain_tcp_port_is_told_why_it_cannot_run(ground: Ground) -> None:
    first = await ground.start(SERVER, environment={"NAME": "first"})
    await first.says("up")
    second = await ground.start(SERVER, environment={"NAME": "second"})
    reason = await end_with_reason(second)
    assert f"port {PORT} of this machine belongs to another process" in reason
    assert "one session at a time" in reason
    await first.sandbox.stop()
    await second.sandbox.stop()


async def test_a_connection_never_leads_to_another_sessions_agent(ground: Ground) -> None:
    first = await ground.start(SERVER, environment={"NAME": "first"})
    await first.says("up")
    other = await ground.start("import time; print('up'); time.sleep(600)")
    await other.says("up")
    with pytest.raises(ConnectionRefusedError, match="belongs to another process"):
        await other.sandbox.connect(PORT)
    loop = asyncio.get_running_loop()
    with await first.sandbox.connect(PORT) as stream:
        assert await loop.sock_recv(stream, 10) == b"first"
    await first.sandbox.stop()
    await other.sandbox.stop()


async def test_a_directory_too_deep_for_a_unix_socket_is_no_hindrance(ground: Ground) -> None:
    code = ground.root / "code"
    code.mkdir()
    (code / "main.py").write_text(UVICORN)
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    name = "deep-" + "x" * 110
    command = (sys.executable, LAUNCHER, "--code", "/task", "--layer", "/layer", "main.py")
    mounts = (Mount(str(code), "/task"), Mount(packages, "/layer"))
    deep = await ground.start(id=name, command=command, mounts=mounts, workdir="/task")
    (await deep.reachable(PORT)).close()
    assert (Path(deep.spec.directory) / f"port-{PORT}.sock").is_socket()
    await deep.sandbox.stop()


def test_paths_below_a_mount_are_said_of_its_source() -> None:
    outside = Outside([Mount("/host/code", "/var/task"), Mount("/host/layer/x", "/var/task/layer")])
    assert outside.path("/var/task") == "/host/code"
    assert outside.path("/var/task/a.py") == "/host/code/a.py"
    assert outside.path("/var/task/layer/b") == "/host/layer/x/b"
    assert outside.path("/var/tasks") == "/var/tasks"
    assert outside.path_list("/bin:/var/task/bin") == "/bin:/host/code/bin"
    assert outside.path_list("http://127.0.0.1:80/var/task") == "http://127.0.0.1:80/var/task"


async def test_every_process_is_found_wherever_it_moved_to(ground: Ground) -> None:
    code = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.chdir("/"); print("daemon", os.getpid()); time.sleep(600)
    os._exit(0)
os.wait()
"""
    running = await ground.start(code)
    assert (await running.end()).code == 0
    await running.says("daemon")
    before = HostView.of(ground.root)
    await running.sandbox.stop()
    assert len(before.processes) == len(HostView.of(ground.root).processes) + 1
