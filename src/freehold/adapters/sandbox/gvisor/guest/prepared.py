"""Imports modules ahead of time, and runs a session when it is told which.

    python -u prepared.py CONFIG      (CONFIG: JSON)

In between a checkpoint of the whole sandbox is taken, from which many sessions begin: here, in the
middle of a read of its input. So nothing of a session exists before, and all of it comes from
there. The session's command runs in a child, since libraries make fresh randomness after a fork;
this process goes on as its pid 1, and relays connections (`relay.py`).

Copied into sandboxes and run by any Python from 3.10 on, beside `launcher.py`, `relay.py` and a
template's `inside.py` and `needs.py`: standard library only.
"""
# ruff: noqa: PTH100, PTH120

from __future__ import annotations

import gc
import importlib
import json
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_OURS = ("inside", "launcher", "needs", "relay")


def main() -> Callable[[], None]:
    """Returns in the session's process alone, with what is to be run."""
    config = json.loads(sys.argv[1])
    told_to = os.dup(1)
    os.dup2(2, 1)  # what modules print belongs with the errors, not into the notes
    own = os.path.dirname(os.path.abspath(__file__))
    standard_path = [path for path in sys.path if path != own]
    inside, launcher, needs, relay = (importlib.import_module(name) for name in _OURS)

    locale = {name: os.environ[name] for name in ("LC_CTYPE",) if name in os.environ}
    notes = _imported(config, standard_path, (inside, launcher, needs))
    for name in _OURS:  # the agent may have modules of these names
        del sys.modules[name]
    sys.path[:] = standard_path
    sys.stdout.flush()
    os.chdir("/")
    gc.collect()
    gc.freeze()  # the collector would touch, and so copy, every page
    os.write(told_to, json.dumps(notes).encode() + b"\n")
    # A checkpoint remembers of what kind its host's files are, and what the session is given is a
    # pipe: written to as the file that the imports' errors go to, it would refuse each line.
    for output in (1, 2):
        os.dup2(told_to, output)
    os.close(told_to)
    told = json.loads(_everything())
    listening = relay.listening(told["ports"])
    payload = os.fork()
    if payload:
        _keep(told["environment"])
        os._exit(relay.serve(told["folder"], listening, payload))
    for each in listening:
        each.close()
    _become_a_session(told)
    about = inside.instructions(told["workdir"], told["command"], told["environment"])
    run: Callable[[], None] = inside._payload(
        about[inside.SIZE_BYTES :], standard_path, locale, launcher
    )
    return run


def _imported(
    config: dict[str, Any], standard_path: list[str], ours: tuple[Any, Any, Any]
) -> dict[str, Any]:
    inside, launcher, needs = ours
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
    found: dict[str, Any] = inside._notes(imports, needs.shadowed(config["launched"], sys.modules))
    return found


def _everything() -> bytes:
    content = b""
    while chunk := os.read(0, 1 << 16):
        content += chunk
    return content


def _keep(environment: dict[str, str]) -> None:
    """As the standard input of pid 1, for commands that a later platform starts: what /proc says
    of its environment is the checkpoint's. Sealed: the session may read it and not change it."""
    import fcntl

    content = b"\0".join(os.fsencode(f"{name}={value}") for name, value in environment.items())
    kept = os.memfd_create("environment", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(kept, "wb", closefd=False) as file:
        file.write(content)
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(kept, fcntl.F_ADD_SEALS, seals)
    os.dup2(kept, 0)
    os.close(kept)


def _become_a_session(told: dict[str, Any]) -> None:
    import resource

    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    for name, value in told["limits"].items():
        resource.setrlimit(getattr(resource, name), (value, value))


if __name__ == "__main__":
    main()()
