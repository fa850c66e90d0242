"""Runs an agent's entry point as `__main__`: the program that a sandbox's command names.

    python launcher.py [--code DIR] [--layer DIR]... ENTRY [ARGUMENT]...
    python launcher.py [--code DIR] [--layer DIR]... -m MODULE [ARGUMENT]...

Modules come from the code directory, the standard library, and the layers, in this order. What
happens to be installed on the machine is not seen. ENTRY is a file of
the code directory, or a program that a layer has in its bin/.

Copied into sandboxes and run by any Python from 3.10 on: standard library only, and little of it,
since every cold start pays for it (pathlib and typing are 12 ms).
"""
# ruff: noqa: PTH100, PTH109, PTH110, PTH118, PTH119, PTH120

from __future__ import annotations

import os
import runpy
import site
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SOCKETS_VARIABLE = "FREEHOLD_AGENT_SOCKETS"
"""`PORT,PORT=DIR`: uvicorn servers for these ports listen on DIR/port-PORT.sock (process tier)."""


def main(arguments: list[str]) -> None:
    code, layers, entry = _parsed(arguments)
    sys.path[:] = [code, *(path for path in sys.path if _is_standard(path))]
    for layer in layers:
        site.addsitedir(layer)
    # For programs that the entry point starts, or becomes (opentelemetry-instrument).
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([code, *layers, *([inherited] if inherited else [])])
    ports, _, folder = os.environ.pop(SOCKETS_VARIABLE, "").partition("=")
    if folder:
        sys.meta_path.insert(0, _UvicornHook({int(port) for port in ports.split(",")}, folder))
    if entry[0] == "-m":
        sys.argv[:] = entry[1:]
        runpy.run_module(entry[1], run_name="__main__", alter_sys=True)
        return
    script = _script(entry[0], code, layers)
    sys.argv[:] = [script, *entry[1:]]
    runpy.run_path(script, run_name="__main__")


def _parsed(arguments: list[str]) -> tuple[str, list[str], list[str]]:
    rest, code, layers = list(arguments), os.getcwd(), []
    while len(rest) >= 2 and rest[0] in ("--code", "--layer"):
        option, value = rest.pop(0), os.path.abspath(rest.pop(0))
        if option == "--code":
            code = value
        else:
            layers.append(value)
    if not rest or rest == ["-m"]:
        sys.exit("launcher: no entry point was given")
    return code, layers, rest


def _is_standard(path: str) -> bool:
    own = os.path.dirname(os.path.abspath(__file__))
    return path != own and os.path.basename(path) not in ("site-packages", "dist-packages")


def _script(name: str, code: str, layers: list[str]) -> str:
    """A file of the code, or a program that a layer installed."""
    found = os.path.join(code, name)
    if os.path.exists(found):
        return found
    programs = [os.path.join(layer, "bin", name) for layer in layers]
    return next((program for program in programs if os.path.exists(program)), found)


class _UvicornHook:
    """Waits for `uvicorn.config` to be imported, and has its Config prefer our socket."""

    def __init__(self, ports: set[int], folder: str) -> None:
        self.ports = ports
        self.folder = folder

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        if name != "uvicorn.config":
            return None
        sys.meta_path.remove(self)
        import importlib.util

        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            self._prefer_socket(module.Config)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec

    def _prefer_socket(self, config: Any) -> None:
        original, hook = config.__init__, self

        def __init__(self: Any, *args: Any, **options: Any) -> None:
            original(self, *args, **options)
            if self.port in hook.ports and self.uds is None and self.fd is None:
                self.uds = _short(os.path.join(hook.folder, f"port-{self.port}.sock"))

        config.__init__ = __init__


def _short(path: str) -> str:
    """A unix socket's path has at most 107 bytes; through a descriptor of its folder it has."""
    if len(os.fsencode(path)) <= 100:
        return path
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    return f"/proc/self/fd/{folder}/{os.path.basename(path)}"


if __name__ == "__main__":
    main(sys.argv[1:])
