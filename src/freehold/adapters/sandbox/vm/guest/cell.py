"""Where the command lives in the machine: file system, control group, namespaces, user.

The kernel is the command's own, and so a wall already. Inside it sees what it would see in the
container tier: one image of the world for agents, and a second wall before the agent of ours.
"""
# ruff: noqa: PTH101, PTH102, PTH103, PTH120, PTH123, PTH207, PTH211, S103, S108

from __future__ import annotations

import base64
import contextlib
import errno
import glob
import json
import os
import resource
import signal
import socket
import stat
import sys

from freehold.adapters.sandbox.vm.guest import kernel_calls as k

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

UID = 1000
ROOT = "/run/cell"
CONTROL = 3
"""The descriptor on which the cell's first process says that it is ready, and is told to go."""
_IMAGES, _GROUP = "/run/images", "/run/group"
_CPU_PERIOD_US = 100_000
_OPEN_FILES_MAX = 1 << 20  # the command lowers it for itself
_DEVICES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9),
            ("tty", 5, 0))  # fmt: skip
_LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1",
          "stderr": "/proc/self/fd/2", "core": "/proc/kcore", "ptmx": "pts/ptmx"}  # fmt: skip
_READ_ONLY = k.MS_RDONLY | k.MS_NOSUID | k.MS_NODEV
_SYSCTL = {
    "kernel/kptr_restrict": "2",
    "kernel/dmesg_restrict": "1",
    "kernel/unprivileged_bpf_disabled": "1",
    "user/max_user_namespaces": "0",
    "vm/overcommit_memory": "1",  # the group limits; a fork of something big must not fail
}


class Cell:
    """Its first process waits for the environment, then becomes (or starts) the command."""

    def __init__(self, pid: int, output: int, control: socket.socket, filter_: bytes) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self.output = output
        self.control = control
        self.filter = filter_
        self.about: dict[str, Any] = {}
        """What `go` was told, for programs that come later."""

    def go(self, told: dict[str, Any]) -> None:
        """`told`: command, environment, workdir, limits. Raises OSError."""
        _limit(told["limits"])
        self.about = {name: told[name] for name in ("command", "environment", "workdir")}
        self.about["open_files_max"] = told["limits"]["open_files_max"]
        self.control.sendall(json.dumps(self.about).encode())
        self.control.shutdown(socket.SHUT_WR)

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def reap(self) -> int:
        """The command's exit code as a shell gives it."""
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        return code if code >= 0 else 128 - code


def memory_kills() -> int:
    with open(f"{_GROUP}/cell/memory.events") as file:
        return int(dict(line.split() for line in file)["oom_kill"])


def made(job: dict[str, Any]) -> Cell:
    """Raises OSError. The command does not run yet."""
    for name, value in _SYSCTL.items():
        with contextlib.suppress(FileNotFoundError), open(f"/proc/sys/{name}", "w") as file:
            file.write(value)
    _make_group()
    _make_root(job)
    output, output_end = os.pipe()
    control, control_end = socket.socketpair()
    filter_ = base64.b64decode(job["filter"])
    pid = forked(
        lambda: k.unshare(k.CLONE_NEWPID),
        lambda: _become_cell(job, filter_, output_end, control_end),
    )
    os.close(output_end)
    control_end.close()
    return Cell(pid, output, control, filter_)


def forked(enter: Callable[[], None], become: Callable[[], None]) -> int:
    """`become` is a process of the namespace that `enter` leads to; its number here.

    By way of a child that ends, and leaves its own child to us: whoever has entered a namespace
    for its children can have no more of them when that one's first process has ended.
    """
    told, teller = os.pipe()
    between = os.fork()
    if between == 0:
        try:
            enter()
            pid = os.fork()
            if pid == 0:
                become()
            os.write(teller, str(pid).encode())
        finally:
            os._exit(0)
    os.close(teller)
    os.waitpid(between, 0)
    answer = os.read(told, 32)
    os.close(told)
    if not answer:
        raise OSError(errno.EAGAIN, "no process for the command could be made")
    return int(answer)


def _make_group() -> None:
    os.mkdir(_GROUP)
    k.mount("cgroup", _GROUP, "cgroup2", k.MS_NOSUID | k.MS_NODEV | k.MS_NOEXEC)
    _write(f"{_GROUP}/cgroup.subtree_control", "+memory +pids +cpu")
    os.mkdir(f"{_GROUP}/cell")
    _write(f"{_GROUP}/cell/memory.oom.group", 1)


def _limit(limits: dict[str, Any]) -> None:
    _write(f"{_GROUP}/cell/memory.max", limits["memory_bytes_max"])
    _write(f"{_GROUP}/cell/pids.max", limits["processes_max"])
    quota = int(limits["cpus_max"] * _CPU_PERIOD_US)
    _write(f"{_GROUP}/cell/cpu.max", f"{quota} {_CPU_PERIOD_US}")
    for place in ("tmp", "home/agent", "dev/shm"):
        options = f"size={limits['scratch_bytes_max']}"
        k.mount("", f"{ROOT}/{place}", "", k.MS_REMOUNT | k.MS_NOSUID | k.MS_NODEV, options)


def _write(path: str, value: object) -> None:
    with open(path, "w") as file:
        file.write(str(value))


def _make_root(job: dict[str, Any]) -> None:
    scratch = job["limits"]["scratch_bytes_max"]
    os.makedirs(ROOT)
    mode, flags = f"size={scratch},mode=", k.MS_NOSUID | k.MS_NODEV
    if job["root"]:
        _mount_writable(job["root"], f"{_IMAGES}/root", ROOT, scratch)
        k.mount("run", f"{ROOT}/run", "tmpfs", flags, "size=16m,mode=1777")
    else:
        _make_system(job)
    _make_devices(scratch)
    k.mount("tmp", f"{ROOT}/tmp", "tmpfs", flags, f"{mode}1777")
    k.mount("home", f"{ROOT}/home/agent", "tmpfs", flags, f"{mode}0700,uid={UID},gid={UID}")
    images = sorted(enumerate(job["images"]), key=lambda each: each[1]["target"].count("/"))
    for number, image in images:
        _mount_image(number, image, scratch)


def _make_system(job: dict[str, Any]) -> None:
    """The host's files, on its disks, and ours."""
    k.mount("root", ROOT, "tmpfs", k.MS_NOSUID | k.MS_NODEV, "mode=755,size=16m")
    for name, target in job["links"].items():
        os.symlink(target, f"{ROOT}/{name}")
    for path in job["bound"]:
        os.makedirs(ROOT + path, exist_ok=True)
        k.mount(path, ROOT + path, "", k.MS_BIND)
    for folder in ("dev", "etc", "home/agent", "opt", "proc", "run", "tmp", "var"):
        os.makedirs(f"{ROOT}/{folder}", exist_ok=True)
    os.symlink("/tmp", f"{ROOT}/var/tmp")
    for path, text in job["files"].items():
        os.makedirs(os.path.dirname(ROOT + path), exist_ok=True)
        _write(ROOT + path, text)


def _make_devices(scratch: int) -> None:
    place = f"{ROOT}/dev"
    k.mount("dev", place, "tmpfs", k.MS_NOSUID | k.MS_NOEXEC, "mode=755,size=64k")
    for name, major, minor in _DEVICES:
        os.mknod(f"{place}/{name}", stat.S_IFCHR | 0o666, os.makedev(major, minor))
        os.chmod(f"{place}/{name}", 0o666)
    for name, target in _LINKS.items():
        os.symlink(target, f"{place}/{name}")
    for name in ("pts", "shm"):
        os.mkdir(f"{place}/{name}")
    flags = k.MS_NOSUID | k.MS_NOEXEC
    k.mount("pts", f"{place}/pts", "devpts", flags, "newinstance,ptmxmode=0666,mode=620")
    options = f"size={scratch},mode=1777"
    k.mount("shm", f"{place}/shm", "tmpfs", k.MS_NOSUID | k.MS_NODEV, options)
    k.mount("", place, "", k.MS_REMOUNT | k.MS_BIND | k.MS_RDONLY | k.MS_NOSUID | k.MS_NOEXEC)


def _mount_image(number: int, image: dict[str, Any], scratch: int) -> None:
    place, target = f"{_IMAGES}/{number}", ROOT + image["target"]
    if image["writable"] and not image["file"]:
        os.makedirs(target, exist_ok=True)
        _mount_writable(image["serial"], place, target, scratch)
        return
    os.makedirs(place)
    k.mount(device(image["serial"]), place, "erofs", _READ_ONLY)
    if image["file"]:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        _write(target, "")
        k.mount(f"{place}/{image['file']}", target, "", k.MS_BIND)
        return
    os.makedirs(target, exist_ok=True)
    k.mount(place, target, "", k.MS_BIND)


def _mount_writable(serial: str, place: str, target: str, scratch: int) -> None:
    """A disk with what is written beside it, in memory."""
    os.makedirs(place)
    k.mount(device(serial), place, "erofs", _READ_ONLY)
    upper = f"{place}-upper"
    os.mkdir(upper)
    k.mount("upper", upper, "tmpfs", k.MS_NOSUID | k.MS_NODEV, f"size={scratch}")
    for name in ("upper", "work"):
        os.mkdir(f"{upper}/{name}")
    os.chown(f"{upper}/upper", UID, UID)
    options = f"lowerdir={place},upperdir={upper}/upper,workdir={upper}/work"
    k.mount("writable", target, "overlay", k.MS_NOSUID | k.MS_NODEV, options)


def device(serial: str) -> str:
    for path in glob.glob("/sys/block/*/serial"):
        with open(path) as file:
            if file.read().strip() == serial:
                return f"/dev/{path.split('/')[3]}"
    raise FileNotFoundError(f"no disk {serial}")


def _become_cell(job: dict[str, Any], filter_: bytes, output: int, control: socket.socket) -> None:
    """In the first process of the new namespaces. Never returns."""
    status = 1
    try:
        os.setsid()
        control = _keep_only(output, control)
        _confine(filter_, read_only=not job["root"])
        if prepared := job["prepared"]:
            os.set_inheritable(control.fileno(), True)
            os.execve(prepared[0], prepared, job["environment"])  # noqa: S606
        control.sendall(b"ready{}\n")
        told = b"".join(iter(lambda: control.recv(65536), b""))
        control.close()
        status = _first_process(**json.loads(told)) if told else 0
    except OSError as error:
        control.sendall(f"failed: {error}\n".encode())
    finally:
        os._exit(status)


def _keep_only(output: int, control: socket.socket) -> socket.socket:
    """The control socket, as descriptor CONTROL."""
    null = os.open("/dev/null", os.O_RDONLY)
    for number, source in enumerate((null, output, output)):
        os.dup2(source, number)
    os.dup2(control.detach(), CONTROL, inheritable=False)
    os.closerange(CONTROL + 1, 65536)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    os.fchown(1, UID, UID)  # programs open /dev/stderr by name
    return socket.socket(fileno=CONTROL)


def join_group() -> None:
    """And its limits, for whoever calls this and all of its children."""
    _write(f"{_GROUP}/cell/cgroup.procs", 0)
    _write("/proc/self/oom_score_adj", 0)


def give_up_power(filter_: bytes) -> None:
    """Becomes the agent's user, for good."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o022)
    k.drop_all_capabilities(UID)
    k.filter_system_calls(filter_)


def _confine(filter_: bytes, *, read_only: bool) -> None:
    join_group()
    k.unshare(k.CLONE_NEWNS | k.CLONE_NEWIPC | k.CLONE_NEWUTS | k.CLONE_NEWCGROUP)
    socket.sethostname("sandbox")
    k.mount("", "/", "", k.MS_REC | k.MS_PRIVATE)
    k.mount("proc", f"{ROOT}/proc", "proc", k.MS_NOSUID | k.MS_NODEV | k.MS_NOEXEC)
    k.pivot_root(ROOT)
    if read_only:
        k.mount("", "/", "", k.MS_REMOUNT | k.MS_BIND | _READ_ONLY)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES_MAX, _OPEN_FILES_MAX))
    give_up_power(filter_)


def _first_process(
    command: list[str], environment: dict[str, str], workdir: str, open_files_max: int
) -> int:
    """Starts the command, passes signals on, waits for orphans; the command's exit code."""
    pid = os.fork()
    if pid == 0:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (open_files_max, open_files_max))
            os.chdir(workdir)
            os.execvpe(command[0], command, {"PWD": workdir, **environment})  # noqa: S606
        except OSError as error:
            print(f"{command[0]}: {error.strerror}", file=sys.stderr, flush=True)  # noqa: T201
        finally:
            os._exit(127)
    signal.signal(signal.SIGTERM, lambda number, _: os.kill(pid, number))
    while True:
        ended, status = os.wait()
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
