"""The namespaces around runsc: bubblewrap's, as in the container tier.

runsc and all that it starts live in them, as a user who is nobody on the host, so that whoever
breaks out of gVisor's kernel finds an empty network, the files of this sandbox and nothing else.
Inside them runsc is root, and makes namespaces of its own.
"""

from collections.abc import Iterable
from pathlib import Path

from freehold.adapters.sandbox import image_root
from freehold.adapters.sandbox.container import bubblewrap
from freehold.adapters.sandbox.gvisor import runsc
from freehold.ports.sandbox import Mount

_POINTS = ("/proc", "/dev", "/sys", "/tmp", str(Path(bubblewrap.HOME).parent), bubblewrap.HOME)  # noqa: S108


def arguments(
    program: str,
    *,
    mounts: Iterable[Mount],
    etc: Path,
    launcher: Path,
    own_users: bool,
    image: str | None = None,
) -> list[str]:
    """`own_users`: two users of the host are mapped from outside, see `map_users`. `image` is the
    folder of one, in place of the system's files: then it is `image_root.around` that runs this.
    """
    mounts = tuple(mounts)
    every = ("user", "pid", "net", "ipc", "uts", "cgroup-try")
    return [
        *(f"--unshare-{each}" for each in every),
        *(() if own_users else ("--uid", "0", "--gid", "0")),
        *("--hostname", "sandbox", "--cap-add", "ALL", "--new-session", "--clearenv"),
        *("--proc", "/proc", "--dev", "/dev", "--perms", "0755", "--dir", "/tmp"),  # noqa: S108
        *runsc.own_files(program),
        *("--perms", "0755", "--dir", runsc.ROOT),
        *(_system_files(etc, launcher) if image is None else _image_files(image, etc)),
        *_folders_above(mounts),
        *bubblewrap.bindings(mounts, runsc.ROOT),
    ]


def _folders_above(mounts: Iterable[Mount]) -> list[str]:
    """Those that bubblewrap makes by itself are closed to all but their owner, which is not the
    sandbox's user."""
    above = {str(folder) for mount in mounts for folder in list(Path(mount.target).parents)[:-1]}
    made = (("--perms", "0755", "--dir", runsc.ROOT + folder) for folder in sorted(above))
    return [part for each in made for part in each]


def _system_files(etc: Path, launcher: Path) -> list[str]:
    points = [part for each in _POINTS for part in ("--perms", "0755", "--dir", runsc.ROOT + each)]
    return [*bubblewrap.system_files(etc, launcher, runsc.ROOT), *points]


def _image_files(image: str, etc: Path) -> list[str]:
    return image_root.bindings(image, etc, runsc.ROOT)


def with_configuration(arguments: list[str], descriptor: int) -> list[str]:
    """Complete. It goes through a descriptor: the environment is in it."""
    configuration = ("--ro-bind-data", str(descriptor), runsc.CONFIGURATION)
    return [*arguments, *configuration, "--remount-ro", "/dev", "--remount-ro", "/"]


def map_users(pid: int, uid: int) -> None:
    """`uid` becomes the sandbox's user, and the next number root, which runsc runs as.

    Two, since gVisor decides what its user may do with a file by the owner that it sees.
    """
    lines = f"0 {root_of(uid)} 1\n{bubblewrap.INSIDE_UID} {uid} 1\n"
    for kind in ("uid_map", "gid_map"):
        Path(f"/proc/{pid}/{kind}").write_text(lines)


def root_of(uid: int) -> int:
    return uid + 1
