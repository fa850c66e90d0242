"""The system calls that a sandboxed program may make: an allow-list, compiled once to BPF.

What is not named gets ENOSYS, so that libraries fall back as they would on an older kernel. What
programs probe for, or what deserves a plain refusal, gets EPERM. A call of a foreign ABI (32-bit,
x32) kills the process: that is libseccomp's own default.
"""

import errno
import tempfile
from functools import cache
from typing import Any

_FILES = """
access faccessat faccessat2 chdir fchdir chmod fchmod fchmodat fchmodat2 chown fchown fchownat
lchown close close_range copy_file_range creat dup dup2 dup3 fadvise64 fallocate fcntl fdatasync
fgetxattr flistxattr flock fremovexattr fsetxattr fstat fstatfs fsync ftruncate futimesat getcwd
getdents getdents64 getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch
ioctl lgetxattr link linkat listxattr llistxattr lremovexattr lseek lsetxattr lstat mkdir mkdirat
mknod mknodat newfstatat open openat openat2 pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev
pwritev2 read readahead readlink readlinkat readv removexattr rename renameat renameat2 rmdir
sendfile setxattr splice stat statfs statx symlink symlinkat sync sync_file_range syncfs tee
truncate umask unlink unlinkat utime utimensat utimes write writev
"""
_MEMORY = """
brk madvise membarrier memfd_create mincore mlock mlock2 mlockall mmap mprotect mremap msync munlock
munlockall munmap pkey_alloc pkey_free pkey_mprotect
"""
_PROCESSES = """
alarm arch_prctl capget capset execve execveat exit exit_group fork futex futex_wait futex_waitv
futex_wake futex_requeue get_robust_list get_thread_area getcpu getegid geteuid getgid getgroups
getpgid getpgrp getpid getppid getpriority getrandom getresgid getresuid getrlimit getrusage getsid
gettid getuid ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset
landlock_restrict_self pause pidfd_open pidfd_send_signal prctl prlimit64 restart_syscall rseq
rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity
sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity
sched_setattr sched_setparam sched_setscheduler sched_yield seccomp set_robust_list
set_thread_area set_tid_address setfsgid setfsuid setgid setgroups setpgid setpriority setregid
setresgid setresuid setreuid setrlimit setsid setuid sigaltstack sysinfo tgkill time times tkill
uname vfork wait4 waitid
"""
_EVENTS_AND_TIME = """
clock_getres clock_gettime clock_nanosleep epoll_create epoll_create1 epoll_ctl epoll_ctl_old
epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 getitimer gettimeofday
nanosleep poll ppoll pselect6 select setitimer signalfd signalfd4 timer_create timer_delete
timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime
"""
_IPC_AND_NETWORK = """
accept accept4 bind connect getpeername getsockname getsockopt listen mq_getsetattr mq_notify
mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd recvfrom recvmmsg
recvmsg semctl semget semop semtimedop sendmmsg sendmsg sendto setsockopt shmat shmctl shmdt
shmget shutdown
"""
REFUSED = """
acct add_key adjtimex bpf chroot clock_adjtime clock_settime delete_module fanotify_init
fanotify_mark finit_module fsconfig fsmount fsopen fspick get_mempolicy init_module
io_uring_enter io_uring_register io_uring_setup ioperm iopl kcmp kexec_file_load kexec_load
keyctl lookup_dcookie mbind migrate_pages mount mount_setattr move_mount move_pages
name_to_handle_at nfsservctl open_by_handle_at open_tree perf_event_open pidfd_getfd pivot_root
process_madvise process_vm_readv process_vm_writev ptrace quotactl reboot request_key
set_mempolicy setdomainname sethostname setns settimeofday swapoff swapon syslog umount umount2
unshare userfaultfd vhangup
"""

CLONE_NEW_ANYTHING = (  # mount, cgroup, uts, ipc, user, pid, net; clone has no bit for time
    0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
)
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_TYPE_BITS = 0xF  # the rest are SOCK_CLOEXEC and SOCK_NONBLOCK
_STREAM, _DATAGRAM = 1, 2
_TCP, _UDP, _ANY_PROTOCOL = 6, 17, 0
_NETLINK_ROUTE = 0
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)


def missing() -> str | None:
    """What has to be installed for a filter to be built; None when nothing."""
    try:
        import pyseccomp  # noqa: F401
    except (ImportError, RuntimeError, OSError):
        return "libseccomp is missing: install libseccomp2 (or libseccomp)"
    return None


@cache
def program(traced_clone: int | None = None) -> bytes:
    """The filter as BPF for this machine's architecture.

    A clone with exactly the flags `traced_clone` is left to whoever traces the caller. Without a
    tracer it is refused like every other that asks for namespaces, with ENOSYS.
    """
    import pyseccomp as sc

    rules = sc.SyscallFilter(sc.ERRNO(errno.ENOSYS))
    # ioctl needs no terminal rules: the sandbox has no descriptor of a terminal but its own ptys.
    for name in " ".join((_FILES, _MEMORY, _PROCESSES, _EVENTS_AND_TIME, _IPC_AND_NETWORK)).split():
        _add(rules, sc.ALLOW, name)
    for name in REFUSED.split():
        _add(rules, sc.ERRNO(errno.EPERM), name)
    # Threads and forks, never namespaces. clone3 hides its flags in memory, where no filter can
    # look: unnamed here, it gets ENOSYS, and libc falls back to clone.
    _add(rules, sc.ALLOW, "clone", sc.Arg(0, sc.MASKED_EQ, CLONE_NEW_ANYTHING, 0))
    if traced_clone is not None:
        _add(rules, sc.TRACE(0), "clone", sc.Arg(0, sc.EQ, traced_clone))
    for persona in _PERSONALITIES:
        _add(rules, sc.ALLOW, "personality", sc.Arg(0, sc.EQ, persona))
    _add_sockets(rules)
    return exported(rules)


def _add_sockets(rules: Any) -> None:
    """Unix, TCP, UDP and the netlink that getaddrinfo asks; no raw, packet, vsock or bluetooth."""
    import pyseccomp as sc

    for call in ("socket", "socketpair"):
        _add(rules, sc.ALLOW, call, sc.Arg(0, sc.EQ, _AF_UNIX))
    for family in (_AF_INET, _AF_INET6):
        for kind, own in ((_STREAM, _TCP), (_DATAGRAM, _UDP)):
            for protocol in (_ANY_PROTOCOL, own):
                _add(
                    rules,
                    sc.ALLOW,
                    "socket",
                    sc.Arg(0, sc.EQ, family),
                    sc.Arg(1, sc.MASKED_EQ, _TYPE_BITS, kind),
                    sc.Arg(2, sc.EQ, protocol),
                )
    _add(
        rules,
        sc.ALLOW,
        "socket",
        sc.Arg(0, sc.EQ, _AF_NETLINK),
        sc.Arg(2, sc.EQ, _NETLINK_ROUTE),
    )


def _add(rules: Any, action: int, name: str, *conditions: Any) -> None:
    import pyseccomp as sc

    try:
        number = sc.resolve_syscall(sc.Arch.NATIVE, name)
    except ValueError:
        return  # unknown to this libseccomp, so to its users: stays ENOSYS
    rules.add_rule(action, number, *conditions)


def exported(rules: Any) -> bytes:
    with tempfile.TemporaryFile() as file:
        rules.export_bpf(file)
        file.seek(0)
        return file.read()
