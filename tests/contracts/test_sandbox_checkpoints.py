"""Sandboxes that begin from a checkpoint: whose they are, and what goes through their relay."""

import asyncio
import contextlib
import itertools
import json
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sandbox_ground import PYTHON, SECONDS_MAX, Ground, Running, ground_of

from freehold.adapters.sandbox.container.sandbox import ContainerSandbox
from freehold.adapters.sandbox.gvisor import GvisorDriver
from freehold.adapters.sandbox.gvisor.template import GvisorTemplate
from freehold.ports.sandbox import LAUNCHER, Limits, Mount, TemplateSpec

_numbers = itertools.count()


@pytest.fixture(scope="module")
async def ground() -> AsyncIterator[Ground]:
    root = Path(tempfile.mkdtemp(prefix="freehold-checkpoints-"))
    async with ground_of("gvisor", root) as made:
        probe = await made.driver.probe()
        if not probe.available:
            pytest.skip(probe.detail)
        yield made


async def prepared(ground: Ground, **options: Any) -> GvisorTemplate:
    name = f"prepared-{next(_numbers)}"
    output = ground.root / f"{name}.log"
    output.touch()
    options.setdefault("command", (PYTHON, "-c", ""))
    options.setdefault("modules", ("random", "ssl", "uuid"))
    options.setdefault("limits", Limits(memory_bytes_max=512 << 20, scratch_bytes_max=32 << 20))
    spec = TemplateSpec(id=name, directory=str(ground.root / name), output=str(output), **options)
    assert isinstance(ground.driver, GvisorDriver)
    return await ground.driver.prepare(spec)


@pytest.fixture(scope="module")
async def template(ground: Ground) -> AsyncIterator[GvisorTemplate]:
    made = await prepared(ground)
    assert made.state == "ready", made.reason
    yield made
    await made.close()


async def begun(ground: Ground, template: GvisorTemplate, code: str, **options: Any) -> Running:
    spec = ground.spec(code, **options)
    assert isinstance(ground.driver, GvisorDriver)
    return Running(await ground.driver.start(spec, template), spec)


async def restored(ground: Ground, template: GvisorTemplate, code: str, **options: Any) -> Running:
    """As `begun`, and not an ordinary one."""
    running = await begun(ground, template, code, **options)
    assert ordinary_because(running) is None
    return running


def ordinary_because(running: Running) -> str | None:
    assert isinstance(running.sandbox, ContainerSandbox)
    assert (running.sandbox.record.template is None) == bool(running.sandbox.ordinary_because)
    return running.sandbox.ordinary_because


async def output_of(running: Running) -> str:
    await running.end()
    await running.sandbox.stop()
    return running.output


async def test_what_was_imported_is_there_and_nothing_is_imported_again(
    ground: Ground, template: GvisorTemplate
) -> None:
    code = "import sys; print({'random', 'ssl', 'uuid'} <= set(sys.modules))"
    running = await restored(ground, template, code)
    assert await output_of(running) == "True\n"


async def test_no_two_draw_the_same_randomness(ground: Ground, template: GvisorTemplate) -> None:
    code = """
import json, os, random, secrets, ssl, tempfile, uuid
print(json.dumps([random.random(), os.urandom(8).hex(), ssl.RAND_bytes(8).hex(),
                  secrets.token_hex(8), uuid.uuid4().hex, tempfile.mktemp()]))
"""
    boxes = await asyncio.gather(*(restored(ground, template, code) for _ in range(3)))
    drawn = [json.loads(await output_of(box)) for box in boxes]
    for kind in zip(*drawn, strict=True):
        assert len(set(kind)) == len(drawn)


async def test_each_has_an_environment_and_limits_of_its_own(
    ground: Ground, template: GvisorTemplate
) -> None:
    code = """
import os, resource
print(os.environ["NAME"], os.getcwd(), resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    for name, files in (("first", 100), ("second", 5000)):
        limits = Limits(open_files_max=files, scratch_bytes_max=32 << 20)
        running = await restored(
            ground, template, code, environment={"NAME": name}, workdir="/tmp", limits=limits
        )
        assert await output_of(running) == f"{name} /tmp ({files}, {files})\n"


async def test_a_variable_that_was_read_while_importing_decides(ground: Ground) -> None:
    layer = ground.root / "layer"
    layer.mkdir(mode=0o755)
    (layer / "configured.py").write_text("import os\nLEVEL = os.environ.get('LEVEL', 'none')\n")
    mounts = (Mount(str(layer), "/var/task"),)
    (layer / "main.py").write_text("import configured; print(configured.LEVEL)")
    command = (PYTHON, LAUNCHER, "--code", "/opt/none", "--layer", "/var/task", "main.py")
    made = await prepared(
        ground,
        command=command,
        mounts=mounts,
        modules=("configured",),
        environment={"LEVEL": "low"},
    )
    assert made.state == "ready", made.reason
    command = (*command[:-1], "-m", "main")
    same = await begun(
        ground, made, "", command=command, mounts=mounts, environment={"LEVEL": "low"}
    )
    assert ordinary_because(same) is None
    assert await output_of(same) == "low\n"
    other = await begun(
        ground, made, "", command=command, mounts=mounts, environment={"LEVEL": "high"}
    )
    assert "LEVEL was read" in str(ordinary_because(other))
    assert await output_of(other) == "high\n"
    await made.close()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import threading, time; threading.Thread(target=time.sleep, args=(99,), daemon=True)"
         ".start()", "starts threads when imported: odd"),
        ("kept = open('/etc/hosts')", "keeps files open when imported: odd"),
        ("import os; os._exit(3)", "ended while it imported"),
        ("import time; time.sleep(60)", "imports for more than 2 s"),
    ],
)  # fmt: skip
async def test_what_cannot_be_prepared_says_why_and_leaves_nothing(
    ground: Ground, code: str, reason: str
) -> None:
    layer = Path(tempfile.mkdtemp(dir=ground.root))
    layer.chmod(0o755)
    (layer / "odd.py").write_text(code)
    made = await prepared(
        ground,
        command=(PYTHON, LAUNCHER, "--code", "/opt/none", "--layer", "/var/task", "odd.py"),
        mounts=(Mount(str(layer), "/var/task"),),
        modules=("odd",),
        import_seconds_max=2 if "more than" in reason else SECONDS_MAX,
    )
    assert (made.state, reason in made.reason) == ("unfit", True), made.reason
    assert not made.image.exists()
    running = await begun(ground, made, "print('ordinary')")
    assert "unfit" in str(ordinary_because(running))
    assert await output_of(running) == "ordinary\n"
    await made.close()


async def test_other_mounts_than_the_checkpoints_make_it_an_ordinary_start(
    ground: Ground, template: GvisorTemplate
) -> None:
    mounts = (Mount(str(ground.root / "boxes"), "/data"),)
    running = await begun(ground, template, "print('up')", mounts=mounts)
    assert "other mounts" in str(ordinary_because(running))
    assert await output_of(running) == "up\n"


async def test_a_checkpoint_that_is_broken_makes_it_an_ordinary_start(ground: Ground) -> None:
    made = await prepared(ground)
    for file in made.image.iterdir():
        os.truncate(file, file.stat().st_size // 2)
    running = await begun(ground, made, "print('up')")
    assert "did not come back" in str(ordinary_because(running))
    assert (await output_of(running)).endswith("up\n")
    await made.close()


async def test_sessions_outlive_their_template(ground: Ground) -> None:
    made = await prepared(ground)
    running = await restored(ground, made, "import time; print('up'); time.sleep(600)")
    await running.says("up")
    await made.close()
    assert not made.image.exists()
    assert made.unsuited(running.spec)
    with pytest.raises(ConnectionRefusedError):
        await running.sandbox.connect(8080)
    await running.sandbox.stop()


async def test_images_of_a_platform_that_was_killed_are_swept(
    ground: Ground, template: GvisorTemplate
) -> None:
    left = ground.root / "driver" / "images" / "left"
    left.mkdir(parents=True)
    await ground.driver.sweep({template.id})
    assert not left.exists()
    assert (template.state, template.image.exists()) == ("ready", True)


ECHO = """
import socket, threading
def serve(stream):
    with stream:
        while data := stream.recv(65536): stream.sendall(data)
        stream.sendall(b"end")
server = socket.create_server(("127.0.0.1", 8080))
while True: threading.Thread(target=serve, args=(server.accept()[0],)).start()
"""


async def test_a_relayed_connection_carries_much_both_ways_and_its_ends(
    ground: Ground, template: GvisorTemplate
) -> None:
    running = await restored(ground, template, ECHO)
    content = os.urandom(1 << 20) * 4
    reader, writer = await asyncio.open_connection(sock=await running.reachable())
    async with asyncio.timeout(SECONDS_MAX):

        async def send() -> None:
            for start in range(0, len(content), 1 << 16):
                writer.write(content[start : start + (1 << 16)])
                await writer.drain()
            writer.write_eof()

        _, answer = await asyncio.gather(send(), reader.read(-1))
    assert answer == content + b"end"
    writer.close()
    await running.sandbox.stop()


async def test_many_relayed_connections_live_at_once(
    ground: Ground, template: GvisorTemplate
) -> None:
    running = await restored(ground, template, ECHO)
    (await running.reachable()).close()
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(SECONDS_MAX):
        streams = await asyncio.gather(*(running.sandbox.connect(8080) for _ in range(30)))
        with contextlib.ExitStack() as closing:
            for number, stream in enumerate(streams):
                closing.enter_context(stream)
                await loop.sock_sendall(stream, b"%d" % number)
            for number, stream in enumerate(streams):
                assert await loop.sock_recv(stream, 100) == b"%d" % number
    await running.sandbox.stop()


async def test_orphans_are_reaped_by_its_first_process(
    ground: Ground, template: GvisorTemplate
) -> None:
    code = """
import os, time
if os.fork() == 0:
    if os.fork() == 0: os._exit(0)
    os._exit(0)
os.wait()
end = time.monotonic() + 10
while len([n for n in os.listdir("/proc") if n.isdigit()]) > 2 and time.monotonic() < end:
    time.sleep(0.01)
print(sorted(int(n) for n in os.listdir("/proc") if n.isdigit()))
"""
    running = await restored(ground, template, code)
    pids = json.loads(await output_of(running))
    assert len(pids) == 2


async def test_lines_on_both_outputs_arrive_in_what_the_platform_reads(
    ground: Ground, template: GvisorTemplate
) -> None:
    """A FIFO, as sessions have; the template's output was a file."""
    code = """
import os, sys
print("out")
print("error", file=sys.stderr)
os.write(2, b"raw error\\n")
open("/dev/stderr", "w").write("error by name\\n")
os.system("echo child error >&2")
print("last", flush=True)
"""
    fifo = ground.root / "both-outputs"
    os.mkfifo(fifo, 0o600)
    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        running = await restored(ground, template, code, output=str(fifo))
        end = await running.end()
        said = os.read(reading, 1 << 16).decode()
        await running.sandbox.stop()
    finally:
        os.close(reading)
    lines = ["child error", "error", "error by name", "last", "out", "raw error"]
    assert (end.code, sorted(said.splitlines())) == (0, lines)
