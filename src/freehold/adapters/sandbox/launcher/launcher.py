"""Runs an agent's entry point as `__main__`: the program that a sandbox's command names.

    python launcher.py [--code DIR] [--layer DIR]... ENTRY [ARGUMENT]...
    python launcher.py [--code DIR] [--layer DIR]... -m MODULE [ARGUMENT]...

Modules come from the code directory, the standard library, and the layers, in this order. What
happens to be installed on the machine is not seen. ENTRY is a file of
the code directory, or a program that a layer has in its bin/. Behind `opentelemetry-instrument` it
runs with the automatic instrumentation that the agent's own layers bring, in this process.

Copied into sandboxes and run by any Python from 3.10 on: standard library only, and little of it,
since every cold start pays for it (pathlib and typing are 12 ms).
"""
# ruff: noqa: PTH100, PTH109, PTH110, PTH112, PTH118, PTH119, PTH120, PTH123

from __future__ import annotations

import os
import runpy
import site
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ARCHIVE = b"PK"

SOCKETS_VARIABLE = "FREEHOLD_AGENT_SOCKETS"
"""`PORT,PORT=DIR`: uvicorn servers for these ports listen on DIR/port-PORT.sock (process tier)."""


CONFINED_VARIABLE = "FREEHOLD_CONFINED"
"""Set: give up, for good, every file that the sandbox's mounts do not show (container tier)."""

INSTRUMENTED = "opentelemetry-instrument"
"""As the first word of an entry point."""

_INTERPRETERS = ("python", "python3")  # as in `opentelemetry-instrument python main.py`

_LANDLOCK_VERSION_MIN, _LANDLOCK_VERSION_OF_TRUNCATE = 2, 3


def main(arguments: list[str]) -> None:
    if os.environ.pop(CONFINED_VARIABLE, ""):
        _confine()
    code, layers, entry = parsed(arguments)
    sys.path[:] = [code, *provided(layers)]
    # For programs that the entry point starts, or becomes (opentelemetry-instrument).
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([code, *layers, *([inherited] if inherited else [])])
    ports, _, folder = os.environ.pop(SOCKETS_VARIABLE, "").partition("=")
    if folder:
        sys.meta_path.insert(0, _UvicornHook({int(port) for port in ports.split(",")}, folder))
    if is_instrumented(entry):
        _instrumentation.start()
    entry = instrumented(entry)
    if entry[0] == "-m":
        sys.argv[:] = entry[1:]
        runpy.run_module(entry[1], run_name="__main__", alter_sys=True)
        return
    program = script(entry[0], code, layers)
    sys.argv[:] = [program, *entry[1:]]
    _run_path(program)


def provided(layers: list[str], known: dict[tuple[str, ...], list[str]] = {}) -> list[str]:  # noqa: B006
    """The path of modules behind the code. A process that is forked off one which has asked for
    the same layers is spared reading them again."""
    if tuple(layers) not in known:
        sys.path[:] = [path for path in sys.path if _is_standard(path)]
        for layer in layers:
            site.addsitedir(layer)
        known[tuple(layers)] = list(sys.path)
    return known[tuple(layers)]


def parsed(arguments: list[str]) -> tuple[str, list[str], list[str]]:
    """The code, the layers, and the entry point with its arguments."""
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


def is_instrumented(entry: list[str]) -> bool:
    return entry[0] == INSTRUMENTED and len(entry) > 1


def instrumented(entry: list[str]) -> list[str]:
    """What runs in the end, with its arguments."""
    if not is_instrumented(entry):
        return entry
    return entry[2:] if entry[1] in _INTERPRETERS and entry[2:] else entry[1:]


def prepare(launched: list[str] | None) -> None:
    """For a process that sessions begin from, before it imports what they import."""
    if launched is not None and is_instrumented(parsed(launched)[2]):
        _instrumentation.prepare()


class _Instrumentation:
    """OpenTelemetry's automatic instrumentation. In a session that begins from a template its two
    halves are apart: instrumentors must come before the modules they change, and until there is an
    SDK their tracers stand in for its tracers; the SDK, with its threads, its connections and all
    that it knows of the session, must come after. Else it starts as it always does.
    """

    def __init__(self) -> None:
        self._prepared = False
        self._set: dict[str, str] = {}

    def prepare(self) -> None:
        if _missing_packages():
            return  # each session says so
        from opentelemetry.instrumentation.auto_instrumentation import (  # type: ignore[import-not-found]
            _load,
        )

        before = dict(_variables())
        _choose_distribution()
        distro = _load._load_distro()
        distro.configure()
        _load._load_instrumentors(distro)
        changed = {n: v for n, v in _variables().items() if before.get(n) != v}
        # The variables that it read are the session's as well, or that does not begin from here:
        # so what it made of them is right there.
        self._set = {os.fsdecode(name): os.fsdecode(value) for name, value in changed.items()}
        _import_exporters()
        self._prepared = True

    def start(self) -> None:
        if missing := _missing_packages():
            sys.stderr.write(
                f"{INSTRUMENTED}: the agent runs without it, since its packages lack "
                f"{' and '.join(missing)}; add them to its requirements\n"
            )
            return
        _exit_when_terminated()
        from opentelemetry.instrumentation.auto_instrumentation import _load, initialize

        if not self._prepared:
            _choose_distribution()
            initialize()
            return
        os.environ.update(self._set)
        try:
            _load._load_configurators()
        # As `initialize` does: an agent runs, traced or not.
        except Exception:  # noqa: BLE001
            sys.excepthook(*sys.exc_info())


_instrumentation = _Instrumentation()


def _missing_packages() -> list[str]:
    """By the names under which they are installed."""
    found = _entry_points()
    missing = []
    if found is None or not found(group="opentelemetry_configurator"):
        missing.append("opentelemetry-distro (or aws-opentelemetry-distro)")
    wanted = os.environ.get("OTEL_TRACES_EXPORTER"), os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if wanted == ("otlp", "http/protobuf") and (
        found is None or not found(group="opentelemetry_traces_exporter", name="otlp_proto_http")
    ):
        missing.append("opentelemetry-exporter-otlp-proto-http")
    return missing


def _entry_points() -> Any:
    """As `importlib.metadata` has them, read once; None without OpenTelemetry's own packages."""
    try:
        from opentelemetry.instrumentation.auto_instrumentation import entry_points
    except ImportError:
        return None
    return entry_points


def _choose_distribution() -> None:
    """AWS's brings OpenTelemetry's own along, and which of two comes first is anybody's guess."""
    for group, variable, name in (
        ("opentelemetry_distro", "OTEL_PYTHON_DISTRO", "aws_distro"),
        ("opentelemetry_configurator", "OTEL_PYTHON_CONFIGURATOR", "aws_configurator"),
    ):
        if variable not in os.environ and _entry_points()(group=group, name=name):
            os.environ[variable] = name


def _import_exporters() -> None:
    """Made later; their modules take most of the time."""
    for kind in ("configurator", "traces_exporter", "metrics_exporter", "logs_exporter"):
        for each in _entry_points()(group=f"opentelemetry_{kind}"):
            if kind == "configurator" or each.name == "otlp_proto_http":
                try:
                    each.load()
                except ImportError:
                    continue


def _variables() -> dict[bytes, bytes]:
    """As they are, without asking: who asks may be watched."""
    data: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]
    return data


def _exit_when_terminated() -> None:
    """As after `sys.exit`: what was recorded last is sent. The exit code stays what it was."""
    import signal

    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def _run_path(path: str) -> None:
    """`runpy` would first try whether it is an archive, at the cost of milliseconds."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except IsADirectoryError:
        content = _ARCHIVE
    if content.startswith(_ARCHIVE):
        runpy.run_path(path, run_name="__main__")
        return
    code = compile(content, path, "exec", dont_inherit=True)
    module = type(sys)("__main__")
    module.__dict__.update(__file__=path, __builtins__=__builtins__, __cached__=None)
    sys.modules["__main__"] = module
    exec(code, module.__dict__)  # noqa: S102 - this is what it is for


def _is_standard(path: str) -> bool:
    own = os.path.dirname(os.path.abspath(__file__))
    return path != own and os.path.basename(path) not in ("site-packages", "dist-packages")


def script(name: str, code: str, layers: list[str]) -> str:
    """A file of the code, or a program that a layer installed."""
    found = os.path.join(code, name)
    if os.path.exists(found):
        return found
    programs = [os.path.join(layer, "bin", name) for layer in layers]
    return next((program for program in programs if os.path.exists(program)), found)


def _confine() -> None:
    """Landlock, by what is mounted now. The first lock is that nothing else is mounted; this one
    holds when a mount came in by mistake, or a descriptor of a foreign folder. Where the kernel
    has none it is left out; where it fails nothing is run."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)

    def call(number: int, *arguments: Any) -> int:
        result = int(libc.syscall(ctypes.c_long(number), *arguments))
        if result < 0:
            sys.exit(f"launcher: no confinement: {os.strerror(ctypes.get_errno())}")
        return result

    none, one = ctypes.c_long(0), ctypes.c_long(1)
    version = int(libc.syscall(ctypes.c_long(444), none, none, one))
    if version < _LANDLOCK_VERSION_MIN:
        return
    handled = (1 << (15 if version >= _LANDLOCK_VERSION_OF_TRUNCATE else 14)) - 1
    devices, of_a_file = 1 << 6 | 1 << 11, 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14
    ruleset = call(444, handled.to_bytes(8, sys.byteorder), ctypes.c_long(8), none)
    for place, writable in _mounts():
        if place == "/":
            access = 1 << 3  # to list it
        elif place.startswith(("/proc", "/dev")) and place != "/dev/shm":  # noqa: S108
            access = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 14
        else:
            access = handled & ~devices if writable else 1 << 0 | 1 << 2 | 1 << 3
        found = os.open(place, os.O_PATH | os.O_CLOEXEC)
        wanted = access & handled & (-1 if os.path.isdir(place) else of_a_file)
        rule = wanted.to_bytes(8, sys.byteorder) + found.to_bytes(4, sys.byteorder)
        call(445, ctypes.c_long(ruleset), one, rule, none)
        os.close(found)
    call(446, ctypes.c_long(ruleset), none)
    os.close(ruleset)


def _mounts() -> list[tuple[str, bool]]:
    """(where, writable) of all that is mounted here."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        fields = [line.split(" ") for line in file]
    plain = [(each[4].replace("\\040", " "), each[5].split(",")) for each in fields]
    return [(place, "rw" in options) for place, options in plain]


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
