"""The process that sessions are forked off: the program of a template's sandbox.

    python inside.py CONFIG FEED      (CONFIG: JSON; FEED: a descriptor, to the forker)

It imports what the agent's dependency layers have and its code will ask for, says so, and calls
fork(). There it is stopped for good (`forker.py`), and each session begins as a copy: first as pid
1 of its own pid namespace, which forks the payload, reaps, and tells how the payload ended.

Copied into sandboxes and run by any Python from 3.10 on, with `launcher.py` and `needs.py` beside
it: standard library only. Everything here runs with the privileges of the agent, which are none.
"""
# ruff: noqa: PTH100, PTH101, PTH102, PTH109, PTH118, PTH120, PTH123

from __future__ import annotations

import gc
import json
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

SESSION_SOCKET = 3
HEADER_BYTES = 24  # the mark's 16 hexadecimal digits, and the length of what follows in 8
MARK_VARIABLE = "FREEHOLD_SANDBOX"

_READS_MAX = 500
_NAMES_MAX = 20
_DESCRIPTORS_MAX = 256


class _Watched(os._Environ):  # type: ignore[type-arg]
    """Remembers what was asked of it. A session whose answers would be others is not forked."""

    reads: set[str] = set()

    def __getitem__(self, key: str) -> str:
        self.reads.add(str(key))
        return super().__getitem__(key)  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[str]:
        self.reads.add("*")
        return super().__iter__()


class _Imports:
    """Imports modules one by one, and knows which one started what."""

    def __init__(self) -> None:
        self.threads: list[str] = []
        self.descriptors: list[str] = []
        self.failed: dict[str, str] = {}
        self._before = _threads(), _descriptors()

    def __call__(self, name: str, *members: str) -> None:
        try:
            __import__(name, fromlist=members)
        except BaseException as error:  # the agent's own import of it fails too, or is guarded
            self.failed[name] = f"{type(error).__name__}: {error}"[:200]
        threads, descriptors = _threads(), _descriptors()
        if threads > self._before[0]:
            self.threads.append(name)
        if descriptors - self._before[1]:
            self.descriptors.append(name)
        self._before = threads, descriptors


def main() -> Callable[[], None]:
    """Returns in the payload's process alone, with what is to be run."""
    config, feed = json.loads(sys.argv[1]), int(sys.argv[2])
    os.closerange(3, feed)  # bubblewrap leaves one of its own
    os.closerange(feed + 1, _DESCRIPTORS_MAX)
    own = os.path.dirname(os.path.abspath(__file__))
    standard_path = [path for path in sys.path if path != own]
    import launcher
    import needs

    locale = {name: os.environ[name] for name in ("LC_CTYPE",) if name in os.environ}
    imports = _Imports()
    sys.path[:] = standard_path
    if config["launched"] is not None:
        sys.path[:] = launcher.provided(launcher.parsed(config["launched"])[1])
    os.environ.__class__ = _Watched
    for wanted in config["modules"] or needs.of_entry(config["launched"]):
        imports(*wanted)
    for companion in needs.companions(sys.modules):
        imports(companion)
    os.environ.__class__ = os._Environ
    for ours in ("launcher", "needs"):  # the agent may have modules of these names
        del sys.modules[ours]
    notes = _notes(imports, needs.shadowed(config["launched"], sys.modules))
    sys.path[:] = standard_path
    if not _forked(feed, notes):
        os._exit(1)  # the original never gets here: it is stopped at the fork
    told = _first_process()
    return _payload(told, standard_path, locale, launcher)


def _notes(imports: _Imports, shadowed: list[str]) -> dict[str, Any]:
    reads = sorted(_Watched.reads)
    return {
        "threads": imports.threads[:_NAMES_MAX],
        "descriptors": imports.descriptors[:_NAMES_MAX],
        "failed": dict(list(imports.failed.items())[:_NAMES_MAX]),
        "shadowed": shadowed[:_NAMES_MAX],
        "reads": reads if len(reads) <= _READS_MAX else ["*"],
        "modules": len(sys.modules),
    }


def _forked(feed: int, notes: dict[str, Any]) -> bool:
    import socket

    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.chdir("/")
    gc.collect()
    gc.freeze()  # the collector would touch, and so copy, every page
    with socket.socket(fileno=os.dup(feed)) as forker:
        forker.send(json.dumps(notes).encode())
        forker.recv(16)
    del socket
    return os.fork() == 0


def _first_process() -> dict[str, Any]:
    """Pid 1 of the session. Returns in the payload's process."""
    header = _read(HEADER_BYTES)
    payload = os.fork()
    if payload == 0:
        told: dict[str, Any] = json.loads(_read(int(header[16:])))
        os.close(SESSION_SOCKET)
        os.setsid()
        return told
    _rewrite("env_start", f"{MARK_VARIABLE}=".encode() + header[:16])
    _rewrite("arg_start", b"freehold-session\0", fill=True)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == payload:
            code = os.waitstatus_to_exitcode(status)
            try:
                os.write(SESSION_SOCKET, bytes([code if code >= 0 else 128 - code]))
            except OSError:
                pass  # the platform has gone; the end itself is seen by the next one
            os._exit(0)


def _read(size: int) -> bytes:
    content = b""
    while len(content) < size:
        chunk = os.read(SESSION_SOCKET, size - len(content))
        if not chunk:
            os._exit(1)  # the platform has gone before it said what to run
        content += chunk
    return content


def _payload(
    told: dict[str, Any], standard_path: list[str], locale: dict[str, str], launcher: Any
) -> Callable[[], None]:
    environment: dict[str, str] = told["environment"]
    os.environ.clear()
    os.environ.update({**locale, **environment})
    command: list[str] = told["command"]
    _rewrite("arg_start", b"\0".join(os.fsencode(word) for word in command) + b"\0", fill=True)
    os.chdir(told["workdir"])
    _fresh_randomness()
    unbuffered = bool(environment.get("PYTHONUNBUFFERED"))
    rest = command[1:]
    if rest[:1] == ["-u"]:
        unbuffered, rest = True, rest[1:]
    if not rest or (rest[0][0] == "-" and rest[0] not in ("-c", "-m")):
        return lambda: _become(command)  # options of the interpreter's own
    sys.dont_write_bytecode = bool(environment.get("PYTHONDONTWRITEBYTECODE"))
    if not unbuffered:
        sys.stdout = sys.__stdout__ = open(
            1, "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors, closefd=False
        )
    sys.orig_argv[:] = command
    return _program(rest, standard_path, launcher)


def _program(arguments: list[str], standard_path: list[str], launcher: Any) -> Callable[[], None]:
    """As `python ARGUMENTS` would go on."""
    if arguments[0] == launcher.__file__:
        return lambda: launcher.main(arguments[1:])
    import runpy

    name = arguments[0]
    if name == "-c":
        sys.argv[:] = ["-c", *arguments[2:]]
        sys.path[:] = ["", *standard_path]
        return lambda: _run_text(arguments[1])
    if name == "-m":
        sys.argv[:] = arguments[1:]
        sys.path[:] = [os.getcwd(), *standard_path]
        return lambda: runpy.run_module(arguments[1], run_name="__main__", alter_sys=True) and None
    sys.argv[:] = arguments
    sys.path[:] = [os.path.dirname(os.path.abspath(name)), *standard_path]
    return lambda: runpy.run_path(name, run_name="__main__") and None


def _run_text(text: str) -> None:
    module = type(sys)("__main__")
    module.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = module
    exec(compile(text, "<string>", "exec"), module.__dict__)  # noqa: S102 - this is `python -c`


def _become(command: list[str]) -> None:
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


def _fresh_randomness() -> None:
    """What Python's own fork hooks do not renew. OpenSSL's generators, of which there may be
    several, know a fork by the pid: no session's is the template's."""
    loaded = sys.modules
    if ssl := loaded.get("ssl"):
        ssl.RAND_add(os.urandom(64), 64.0)
    if "numpy.random" in loaded:
        loaded["numpy.random"].seed()
    if torch := loaded.get("torch"):
        torch.seed()
    if uuid := loaded.get("uuid"):
        uuid._node = uuid._last_timestamp = None
    if tempfile := loaded.get("tempfile"):
        tempfile._name_sequence = tempfile.tempdir = None
    if processes := loaded.get("multiprocessing.process"):
        processes.current_process().authkey = os.urandom(32)
    if random := loaded.get("random"):
        random.seed()


def _rewrite(field: str, content: bytes, fill: bool = False) -> None:
    """What other processes read of this one: its command line, or its first variable."""
    places = {"arg_start": (47, 48), "env_start": (49, 50)}[field]
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        start, end = (int(fields[place - 2]) for place in places)
        size = end - start
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            os.pwrite(memory.fileno(), content[:size].ljust(size if fill else 0, b"\0"), start)
    except OSError:
        pass  # for people, and for a sweep after a crash of the platform


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def _descriptors() -> frozenset[str]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            pass  # the one that lists
    return frozenset(found)


if __name__ == "__main__":
    main()()
