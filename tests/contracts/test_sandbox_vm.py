"""The vm tier in few machines: what is run of it with every change. The rest of it is slow."""

import asyncio
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sandbox_ground import (
    PYTHON,
    SECONDS_MAX,
    Ground,
    HostView,
    Running,
    ground_of,
    nothing_is_left,
)

from freehold.adapters.sandbox import kvm
from freehold.adapters.sandbox.vm import VmDriver, boot, images, qemu
from freehold.ports.sandbox import CommandSpec, SandboxFailed, TemplateSpec

SERVER = """
import os, socket
try: print(socket.create_connection(("127.0.0.1", 7400)).recv(100).decode(), flush=True)
except OSError: pass
server = socket.create_server(("127.0.0.1", 8080))
while True:
    connection, _ = server.accept()
    connection.sendall(os.environ["NAME"].encode())
    connection.close()
"""


MISSING = (
    (None if qemu.installed() else qemu.INSTALL) or images.missing() or boot.missing(boot.FOLDER)
)


@pytest.fixture(scope="module")
async def ground() -> AsyncIterator[Ground]:
    """No probe: that would be one more machine."""
    if MISSING and "CI" in os.environ:
        pytest.fail(MISSING)
    if MISSING:
        pytest.skip(MISSING)
    root = Path(tempfile.mkdtemp(prefix="freehold-vm-"))
    async with ground_of("vm", root) as made:
        yield made


@pytest.fixture(scope="module")
async def machine(ground: Ground) -> Running:
    running = await ground.start(SERVER, environment={"NAME": "first"}, loopback_ports=(7400,))
    async with asyncio.timeout(SECONDS_MAX):
        loop = asyncio.get_running_loop()
        knock, _ = await loop.sock_accept(running.sandbox.listeners[7400])
    with knock:
        await loop.sock_sendall(knock, b"welcome")
    return running


async def name_of(running: Running) -> bytes:
    with await running.reachable() as stream:
        async with asyncio.timeout(SECONDS_MAX):
            return await asyncio.get_running_loop().sock_recv(stream, 100)


async def output_of(running: Running, spec: CommandSpec) -> tuple[str, int]:
    command = await running.sandbox.execute(spec)
    said = b""
    async with asyncio.timeout(SECONDS_MAX):
        while piece := await command.read():
            said += piece.data
        code = await command.wait()
    await command.close()
    return said.decode(), code


async def seen(running: Running, code: str) -> Any:
    """What the code, run inside beside the server, printed as JSON."""
    spec = CommandSpec(command=(PYTHON, "-c", "import json, os, socket, sys\n" + code))
    said, status = await output_of(running, spec)
    assert status == 0, said
    return json.loads(said)


async def test_a_machine_is_reached_and_reaches_the_doorway(machine: Running) -> None:
    assert await name_of(machine) == b"first"
    assert "welcome" in await machine.says("welcome")
    for _ in range(6):
        with pytest.raises(ConnectionRefusedError):
            await machine.sandbox.connect(8081)


async def test_its_kernel_is_not_the_hosts_and_holds_nothing_of_it(
    ground: Ground, machine: Running
) -> None:
    secret = ground.root / "secret.txt"
    secret.write_text("of the platform")
    paths = [str(secret), str(Path(__file__)), "/etc/shadow", "/sys/kernel", "/dev/vda", "/boot"]
    code = f"""
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
print(json.dumps([
    os.uname().release, [p for p in {paths!r} if os.path.lexists(p)],
    [name for _, name in socket.if_nameindex()], os.getuid(),
    [status[name].strip() for name in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")],
]))
"""
    release, there, interfaces, user, powers = await seen(machine, code)
    assert release != os.uname().release
    assert (there, interfaces, user) == ([], ["lo"], 1000)
    assert powers == ["0" * 16, "0" * 16, "1", "2"]


async def test_what_leads_out_of_a_container_is_refused_in_it_as_well(machine: Running) -> None:
    code = """
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
def refusal(name, *arguments):
    ctypes.set_errno(0)
    return getattr(libc, name)(*arguments) == -1 and errno.errorcode[ctypes.get_errno()]
def denied(function):
    try: function()
    except OSError as error: return errno.errorcode[error.errno]
print(json.dumps([
    refusal("unshare", 0x10000000), refusal("mount", b"x", b"/tmp", b"tmpfs", 0, None),
    refusal("ptrace", 16, 1, None, None), refusal("reboot", 0xfee1dead),
    denied(lambda: open("/usr/x", "w")), denied(lambda: socket.socket(socket.AF_PACKET)),
]))
"""
    *calls, written, packet = await seen(machine, code)
    assert set(calls) == {"EPERM"}
    assert written == "EROFS"
    assert packet


async def test_a_terminal_in_it_has_a_size(machine: Running) -> None:
    spec = CommandSpec(command=("sh", "-c", "stty size; exit 4"), terminal=(31, 99))
    assert await output_of(machine, spec) == ("31 99\r\n", 4)
    with pytest.raises(SandboxFailed, match="nowhere: no such program"):
        await machine.sandbox.execute(CommandSpec(command=("nowhere",)))


async def test_frozen_it_costs_no_processor_and_its_clock_is_right_afterwards(
    machine: Running,
) -> None:
    loop = asyncio.get_running_loop()
    await machine.sandbox.freeze()
    used = machine.sandbox.usage()
    assert used.memory_peak_bytes
    assert used.memory_peak_bytes > 64 << 20
    with await machine.sandbox.connect(8080) as stream:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.sock_recv(stream, 100), 1.2)
        assert machine.sandbox.usage().cpu_seconds == used.cpu_seconds
        with pytest.raises(SandboxFailed, match="frozen"):
            await machine.sandbox.execute(CommandSpec(command=("true",)))
        await machine.sandbox.thaw()
        async with asyncio.timeout(SECONDS_MAX):
            assert await loop.sock_recv(stream, 100) == b"first"
    earlier = time.time()
    inside = await seen(machine, "import time; print(time.time())")
    assert earlier - 0.3 < inside < time.time() + 0.3


async def test_a_new_process_of_the_platform_adopts_it_and_ends_it_without_a_trace(
    ground: Ground, machine: Running
) -> None:
    await ground.replace_driver()
    found = await ground.driver.adopt(machine.spec)
    assert found
    machine.sandbox = found
    assert await name_of(machine) == b"first"
    await found.stop()
    view = HostView.of(ground.root)
    assert not view.processes
    assert not view.groups
    assert not [path for path in view.files if "boxes/" in path or path.endswith(".json")]


async def test_sessions_begin_from_a_machine_that_was_stopped(ground: Ground) -> None:
    driver = ground.driver
    assert isinstance(driver, VmDriver)
    output = ground.root / "prepared.log"
    output.touch()
    template = await driver.prepare(
        TemplateSpec(
            id="prepared",
            command=(PYTHON, "-c", ""),
            directory=str(ground.root / "prepared"),
            output=str(output),
            modules=("ssl", "random"),
            limits=ground.spec().limits,
        )
    )
    assert template.state == "ready", template.reason
    before = HostView.of(ground.root)
    code = "import sys, random, os\nprint('ssl' in sys.modules, random.random(), os.urandom(4))\n"
    specs = [ground.spec(code + SERVER, environment={"NAME": name}) for name in ("a", "b")]
    boxes = [Running(await driver.start(spec, template), spec) for spec in specs]
    assert [getattr(box.sandbox, "ordinary_because", "?") for box in boxes] == [None, None]
    assert [await name_of(box) for box in boxes] == [b"a", b"b"]
    said = [box.output.split() for box in boxes]
    assert {words[0] for words in said} == {"True"}
    assert said[0][1] != said[1][1]
    assert said[0][2] != said[1][2]
    await template.close()
    assert await name_of(boxes[0]) == b"a"
    for box in boxes:
        await box.sandbox.stop()
    assert nothing_is_left(before, ground.root)


async def test_without_hardware_virtualisation_it_is_not_offered(tmp_path: Path) -> None:
    problem = kvm.problem()
    if problem is None:
        pytest.skip("this machine has it")
    driver = VmDriver(directory=tmp_path, cgroup="freehold-test-none")
    probe = await driver.probe()
    await driver.close()
    assert not probe.available
    assert "KVM" in probe.detail or "kvm" in probe.detail
