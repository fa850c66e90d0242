"""What the gVisor tier has beside the contract: its own kernel, its users, its limits."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sandbox_ground import SECONDS_MAX, Ground, Running, ground_of

from freehold.adapters.sandbox.gvisor import runsc
from freehold.ports.sandbox import Limits

WAIT = "import time\nprint('up')\ntime.sleep(600)"


@pytest.fixture(scope="module")
async def ground() -> AsyncIterator[Ground]:
    root = Path(tempfile.mkdtemp(prefix="freehold-gvisor-"))
    async with ground_of("gvisor", root) as made:
        probe = await made.driver.probe()
        if not probe.available:
            pytest.skip(probe.detail)
        yield made


def host_processes(running: Running) -> list[int]:
    group = getattr(running.sandbox, "group", None)
    assert group is not None
    found: list[int] = group.processes()
    return found


async def test_the_probe_says_which_gvisor_and_how_it_runs(ground: Ground) -> None:
    probe = await ground.driver.probe()
    program = runsc.installed()
    assert program
    assert f"gVisor {runsc.version(program)}, systrap" in probe.detail


async def test_the_kernel_inside_is_not_the_hosts(ground: Ground) -> None:
    _, output = await ground.run("import os; print(os.uname().release)")
    assert output.strip() != os.uname().release


@pytest.mark.skipif(os.geteuid() != 0, reason="as a normal user all run as that user")
async def test_nothing_of_it_runs_as_a_user_of_the_host(ground: Ground) -> None:
    running = await ground.start(WAIT)
    await running.says("up")
    processes = host_processes(running)
    assert len(processes) >= 3  # runsc, what serves its files, the kernel
    users = {Path(f"/proc/{pid}").stat().st_uid for pid in processes}
    assert min(users) >= 1_979_000_000
    # None of the kernel's capabilities counts on the host: each is in a user namespace of its own.
    ours = Path("/proc/self/ns/user").stat().st_ino
    assert all(Path(f"/proc/{pid}/ns/user").stat().st_ino != ours for pid in processes)
    await running.sandbox.stop()


async def test_the_peak_of_memory_has_the_kernel_inside_in_it(ground: Ground) -> None:
    running = await ground.start(WAIT)
    await running.says("up")
    peak = running.sandbox.usage().memory_peak_bytes
    if peak is None:
        pytest.skip("no control group here")
    assert 15 << 20 < peak < 200 << 20
    await running.sandbox.stop()


async def test_processes_inside_are_counted_without_those_of_gvisor(ground: Ground) -> None:
    """A limit of a few holds exactly, though gVisor has dozens of tasks on the host."""
    code = """
import os, time
count = 1
try:
    while True:
        if os.fork() == 0: time.sleep(600)
        count += 1
except OSError: print(count, flush=True); os._exit(0)
"""
    end, output = await ground.run(code, limits=Limits(processes_max=5))
    assert (end.code, output.strip()) == (0, "5")


async def test_a_kernel_that_dies_ends_the_sandbox(ground: Ground) -> None:
    running = await ground.start(WAIT)
    await running.says("up")
    kernel = next(
        pid
        for pid in host_processes(running)
        if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"runsc-sandbox")
    )
    os.kill(kernel, 9)
    end = await running.end()
    assert end.code != 0
    assert "stopped by the platform" not in end.reason
    await running.sandbox.stop()


async def test_the_output_file_can_be_opened_by_its_name_inside(ground: Ground) -> None:
    _, output = await ground.run("open('/dev/stderr', 'w').write('by name')")
    assert output == "by name"


async def test_a_long_id_is_still_one_that_can_be_told_to_end(ground: Ground) -> None:
    code = "import signal, sys\nsignal.signal(15, lambda *_: sys.exit(print('bye')))\n"
    running = await ground.start(code + WAIT, id="x" * 128)
    await running.says("up")
    async with asyncio.timeout(SECONDS_MAX):
        await running.sandbox.stop(grace_seconds=SECONDS_MAX)
    assert "bye" in running.output


async def test_an_old_runsc_is_told_from_a_usable_one(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = ground.root / "bin" / "runsc"
    fake.parent.mkdir(mode=0o755)
    fake.write_text("#!/bin/sh\necho '-platform string ptrace (default), kvm'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    probe = await ground.driver.probe()
    assert not probe.available
    assert "too old" in probe.detail
    assert "install-gvisor.sh" in probe.detail
