"""What an escape attempt gets in the tiers that isolate, and what the host keeps."""

import asyncio
import json
import os
import secrets
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sandbox_ground import (
    CGROUP,
    GVISOR,
    ISOLATING_FIRST,
    PYTHON,
    SECONDS_MAX,
    SLOW_TIERS,
    VM,
    Ground,
    ground_of,
)

from freehold.adapters.sandbox.container import ContainerDriver
from freehold.adapters.sandbox.gvisor import GvisorDriver
from freehold.ports.sandbox import Limits, Mount, SandboxFailed

pytestmark = pytest.mark.skipif(not shutil.which("bwrap"), reason="needs bubblewrap")

PRELUDE = """
import ctypes, errno, glob, json, os, socket, stat, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *args):
    ctypes.set_errno(0)
    result = getattr(libc, name)(*args)
    return "done" if result != -1 else errno.errorcode[ctypes.get_errno()]
def attempt(function):
    try:
        return ["had", str(function())[:200]]
    except OSError as error:
        return ["refused", errno.errorcode.get(error.errno, str(error))]
"""


@pytest.fixture(scope="module", params=[*ISOLATING_FIRST, *SLOW_TIERS])
async def ground(request: pytest.FixtureRequest) -> AsyncIterator[Ground]:
    root = Path(tempfile.mkdtemp(prefix="freehold-escape-"))
    async with ground_of(request.param, root) as made:
        probe = await made.driver.probe()
        if not probe.available:
            pytest.skip(probe.detail)
        yield made


async def reported(ground: Ground, code: str, **options: Any) -> Any:
    """What the code printed as JSON on its last line."""
    end, output = await ground.run(PRELUDE + code, **options)
    assert end.code == 0, output
    return json.loads(output.splitlines()[-1])


async def test_the_hosts_files_are_not_there(ground: Ground) -> None:
    secret = ground.root / "secret.txt"
    secret.write_text("of the platform")
    secret.chmod(0o644)
    paths = [
        str(secret),
        str(ground.root),
        str(Path(__file__)),
        str(Path(__file__).parents[2]),
        str(Path.home()),
        "/root",
        "/etc/shadow",
        "/etc/ssl/private",
        "/var/lib",
        "/var/log",
        "/boot",
        "/sys/kernel",
        "/sys/fs/cgroup",
        "/run/docker.sock",
        "/proc/1/root" + str(secret),
        "/proc/1/cwd/" + str(secret),
    ]
    code = f"print(json.dumps({{p: os.path.lexists(p) for p in {paths!r}}}))"
    assert await reported(ground, code) == dict.fromkeys(paths, False)


async def test_the_root_holds_only_what_was_put_there(ground: Ground) -> None:
    code = (
        "print(json.dumps([sorted(os.listdir(p)) for p in ('/', '/home', '/opt', '/tmp', '/var')]))"
    )
    root, home, opt, temporary, var = await reported(ground, code)
    expected = {
        "bin",
        "dev",
        "etc",
        "home",
        "lib",
        "opt",
        "proc",
        "run",
        "sbin",
        "tmp",
        "usr",
        "var",
    }
    if ground.tier in GVISOR:
        expected.add("sys")  # empty
    assert set(root) - {"lib32", "lib64", "libx32"} == expected
    assert (home, opt, temporary, var) == (["agent"], ["freehold"], [], ["tmp"])


async def test_nothing_of_the_system_can_be_written(ground: Ground) -> None:
    paths = ["/x", "/usr/x", "/etc/x", "/etc/passwd", "/dev/x", "/opt/x", "/run/x", "/home/x",
             "/opt/freehold/launcher.py", "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger",
             "/usr/bin/python3", "/var/x"]  # fmt: skip
    code = f"print(json.dumps({{p: attempt(lambda: open(p, 'a'))[0] for p in {paths!r}}}))"
    assert await reported(ground, code) == dict.fromkeys(paths, "refused")


async def test_a_mount_that_is_not_writable_is_not(ground: Ground) -> None:
    source = ground.root / "layer"
    source.mkdir(mode=0o777)
    source.chmod(0o777)
    (source / "module.py").write_text("original")
    (source / "module.py").chmod(0o666)
    code = """
print(json.dumps([
    attempt(lambda: open("/layer/module.py", "w")),
    attempt(lambda: open("/layer/new", "w")),
    attempt(lambda: os.unlink("/layer/module.py")),
    attempt(lambda: os.chmod("/layer/module.py", 0o777)),
]))
"""
    answers = await reported(ground, code, mounts=(Mount(str(source), "/layer"),))
    assert answers[:3] == [["refused", "EROFS"]] * 3
    assert answers[3][0] == "refused"
    assert (source / "module.py").read_text() == "original"


async def test_it_has_no_capability_no_new_privileges_and_a_filter(ground: Ground) -> None:
    code = """
lines = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
PR_GET_NO_NEW_PRIVS = 39
lines["NoNewPrivs"] = str(libc.prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0))
print(json.dumps({name: value.strip() for name, value in lines.items()}))
"""
    status = await reported(ground, code)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status.get(name, "0"), 16) == 0, name  # gVisor's kernel knows no ambient ones
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert status["Uid"].split() == ["1000"] * 4
    assert status["Groups"] in ("", "65534")


async def test_dangerous_system_calls_are_refused(ground: Ground) -> None:
    code = """
buf = ctypes.create_string_buffer(256)
path = b"/tmp"
answers = {
    "unshare user": call("unshare", 0x10000000),
    "unshare net": call("unshare", 0x40000000),
    "setns": call("setns", os.open("/proc/1/status", os.O_RDONLY), 0),
    "mount": call("mount", b"none", path, b"tmpfs", 0, None),
    "umount": call("umount2", b"/proc", 2),
    "chroot": call("chroot", path),
    "ptrace": call("ptrace", 16, 1, None, None),
    "process_vm_readv": call("process_vm_readv", 1, buf, 1, buf, 1, 0),
    "sethostname": call("sethostname", b"x", 1),
    "settimeofday": call("settimeofday", buf, None),
    "reboot": call("reboot", 0xfee1dead),
    "swapon": call("swapon", path, 0),
    "acct": call("acct", path),
    "klogctl": call("klogctl", 3, buf, 255),
    "name_to_handle_at": call("name_to_handle_at", -100, path, buf, buf, 0),
}
numbers = {"x86_64": dict(bpf=321, add_key=248, keyctl=250, io_uring_setup=425, userfaultfd=323,
                          perf_event_open=298, kexec_load=246, init_module=175, open_tree=428,
                          fsopen=430, pidfd_getfd=438, mount_setattr=442),
           "aarch64": dict(bpf=280, add_key=217, keyctl=219, io_uring_setup=425, userfaultfd=282,
                           perf_event_open=241, kexec_load=104, init_module=105, open_tree=428,
                           fsopen=430, pidfd_getfd=438, mount_setattr=442)}[os.uname().machine]
for name, number in numbers.items():
    answers[name] = call("syscall", number, 0, 0, 0, 0, 0)
answers["clone3"] = call("syscall", 435, buf, 88)
clone = 56 if os.uname().machine == "x86_64" else 220
answers["clone into a user namespace"] = call("syscall", clone, 0x10000000 | 17, 0, 0, 0, 0)
print(json.dumps(answers))
"""
    answers = await reported(ground, code)
    assert answers.pop("clone3") == "ENOSYS"
    assert answers.pop("clone into a user namespace") in ("ENOSYS", "EPERM")
    if ground.tier in GVISOR:  # what its kernel does not know at all
        answers = {name: answer for name, answer in answers.items() if answer != "ENOSYS"}
    assert answers == dict.fromkeys(answers, "EPERM")


async def test_only_plain_sockets_can_be_made(ground: Ground) -> None:
    code = """
kinds = {
    "tcp": (2, 1, 0), "udp": (2, 2, 0), "tcp6": (10, 1, 0), "unix": (1, 1, 0), "route": (16, 3, 0),
    "raw": (2, 3, 1), "raw6": (10, 3, 58), "ping": (2, 2, 1), "packet": (17, 3, 0),
    "vsock": (40, 1, 0), "alg": (38, 5, 0), "netfilter": (16, 3, 12), "audit": (16, 3, 9),
    "bluetooth": (31, 1, 0), "sctp": (2, 1, 132), "mptcp": (2, 1, 262), "tipc": (30, 1, 0),
    "xdp": (44, 3, 0), "can": (29, 3, 1),
}
print(json.dumps({name: attempt(lambda: socket.socket(*kind))[0] for name, kind in kinds.items()}))
"""
    answers = await reported(ground, code)
    assert {name for name, had in answers.items() if had == "had"} == {
        "tcp", "udp", "tcp6", "unix", "route"
    }  # fmt: skip


async def test_no_network_but_its_own_loopback(ground: Ground) -> None:
    """The host's TCP ports, unix sockets by path and by abstract name, metadata, DNS."""
    abstract = "\0freehold-test-" + secrets.token_hex(4)
    database = str(ground.root / ".s.PGSQL.5432")
    unix, named = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    with socket.create_server(("0.0.0.0", 0)) as tcp, unix, named:
        unix.bind(database)
        Path(database).chmod(0o777)
        named.bind(abstract)
        for each in (unix, named):
            each.listen()
        port = tcp.getsockname()[1]
        code = f"""
def dial(family, address):
    with socket.socket(family) as s:
        s.settimeout(3)
        s.connect(address)
print(json.dumps({{
    "loopback": attempt(lambda: dial(2, ("127.0.0.1", {port}))),
    "loopback6": attempt(lambda: dial(10, ("::1", {port}))),
    "any": attempt(lambda: dial(2, ("0.0.0.0", {port}))),
    "metadata": attempt(lambda: dial(2, ("169.254.169.254", 80))),
    "internet": attempt(lambda: dial(2, ("192.0.2.1", 443))),
    "database": attempt(lambda: dial(1, {database!r})),
    "abstract": attempt(lambda: dial(1, {abstract!r})),
    "dns": attempt(lambda: socket.getaddrinfo("example.com", 443)),
    "interfaces": attempt(lambda: [name for _, name in socket.if_nameindex()]),
}}))
"""
        answers = await reported(ground, code)
    assert answers.pop("interfaces") == ["had", "['lo']"]
    assert {name for name, answer in answers.items() if answer[0] == "had"} == set()
    assert answers["metadata"][1] in ("ENETUNREACH", "EHOSTUNREACH")
    Path(database).unlink()


async def test_no_descriptor_and_no_variable_of_the_platform_comes_along(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://secret")
    with (ground.root / "open.txt").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        code = """
fds = {}
for name in os.listdir("/proc/self/fd"):
    try: fds[name] = os.readlink("/proc/self/fd/" + name)
    except OSError: pass
secrets = []
for path in glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/cmdline"):
    try: secrets.append(open(path).read())
    except OSError: pass
print(json.dumps([fds, sorted(os.environ), "".join(secrets)]))
"""
        fds, names, seen = await reported(ground, code, environment={"GIVEN": "1"})
    assert set(fds) == {"0", "1", "2"}
    assert fds["0"] == "/dev/null" or ground.tier in GVISOR  # where it is called host:[1]
    assert set(names) <= {"GIVEN", "HOME", "PATH", "TMPDIR", "PWD", "LC_CTYPE"}
    assert "postgresql://" not in seen
    assert str(ground.root) not in seen


async def test_processes_of_the_host_and_of_neighbours_are_not_seen(ground: Ground) -> None:
    neighbour = await ground.start(
        "import time; open('/tmp/mine', 'w').write('secret'); print('up'); time.sleep(600)"
    )
    await neighbour.says("up")
    code = f"""
pids = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
print(json.dumps([pids, os.listdir("/tmp"), os.listdir("/dev/shm"),
                  attempt(lambda: os.kill({os.getpid()}, 9))]))
"""
    pids, temporary, shared, host = await reported(ground, code)
    assert pids in ([1, 2], [1])
    assert temporary == shared == []
    assert host == ["refused", "ESRCH"]
    assert neighbour.sandbox.usage().cpu_seconds
    await neighbour.sandbox.stop()


async def test_a_kill_of_everything_inside_stays_inside(ground: Ground) -> None:
    neighbour = await ground.start("import time; print('up'); time.sleep(600)")
    await neighbour.says("up")
    code = "import os\nif os.fork() == 0: os.kill(-1, 9)\nos.wait(); os.kill(os.getpid(), 9)"
    end, _ = await ground.run(code)
    assert "SIGKILL" in end.reason
    assert await still_runs(neighbour)


async def still_runs(running: Any) -> bool:
    waiting = asyncio.ensure_future(running.sandbox.wait())
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    waiting.cancel()
    await running.sandbox.stop()
    return not done


async def test_kernel_logs_and_memory_are_out_of_reach(ground: Ground) -> None:
    paths = ["/proc/kcore", "/proc/kmsg", "/dev/kmsg", "/dev/mem", "/dev/kvm", "/dev/fuse",
             "/dev/sda", "/dev/vda", "/dev/loop0", "/proc/kallsyms-with-addresses"]  # fmt: skip
    code = f"""
answers = {{p: attempt(lambda: open(p, "rb").read(1))[0] for p in {paths!r}}}
answers["addresses"] = "had" if os.path.exists("/proc/kallsyms") and any(
    int(line.split()[0], 16) for line in open("/proc/kallsyms").readlines()[:50]
) else "refused"
device = stat.S_IFCHR | 0o666
answers["device"] = attempt(lambda: os.mknod("/tmp/null", device, os.makedev(1, 3)))[0]
print(json.dumps([answers, sorted(os.listdir("/dev"))]))
"""
    answers, devices = await reported(ground, code)
    assert set(answers.values()) == {"refused"}
    if ground.tier in GVISOR:
        devices = [name for name in devices if name not in ("fuse", "net")]  # its kernel's own
    assert set(devices) <= {"console", "core", "fd", "full", "null", "ptmx", "pts", "random", "shm",
                            "stderr", "stdin", "stdout", "tty", "urandom", "zero"}  # fmt: skip


async def test_setuid_programs_give_nothing(ground: Ground) -> None:
    """No mount honours the bit, and the owner of the host's programs is nobody inside (in a machine
    of its own they belong to that machine's root, to whom no way leads either)."""
    code = """
import subprocess
options = [line.split()[3].split(",") for line in open("/proc/self/mounts").read().splitlines()]
programs = [p for p in ("/usr/bin/su", "/usr/bin/mount", "/usr/bin/passwd") if os.path.exists(p)]
owners = [os.stat(program).st_uid for program in programs]
su = subprocess.run(["/usr/bin/su", "-c", "id -u"], capture_output=True, text=True, stdin=-3)
print(json.dumps([all("nosuid" in each for each in options), owners, su.returncode, su.stdout]))
"""
    nosuid, owners, code_of_su, output_of_su = await reported(ground, code)
    assert nosuid or ground.tier in GVISOR  # which does not list it: no_new_privs does the same
    assert set(owners) == {0 if ground.tier in VM else 65534}
    assert code_of_su != 0
    assert output_of_su == ""


async def test_a_fork_bomb_hits_its_limit_and_no_neighbour(ground: Ground) -> None:
    neighbour = await ground.start("import time; print('up'); time.sleep(600)")
    code = """
import time
count = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(600)
        count += 1
except OSError as error:
    print(json.dumps([count, errno.errorcode[error.errno]]), flush=True)
    os._exit(0)
"""
    count, refusal = await reported(ground, code, limits=Limits(processes_max=40))
    assert 20 < count < 40
    assert refusal == "EAGAIN"
    assert await still_runs(neighbour)


async def test_a_memory_bomb_is_named_and_hits_no_neighbour(ground: Ground) -> None:
    neighbour = await ground.start("import time; print('up'); time.sleep(600)")
    code = "kept = []\nwhile True: kept.append(bytearray(b'x') * (8 << 20))"
    end, _ = await ground.run(code, limits=Limits(memory_bytes_max=256 << 20))
    assert end.reason == "ran out of memory (limit 256 MiB)"
    assert await still_runs(neighbour)


@pytest.mark.parametrize("place", ["/tmp", "/home/agent", "/dev/shm"])
async def test_a_disk_filler_gets_its_scratch_space_and_no_more(ground: Ground, place: str) -> None:
    code = f"""
size = 0
try:
    with open("{place}/fill", "wb", buffering=0) as file:
        while True: size += file.write(bytes(1 << 20))
except OSError as error:
    print(json.dumps([size >> 20, errno.errorcode[error.errno]]))
"""
    limits = Limits(memory_bytes_max=256 << 20, scratch_bytes_max=16 << 20)
    assert await reported(ground, code, limits=limits) == [16, "ENOSPC"]


async def test_more_processor_than_allowed_is_not_had(ground: Ground) -> None:
    code = "print('up', flush=True)\nwhile True: pass"
    running = await ground.start(code, limits=Limits(cpus_max=0.25))
    await running.says("up")
    began, before = time.monotonic(), running.sandbox.usage().cpu_seconds
    await asyncio.sleep(1.5)
    used = running.sandbox.usage().cpu_seconds - before
    assert 0 < used < 0.5 * (time.monotonic() - began), "of one processor it may have a quarter"


async def test_use_is_read_from_the_control_group_and_the_peak_is_since_the_last_time(
    ground: Ground,
) -> None:
    code = """
import time
big = bytearray(b"x") * (64 << 20)
del big
end = time.process_time() + 0.2
while time.process_time() < end: pass
print("up", flush=True)
time.sleep(600)
"""
    running = await ground.start(code)
    await running.says("up")
    first, second = running.sandbox.usage(), running.sandbox.usage()
    assert first.cpu_seconds
    assert first.memory_peak_bytes
    assert second.memory_peak_bytes
    assert first.cpu_seconds > 0.2
    assert first.memory_peak_bytes > 64 << 20
    # A machine does not give back what its command has freed.
    assert second.memory_peak_bytes < 64 << 20 or ground.tier in VM
    await running.sandbox.freeze()
    frozen = running.sandbox.usage().cpu_seconds
    await asyncio.sleep(0.05)
    assert running.sandbox.usage().cpu_seconds == frozen


async def test_pools_subprocesses_databases_and_certificates_work_inside(
    ground: Ground,
) -> None:
    code = """
import asyncio, concurrent.futures, multiprocessing, pwd, sqlite3, ssl, subprocess
def square(n): return n * n
async def main():
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    process = await asyncio.create_subprocess_exec("/bin/echo", "hi", stdout=-1)
    return (await process.communicate())[0].decode()
with concurrent.futures.ThreadPoolExecutor() as threads, multiprocessing.Pool(2) as processes:
    print(json.dumps([
        list(threads.map(square, [2])), processes.map(square, [3]), asyncio.run(main()),
        sqlite3.connect("/tmp/db").execute("select 1").fetchone(),
        len(ssl.create_default_context().get_ca_certs()) > 0,
        subprocess.run("echo $HOME", shell=True, capture_output=True, text=True).stdout,
        pwd.getpwuid(os.getuid()).pw_name, socket.gethostbyname("localhost"),
    ]))
"""
    assert await reported(ground, code) == [
        [4], [9], "hi\n", [1], True, "/home/agent\n", "agent", "127.0.0.1"
    ]  # fmt: skip


@pytest.mark.skipif(not Path("/usr/bin/node").exists(), reason="needs a node in /usr")
async def test_node_runs_under_the_filter(ground: Ground) -> None:
    script = """
const http = require("http"), { Worker } = require("worker_threads"), fs = require("fs");
http.createServer((q, a) => a.end("hello")).listen(8080, "localhost", async () => {
  const text = await (await fetch("http://localhost:8080")).text();
  fs.writeFileSync("/tmp/x", text);
  new Worker("require('worker_threads').parentPort.postMessage(1)", { eval: true })
    .on("message", () => { console.log(text + " from node"); process.exit(0); });
});
"""
    limits = Limits(memory_bytes_max=1 << 30)
    end, output = await ground.run("", command=("/usr/bin/node", "-e", script), limits=limits)
    assert (end.code, output.strip()) == (0, "hello from node")


async def test_no_two_sandboxes_share_a_user_of_the_host(ground: Ground) -> None:
    if os.geteuid() != 0:
        pytest.skip("as a normal user all sandboxes run as that user")
    boxes = [await ground.start("import time; time.sleep(600)") for _ in range(5)]
    records = [ground.root / "driver" / "records" / f"{box.spec.id}.json" for box in boxes]
    users = {json.loads(record.read_text())["uid"] for record in records}
    assert len(users) == 5
    assert min(users) >= 1_879_000_000
    for box in boxes:
        await box.sandbox.stop()


async def test_a_source_in_a_closed_directory_is_an_error_that_names_it(ground: Ground) -> None:
    if os.geteuid() != 0:
        pytest.skip("a normal user's sandbox runs as that user, who can go there")
    if ground.tier in VM:
        pytest.skip("its disks are made by the platform, who can go there")
    closed = ground.root / "closed"
    (closed / "inner").mkdir(parents=True)
    closed.chmod(0o700)
    with pytest.raises(SandboxFailed, match=f"{closed} is closed to others"):
        await ground.start("pass", mounts=(Mount(str(closed / "inner"), "/data"),))


async def test_without_its_program_the_probe_says_what_to_install(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    probe = await ground.driver.probe()
    assert not probe.available
    advice = {
        "container": "install bubblewrap: apt-get install bubblewrap",
        "gvisor": "install gVisor's runsc of 2024 or later: sudo sh scripts/install-gvisor.sh, or"
        " on Debian 13 apt-get install runsc",
        "vm": "install QEMU: apt-get install qemu-system-x86",
    }
    same = {"template": "container", "restored": "gvisor", "vm-restored": "vm"}
    assert probe.detail == advice[same.get(ground.tier, ground.tier)]


async def test_where_namespaces_are_refused_the_probe_says_what_to_change(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = ground.root / "bin" / "bwrap"
    fake.parent.mkdir(mode=0o755)
    fake.write_text(
        "#!/bin/sh\n"
        '[ "$1" = --help ] && exec /usr/bin/bwrap --help\n'
        "echo 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    probe = await ground.driver.probe()
    assert not probe.available
    assert "setting up uid map: Permission denied" in probe.detail
    assert "apparmor_restrict_unprivileged_userns" in probe.detail


async def test_an_opener_that_died_is_started_again(ground: Ground) -> None:
    driver = ground.driver
    if ground.tier in (*VM, "restored"):
        pytest.skip("its ports are reached over a line of its own")
    assert isinstance(driver, ContainerDriver | GvisorDriver)
    running = await ground.start("import time; time.sleep(600)", loopback_ports=(7400,))
    pid = driver._opener.pid
    assert pid
    os.kill(pid, 9)
    for _ in range(6):  # more than the spares that were made before
        with pytest.raises(ConnectionRefusedError):
            await running.sandbox.connect(8080)
    again = await ground.start("import time; time.sleep(600)", loopback_ports=(7400,))
    assert driver._opener.pid != pid
    for box in (running, again):
        await box.sandbox.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="already runs as a normal user")
@pytest.mark.parametrize("tier", [*ISOLATING_FIRST, *SLOW_TIERS])
async def test_it_works_as_a_normal_user(tier: str) -> None:
    """The contract's core, in a process without any privilege and without control groups."""
    root = Path(tempfile.mkdtemp(prefix="freehold-user-"))
    async with ground_of(tier, root) as as_root:
        if not (probe := await as_root.driver.probe()).available:
            pytest.skip(probe.detail)
    root.mkdir()
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    path = [str(Path(__file__).parents[2] / "src"), str(Path(__file__).parent), packages]
    try:
        os.chown(root, 65534, 65534)
        process = await asyncio.create_subprocess_exec(
            PYTHON,
            str(Path(__file__).with_name("sandbox_as_user.py")),
            tier,
            str(root),
            user=65534,
            group=65534,
            extra_groups=[],
            env={"PYTHONPATH": ":".join(path), "PATH": os.environ["PATH"], "HOME": str(root)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(SECONDS_MAX * 4):
            output, _ = await process.communicate()
    finally:
        shutil.rmtree(root)
    assert process.returncode == 0, output.decode()
    assert output.decode().splitlines()[-1] == "all well"
    assert CGROUP not in output.decode()
