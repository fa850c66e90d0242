"""Run as a normal user by test_sandbox_execute: programs beside another, under uvloop."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop
from sandbox_ground import SECONDS_MAX, Ground, ground_of

from freehold.ports.sandbox import Command, CommandSpec, Limits

WAIT = "import time\nprint('up', flush=True)\ntime.sleep(600)"
LOOK = """
import json, os
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines())
print(json.dumps({"uid": os.getuid(), "seccomp": status.get("Seccomp"), "powers": [
    int(status["Cap" + kind], 16) for kind in ("Inh", "Prm", "Eff", "Bnd")]}))
"""


async def said_by(command: Command) -> tuple[bytes, int]:
    said = b""
    while piece := await command.read():
        said += piece.data
    code = await command.wait()
    await command.close()
    return said, code


async def cannot_have_the_executable_that_it_was(
    ground: Ground, run: Callable[..., Awaitable[tuple[bytes, int]]]
) -> None:
    """A script whose interpreter is /proc/self/exe is run by what was there before the program."""
    home = (await run("sh", "-c", "printf %s $HOME"))[0].decode()
    await run("sh", "-c", f"printf '#!/proc/self/exe\\n' > {home}/trap; chmod +x {home}/trap")
    await run(
        "sh", "-c", f"echo 'import os; print(os.readlink(\"/proc/self/exe\"))' >> {home}/trap"
    )
    if ground.tier == "container":
        said, _ = await run(f"{home}/trap")
        # A sealed copy in memory, and no file of the user's.
        assert said.startswith(b"/memfd:"), said


async def exercise(ground: Ground) -> None:
    box = await ground.start(
        WAIT, environment={"KEPT": "yes"}, limits=Limits(memory_bytes_max=300 << 20)
    )
    await box.says("up")

    async def run(*command: str, **options: object) -> tuple[bytes, int]:
        spec = CommandSpec(command=command, **options)  # type: ignore[arg-type]
        return await said_by(await box.sandbox.execute(spec))

    assert await run("sh", "-c", "echo $KEPT; exit 3") == (b"yes\n", 3)
    assert await run("sh", "-c", "stty size", terminal=(9, 99)) == (b"9 99\r\n", 0)
    seen, code = await run("python3", "-c", LOOK)
    assert code == 0, seen
    assert ground.tier == "process" or json.loads(seen)["seccomp"].strip() == "2"
    assert ground.tier == "process" or not any(json.loads(seen)["powers"])
    await cannot_have_the_executable_that_it_was(ground, run)
    await ground.replace_driver()
    found = await ground.driver.adopt(box.spec)
    assert found
    box.sandbox = found
    assert (await run("echo", "adopted"))[0] == b"adopted\n"
    command = await found.execute(CommandSpec(command=("sleep", "600")))
    await found.stop()
    assert await command.wait() == 128 + 9
    await command.close()


async def main(tier: str, root: Path) -> None:
    place = root / "ground"
    place.mkdir()
    async with ground_of(tier, place) as ground:
        await asyncio.wait_for(exercise(ground), SECONDS_MAX)
    print("all well")


uvloop.run(main(sys.argv[1], Path(sys.argv[2])))
