"""The first process of a cell that sessions begin from: imports ahead of time, then is told which.

    python -u prepared.py CONFIG      (CONFIG: JSON; `cell.CONTROL` leads to the machine's agent)

In between a snapshot of the whole machine is taken: here, in the middle of a read. So nothing of a
session exists before, and all of it comes from there. Its command runs in a child, since libraries
make fresh randomness after a fork (OpenSSL looks at the process's number).

Run by any Python from 3.10 on, beside `launcher.py` and a template's `inside.py` and `needs.py`.
"""
# ruff: noqa: PTH100, PTH120

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import signal
import socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_CONTROL = 3  # cell.CONTROL
_OURS = ("inside", "launcher", "needs")


def main() -> Callable[[], None]:
    """Returns in the session's process alone, with what is to be run."""
    config = json.loads(sys.argv[1])
    agent = socket.socket(fileno=_CONTROL)
    own = os.path.dirname(os.path.abspath(__file__))
    standard_path = [path for path in sys.path if path != own]
    inside, launcher, needs = (importlib.import_module(name) for name in _OURS)
    locale = {name: os.environ[name] for name in ("LC_CTYPE",) if name in os.environ}
    notes = _imported(config, standard_path, inside, launcher, needs)
    for name in _OURS:  # the agent may have modules of these names
        del sys.modules[name]
    sys.path[:] = standard_path
    sys.stdout.flush()
    os.chdir("/")
    gc.collect()
    gc.freeze()  # the collector would touch, and so copy, every page
    agent.sendall(b"ready" + json.dumps(notes).encode() + b"\n")
    told = json.loads(b"".join(iter(lambda: agent.recv(1 << 16), b"")))
    agent.close()
    pid = os.fork()
    if pid:
        os._exit(_end_of(pid))
    os.setsid()
    files = told["open_files_max"]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    about = inside.instructions(told["workdir"], told["command"], told["environment"])
    run: Callable[[], None] = inside._payload(
        about[inside.SIZE_BYTES :], standard_path, locale, launcher
    )
    return run


def _imported(
    config: dict[str, Any], standard_path: list[str], inside: Any, launcher: Any, needs: Any
) -> dict[str, Any]:
    imports = inside._Imports()
    sys.path[:] = standard_path
    if config["launched"] is not None:
        sys.path[:] = launcher.provided(launcher.parsed(config["launched"])[1])
    os.environ.__class__ = inside._Watched
    imports.during(launcher.INSTRUMENTED, lambda: launcher.prepare(config["launched"]))
    for wanted in config["modules"] or needs.of_entry(config["launched"]):
        imports(*wanted)
    for companion in needs.companions(sys.modules):
        imports(companion)
    os.environ.__class__ = os._Environ
    if ssl := sys.modules.get("ssl"):
        ssl.RAND_add(ssl.RAND_bytes(1), 0.0)  # its generator is made when it is first asked
    found: dict[str, Any] = inside._notes(imports, needs.shadowed(config["launched"], sys.modules))
    return found


def _end_of(command: int) -> int:
    """Passes signals on and waits for orphans; its exit code as a shell has it."""
    signal.signal(signal.SIGTERM, lambda number, _: os.kill(command, number))
    while True:
        pid, status = os.wait()
        if pid == command:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


if __name__ == "__main__":
    main()()
