"""System calls that gVisor's kernel implements and an agent has no business with.

They would not touch the host: what they do is done by gVisor. But who makes namespaces of their
own gets capabilities in them, and with those at far more of its code.
"""

import contextlib
import errno
from collections.abc import Iterable
from functools import cache
from typing import Any

from freehold.adapters.sandbox.container import seccomp
from freehold.adapters.sandbox.container.seccomp import CLONE_NEW_ANYTHING, REFUSED

_EPERM = "SCMP_ACT_ERRNO"
_ENOSYS = "SCMP_ACT_TRACE"  # what it answers where nobody traces; runsc ignores other numbers
_PING = (1, 58)  # protocols of sockets that only root and gVisor's own stack would give
_FILE_TYPE, _CHARACTER_DEVICE, _BLOCK_DEVICE = 0o170000, 0o020000, 0o060000


def rules() -> dict[str, Any]:
    """As the OCI run-time configuration has them. The rest is allowed."""
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": list(_rules())}


@cache
def program() -> bytes:
    """The same for this machine's architecture as a BPF program, which a process inside can put
    itself under: older releases of gVisor put those that are started later under none."""
    import pyseccomp as sc

    actions = {_EPERM: sc.ERRNO(errno.EPERM), _ENOSYS: sc.ERRNO(errno.ENOSYS)}
    filtered = sc.SyscallFilter(sc.ALLOW)
    for rule in _rules():
        conditions = [
            sc.Arg(each["index"], sc.MASKED_EQ, each["value"], each["valueTwo"])
            for each in rule.get("args", ())
        ]
        for name in rule["names"]:
            with contextlib.suppress(ValueError):  # unknown to this libseccomp, so to its users
                number = sc.resolve_syscall(sc.Arch.NATIVE, name)
                filtered.add_rule(actions[rule["action"]], number, *conditions)
    return seccomp.exported(filtered)


def _rules() -> Iterable[dict[str, Any]]:
    yield _refused(REFUSED.split())
    # Its flags are in memory, where no filter can look; libc falls back to clone.
    yield _refused(["clone3"], action=_ENOSYS)
    for bit in range(CLONE_NEW_ANYTHING.bit_length()):
        if flag := CLONE_NEW_ANYTHING & (1 << bit):
            yield _refused(["clone"], argument=0, mask=flag, value=flag)
    for protocol in _PING:
        yield _refused(["socket"], argument=2, mask=0xFFFF, value=protocol)
    for kind in (_CHARACTER_DEVICE, _BLOCK_DEVICE):
        yield _refused(["mknod"], argument=1, mask=_FILE_TYPE, value=kind)
        yield _refused(["mknodat"], argument=2, mask=_FILE_TYPE, value=kind)


def _refused(
    names: list[str], *, action: str = _EPERM, argument: int = -1, mask: int = 0, value: int = 0
) -> dict[str, Any]:
    rule: dict[str, Any] = {"names": names, "action": action}
    if argument >= 0:
        masked = {"index": argument, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}
        rule["args"] = [masked]
    return rule
