"""The process that sessions are forked off: the program of a template's sandbox.

    python inside.py CONFIG FEED      (CONFIG: JSON; FEED: a descriptor, to the forker)

It imports what the agent's dependency layers have and its code will ask for, says so, and calls
fork(). There it is stopped for good (`forker.py`). In a session fork() returns twice: in pid 1 of
the session's pid namespace, but only when a child of it has ended, and in the payload.

Copied into sandboxes and run by any Python from 3.10 on, with `launcher.py`, `needs.py` and
`sharing.py` beside it: standard library only. All of this has the agent's powers, which are none.
"""
# ruff: noqa: PTH100, PTH109, PTH115, PTH120, PTH208

from __future__ import annotations

import contextlib
import json
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, ClassVar

SESSION_SOCKET = 3
SIZE_BYTES = 8  # that of what follows it
_PAYLOAD_PID = 2
_NOT_AN_ADDRESS = 1 << 40  # the multicast bit, as RFC 9562 wants it in a random node

_READS_MAX = 500
_NAMES_MAX = 20
_DESCRIPTORS_MAX = 256


class _Watched(os._Environ):  # type: ignore[type-arg]
    """Remembers what was asked of it. A session whose answers would be others is not forked."""

    reads: ClassVar[set[str]] = set()

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
        self.during(name, lambda: __import__(name, fromlist=members))

    def during(self, name: str, step: Callable[[], object]) -> None:
        try:
            step()
        # A boundary: strangers' code. The agent's own import of it fails as well, or is guarded.
        except BaseException as error:  # noqa: BLE001
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
    import launcher  # type: ignore[import-not-found]
    import needs  # type: ignore[import-not-found]
    import sharing  # type: ignore[import-not-found]

    locale = {name: os.environ[name] for name in ("LC_CTYPE",) if name in os.environ}
    imports = _Imports()
    sys.path[:] = standard_path
    if config["launched"] is not None:
        sys.path[:] = launcher.provided(launcher.parsed(config["launched"])[1])
    os.environ.__class__ = _Watched
    imports.during(launcher.INSTRUMENTED, lambda: launcher.prepare(config["launched"]))
    for wanted in config["modules"] or needs.of_entry(config["launched"]):
        imports(*wanted)
    for companion in needs.companions(sys.modules):
        imports(companion)
    os.environ.__class__ = os._Environ
    if ssl := sys.modules.get("ssl"):
        # Its generator is made when it is first asked, which takes milliseconds and megabytes.
        ssl.RAND_add(ssl.RAND_bytes(1), 0.0)
    for ours in ("launcher", "needs", "sharing"):  # the agent may have modules of these names
        del sys.modules[ours]
    notes = _notes(imports, needs.shadowed(config["launched"], sys.modules))
    sys.path[:] = standard_path
    if not _forked(feed, notes, sharing.share):
        os._exit(1)  # the original never gets here: it is stopped at the fork
    if os.getpid() == 1:
        _reap()
    told = _read(int.from_bytes(_read(SIZE_BYTES), "big"))
    os.close(SESSION_SOCKET)
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


def _forked(feed: int, notes: dict[str, Any], share: Callable[[], None]) -> bool:
    import socket

    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.chdir("/")
    share()
    with socket.socket(fileno=os.dup(feed)) as forker:
        forker.send(json.dumps(notes).encode())
        forker.recv(16)
    del socket
    try:
        return os.fork() == 0
    except OSError:  # of pid 1: the system call that it waited in was interrupted
        return os.getpid() == 1


def _reap() -> None:
    """Pid 1 of the session, which has waited in the kernel until now that a child of it ended."""
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == _PAYLOAD_PID:
            code = os.waitstatus_to_exitcode(status)
            with contextlib.suppress(OSError):  # the platform has gone; the next sees the end
                os.write(SESSION_SOCKET, bytes([code if code >= 0 else 128 - code]))
            os._exit(0)


def instructions(workdir: str, command: tuple[str, ...], environment: dict[str, str]) -> bytes:
    """What a session is told on its socket. Not JSON: what a session does first, and touches in
    memory that it shared until then, each one pays for."""
    variables = [part for pair in environment.items() for part in pair]
    content = os.fsencode("\0".join([workdir, str(len(command)), *command, *variables]))
    return len(content).to_bytes(SIZE_BYTES, "big") + content


def _read(size: int) -> bytes:
    content = b""
    while len(content) < size:
        chunk = os.read(SESSION_SOCKET, size - len(content))
        if not chunk:
            os._exit(1)  # the platform has gone before it said what to run
        content += chunk
    return content


def _payload(
    told: bytes, standard_path: list[str], locale: dict[str, str], launcher: Any
) -> Callable[[], None]:
    """`told`: see `instructions`."""
    workdir, words, *rest = os.fsdecode(told).split("\0")
    command, variables = rest[: int(words)], rest[int(words) :]
    environment = dict(zip(variables[::2], variables[1::2], strict=True))
    os.environ.clear()
    os.environ.update({**locale, **environment})
    os.chdir(workdir)
    _fresh_randomness()
    unbuffered = bool(environment.get("PYTHONUNBUFFERED"))
    rest = command[1:]
    if rest[:1] == ["-u"]:
        unbuffered, rest = True, rest[1:]
    if not rest or (rest[0][0] == "-" and rest[0] not in ("-c", "-m")):
        return lambda: _become(command)  # options of the interpreter's own
    sys.dont_write_bytecode = bool(environment.get("PYTHONDONTWRITEBYTECODE"))
    if not unbuffered:
        given = sys.stdout
        sys.stdout = open(1, "w", encoding=given.encoding, errors=given.errors, closefd=False)  # noqa: SIM115
        sys.__stdout__ = sys.stdout  # type: ignore[misc]
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
        return lambda: _run(runpy.run_module, arguments[1], alter_sys=True)
    sys.argv[:] = arguments
    sys.path[:] = [os.path.dirname(os.path.abspath(name)), *standard_path]
    return lambda: _run(runpy.run_path, name)


def _run(run: Callable[..., object], what: str, **options: bool) -> None:
    run(what, run_name="__main__", **options)


def _run_text(text: str) -> None:
    module = type(sys)("__main__")
    module.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = module
    exec(compile(text, "<string>", "exec"), module.__dict__)  # noqa: S102 - this is `python -c`


def _become(command: list[str]) -> None:
    try:
        os.execvp(command[0], command)  # noqa: S606
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


def _fresh_randomness() -> None:
    """What Python's own fork hooks do not renew. OpenSSL's generators, of which there may be
    several, know a fork by the pid: no session's is the template's."""
    loaded: Any = sys.modules
    if ssl := loaded.get("ssl"):
        ssl.RAND_add(os.urandom(64), 64.0)
    if "numpy.random" in loaded:
        loaded["numpy.random"].seed()
    if torch := loaded.get("torch"):
        torch.seed()
    if uuid := loaded.get("uuid"):
        # libuuid would go on with the template's node and clock sequence.
        uuid._generate_time_safe = uuid._last_timestamp = None
        uuid._node = int.from_bytes(os.urandom(6), "big") | _NOT_AN_ADDRESS
    if tempfile := loaded.get("tempfile"):
        tempfile._name_sequence = tempfile.tempdir = None
    if processes := loaded.get("multiprocessing.process"):
        processes.current_process().authkey = os.urandom(32)
    if random := loaded.get("random"):
        random.seed()


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def _descriptors() -> frozenset[str]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one that lists
            found.add(os.readlink(f"/proc/self/fd/{name}"))
    return frozenset(found)


if __name__ == "__main__":
    main()()
