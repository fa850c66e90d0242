"""Sandboxes that are forked off a template: what is theirs alone, and what becomes of templates."""

import asyncio
import itertools
import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sandbox_ground import PYTHON, SECONDS_MAX, HostView, ground_of
from sandbox_workshop import WAIT, Workshop

from freehold.adapters.sandbox.container import ContainerDriver
from freehold.adapters.sandbox.template import landlock
from freehold.adapters.sandbox.template.session import FORK_FLAGS
from freehold.adapters.sandbox.template.template import ContainerTemplate
from freehold.ports.sandbox import Limits, Mount, SandboxFailed

pytestmark = pytest.mark.skipif(not shutil.which("bwrap"), reason="needs bubblewrap")

_numbers = itertools.count()


@pytest.fixture(scope="module")
async def workshop() -> AsyncIterator[Workshop]:
    root = Path(tempfile.mkdtemp(prefix="freehold-template-"))
    async with ground_of("container", root) as ground:
        if not (probe := await ground.driver.probe()).available:
            pytest.skip(probe.detail)
        made = Workshop(ground)
        yield made


async def test_dependencies_are_imported_before_and_the_agents_code_after(
    workshop: Workshop,
) -> None:
    agent = workshop.agent(
        "import os\nprint('dependency in', os.getpid())",
        "import dependency, helper, sys\nprint('main in', __name__, sys.argv, len(sys.path))",
        helper="print('helper', 'dependency' in __import__('sys').modules)",
    )
    template = await workshop.template(agent)
    assert (template.state, template.reason) == ("ready", "")
    before = Path(template.spec.output).read_text()
    assert before.startswith("dependency in 1")
    assert "helper" not in before
    said = await workshop.said(agent, template)
    assert "dependency in" not in said
    assert said.splitlines()[0] == "helper True"
    assert said.splitlines()[1].startswith("main in __main__ ['/task/main.py']")


async def test_a_session_sees_what_an_ordinary_one_sees(workshop: Workshop) -> None:
    main = """
import dependency, json, os, sys, pwd
m = sys.modules["__main__"]
print(json.dumps([
    sys.path, sys.argv, dict(os.environ), os.getcwd(), os.getpid(), os.umask(0),
    m.__name__, m.__file__, pwd.getpwuid(os.getuid()).pw_name, os.uname().nodename,
    open("/proc/self/cmdline").read().rstrip(chr(0)).split(chr(0)), sys.dont_write_bytecode,
    sorted(os.listdir("/proc/self/fd")), sys.stdin.isatty(), sys.stdin.read(), sys.stdout.encoding,
    [os.readlink(f"/dev/{n}") for n in ("fd", "stdin", "core", "ptmx")], os.listdir("/dev/pts"),
    os.getsid(0), {line.split()[1]: line.split()[3].split(",") for line in open("/proc/mounts")},
]))
"""
    agent = workshop.agent("", main)
    agent["environment"] |= {"GIVEN": "a=b\nc", "PYTHONDONTWRITEBYTECODE": "1"}
    template = await workshop.template(agent)
    ordinary = await workshop.ground.run("", **agent)
    forked = json.loads(await workshop.said(agent, template))
    expected = json.loads(ordinary[1])
    expected[2].pop("PWD", None)  # of bubblewrap's own
    mounts, as_ordinary = forked.pop(), expected.pop()
    assert mounts.keys() == as_ordinary.keys()
    for place, options in mounts.items():
        assert options[0] == as_ordinary[place][0], place
        assert {"nosuid", "nodev", "noexec"} & set(as_ordinary[place]) <= set(options), place
    # Either pid 1 leads the session, or the payload: its pid 1 is Python, and heeds SIGINT.
    assert (expected.pop(), forked.pop()) == (1, 2)
    assert forked == expected


async def test_what_is_random_is_random_in_each_session(workshop: Workshop) -> None:
    dependency = """
import multiprocessing, random, ssl, tempfile, uuid
random.random(), ssl.RAND_bytes(8), uuid.uuid1(), tempfile.mktemp()
"""
    main = """
import dependency, multiprocessing, random, secrets, ssl, tempfile, uuid
print(random.random(), ssl.RAND_bytes(8), secrets.token_hex(8), uuid.uuid4(), sep="\\n")
print(tempfile.mktemp(), multiprocessing.current_process().authkey, uuid.getnode(), sep="\\n")
print(uuid.uuid1().clock_seq)
"""
    agent = workshop.agent(dependency, main)
    template = await workshop.template(agent)
    sessions = [(await workshop.said(agent, template)).splitlines() for _ in range(2)]
    shared = [first for first, second in zip(*sessions, strict=True) if first == second]
    assert shared == []


async def test_openssl_is_fresh_without_our_help(workshop: Workshop) -> None:
    """Copies of it inside extensions are out of our reach; they know a fork by the pid."""
    dependency = """
import ctypes, ctypes.util, ssl
crypto = ctypes.CDLL("libcrypto.so.3")
def some():
    buffer = ctypes.create_string_buffer(16)
    assert crypto.RAND_bytes(buffer, 16) == 1
    return buffer.raw.hex()
some()
ssl.RAND_add = lambda *_: None
"""
    agent = workshop.agent(dependency, "import dependency; print(dependency.some())")
    template = await workshop.template(agent)
    assert len({await workshop.said(agent, template) for _ in range(3)}) == 3


async def test_a_variable_that_was_read_at_import_must_be_the_same(workshop: Workshop) -> None:
    dependency = "import os\nMODE = os.environ.get('MODE', 'none')"
    agent = workshop.agent(dependency, "import dependency; print(dependency.MODE)")
    template = await workshop.template(agent)
    assert await workshop.said(agent, template) == "none\n"
    other = agent | {"environment": agent["environment"] | {"MODE": "loud", "OTHER": "x"}}
    running = await workshop.start(other, template)
    assert running.sandbox.record.template is None
    assert "MODE was read while modules were imported" in running.sandbox.ordinary_because
    assert (await running.end()).code == 0
    assert running.output == "loud\n"
    await running.sandbox.stop()
    of_its_own = await workshop.template(other)
    assert await workshop.said(other, of_its_own) == "loud\n"
    unread = {"environment": other["environment"] | {"OTHER": "y", "MORE": "z"}}
    assert await workshop.said(other | unread, of_its_own) == "loud\n"


UNFIT = {
    "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()":
    "starts threads when imported: dependency",
    "f = open('/tmp/x', 'w')": "keeps files open when imported: dependency",
    "import socket\ns = socket.socketpair()": "keeps files open when imported: dependency",
    "import mmap\nm = mmap.mmap(-1, 4096)": "shares memory between processes when imported",
    "import os, time\nif os.fork() == 0: time.sleep(600)": "leaves processes running when imported",
    "import os, time\nif os.fork() == 0:\n os.setsid()\n if os.fork() == 0: time.sleep(600)\n"
    " os._exit(0)\nos.wait()": "leaves processes running when imported",
    "import os\nos._exit(0)": "it ended while it imported",
    "import time\nwhile True: time.sleep(1)": "imports for more than 1 s",
    "import os\nos.register_at_fork(before=lambda: any(iter(int, 1)))": "does not fork",
}  # fmt: skip


@pytest.mark.parametrize("dependency", UNFIT, ids=UNFIT.values())
async def test_what_cannot_be_forked_is_said_and_started_ordinarily(
    workshop: Workshop, dependency: str
) -> None:
    guarded = (
        f"import os\nif 'REAL' not in os.environ:\n {dependency.replace(chr(10), chr(10) + ' ')}"
    )
    agent = workshop.agent(guarded, "import dependency; print('well')")
    template = await workshop.template(agent, import_seconds_max=1 if "while" in dependency else 60)
    assert template.state == "unfit"
    assert UNFIT[dependency] in template.reason
    processes = HostView.of(workshop.ground.root / "boxes").processes
    assert not [each for each in processes if str(template.record.cgroup) in each[1]]
    assert not Path(template.spec.directory).exists()
    running = await workshop.start(agent | {"environment": {"REAL": "1"}}, template)
    assert UNFIT[dependency] in running.sandbox.ordinary_because
    assert (await running.end()).code == 0
    await running.sandbox.stop()


async def test_an_agents_own_module_that_hides_another_makes_it_unfit(workshop: Workshop) -> None:
    agent = workshop.agent("import queue", "import dependency, queue", queue="OWN = 1")
    template = await workshop.template(agent)
    assert template.state == "unfit"
    assert template.reason == "the agent's own modules hide others that are imported: queue"


async def test_a_template_is_for_its_own_agent_alone(workshop: Workshop) -> None:
    agent = workshop.agent("", "import dependency")
    template = await workshop.template(agent)
    other = workshop.agent("", "import dependency")
    for spec, reason in (
        (agent | {"mounts": other["mounts"]}, "lacks what the template has at /"),
        (agent | {"command": ("/usr/bin/env", "true")}, "runs /usr/bin/env"),
        (agent | {"command": (PYTHON, "-c", "")}, "its modules come from elsewhere"),
    ):
        assert reason in str(template.unsuited(workshop.ground.spec(**spec)))
    assert template.unsuited(workshop.ground.spec(**agent)) is None


async def test_a_writable_mount_and_limits_are_the_sessions_own(workshop: Workshop) -> None:
    main = """
import dependency, os, resource
open("/out/made", "w").write("x")
print(resource.getrlimit(resource.RLIMIT_NOFILE), os.statvfs("/tmp").f_blocks * 4096 >> 20)
"""
    agent = workshop.agent("", main)
    template = await workshop.template(agent)
    out = workshop.ground.root / f"out-{next(_numbers)}"
    out.mkdir()
    limits = Limits(open_files_max=77, memory_bytes_max=99 << 20, scratch_bytes_max=12 << 20)
    own = {"mounts": (*agent["mounts"], Mount(str(out), "/out", writable=True)), "limits": limits}
    assert await workshop.said(agent | own, template) == "(77, 77) 12\n"
    assert (out / "made").read_text() == "x"
    assert (out / "made").stat().st_uid == os.geteuid()
    hog = workshop.ground.spec(**agent | own)
    assert hog.limits.memory_bytes_max == 99 << 20


async def test_hostile_dependencies_have_no_powers_before_or_after(workshop: Workshop) -> None:
    """Code of a layer runs in the template, and is the first to run in a session."""
    dependency = f"""
import ctypes, errno, json, os
libc = ctypes.CDLL(None, use_errno=True)
def attempt(number, *arguments):
    result = libc.syscall(number, *arguments)
    if result == 0 and number == 56: os._exit(1)
    return errno.errorcode[ctypes.get_errno()] if result == -1 else "done"
def look():
    status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
    return [
        sorted({{int(status[f"Cap{{kind}}"], 16) for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")}}),
        status["Uid"].split(), status["NoNewPrivs"].strip(), status["Seccomp"].strip(),
        attempt(272, 0x10000000), attempt(56, 0x10000011, 0, 0, 0, 0),
        attempt(56, {int(FORK_FLAGS)}, 0, 0, 0, 0), attempt(165, b"x", b"/tmp", b"tmpfs", 0, 0),
    ]
AT_IMPORT, AFTER = look(), []
os.register_at_fork(after_in_child=lambda: AFTER.append(
    [look(), sorted(os.listdir("/proc/self/fd"))[:4], os.listdir("/tmp"), os.getcwd(),
     [pid for pid in os.listdir("/proc") if pid.isdigit()]]))
open("/tmp/left-by-the-template", "w").close()
"""
    agent = workshop.agent(
        dependency,
        "import dependency, json\nprint(json.dumps([dependency.AT_IMPORT, *dependency.AFTER]))",
    )
    template = await workshop.template(agent)
    at_import, after = json.loads(await workshop.said(agent, template))
    powerless = [[0], ["1000"] * 4, "1", "2", "EPERM", "ENOSYS", "ENOSYS", "EPERM"]
    assert at_import == powerless
    assert after == [powerless, ["0", "1", "2", "3"], [], "/", ["1", "2"]]


@pytest.mark.parametrize("templated", [True, False])
async def test_what_is_mounted_by_mistake_cannot_be_opened(
    workshop: Workshop, templated: bool
) -> None:
    """Landlock: the second lock, where the first is that nothing else is mounted."""
    if not landlock.usable() or os.geteuid() != 0:
        pytest.skip("this kernel has no Landlock, or nobody here may mount")
    server = """
import dependency, os, socket
def attempt(act):
    try: return type(act()).__name__
    except OSError as error: return type(error).__name__
server = socket.create_server(("127.0.0.1", 8080))
server.accept(), server.accept()
for path in ("/run/secret", "/usr/bin/env"): print(attempt(lambda: open(path, "rb").read(1)))
for path in ("/run/new", "/tmp/new"): print(attempt(lambda: open(path, "w")))
os.mkdir("/tmp/a"), os.mkdir("/tmp/b"), open("/tmp/a/x", "w").close()
os.rename("/tmp/a/x", "/tmp/b/x"), os.truncate("/tmp/b/x", 3), os.symlink("/tmp/b", "/tmp/c")
print(os.stat("/tmp/c/x").st_size, sorted(os.listdir("/tmp")))
"""
    agent = workshop.agent("", server)
    running = await workshop.start(agent, await workshop.template(agent) if templated else None)
    assert running.sandbox.record.init
    with await running.reachable():
        pass  # it runs, and is confined
    mount = "mount -t tmpfs by-mistake /run && echo of-the-host > /run/secret && chmod -R 777 /run"
    enter = ["nsenter", f"--mount=/proc/{running.sandbox.record.init.pid}/ns/mnt"]
    mistake = await asyncio.create_subprocess_exec(*enter, "/bin/sh", "-c", mount)
    assert await mistake.wait() == 0
    with await running.reachable():
        assert (await running.end()).code == 0, running.output
    await running.sandbox.stop()
    assert running.output.splitlines() == [
        "PermissionError", "bytes", "PermissionError", "TextIOWrapper", "3 ['a', 'b', 'c', 'new']"
    ]  # fmt: skip


async def test_the_template_itself_is_a_sandbox_and_never_runs_again(workshop: Workshop) -> None:
    agent = workshop.agent(
        "import signal\nsignal.signal(signal.SIGALRM, lambda *_: print('ran'))\nsignal.alarm(1)",
        f"import dependency\n{WAIT}",
    )
    template = await workshop.template(agent)
    process = processes_of(template)[-1]
    status = Path(f"/proc/{process}/status").read_text()
    assert "State:\tt (tracing stop)" in status
    assert "Threads:\t1\n" in status
    assert "Seccomp:\t2\n" in status
    assert "CapEff:\t0000000000000000" in status
    if os.geteuid() == 0:
        assert f"Uid:\t{template.record.uid}\t" in status
    for kind in ("user", "mnt", "pid", "net", "ipc", "uts"):
        ours = Path(f"/proc/self/ns/{kind}").readlink()
        assert Path(f"/proc/{process}/ns/{kind}").readlink() != ours
    assert template.usage().memory_peak_bytes
    running = await workshop.start(agent, template)
    await running.says("up")
    spent = template.usage().cpu_seconds
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(running.sandbox.wait(), 1.2)  # the alarm rings
    assert "ran" not in Path(template.spec.output).read_text()
    assert template.usage().cpu_seconds == spent
    await running.sandbox.stop()


def processes_of(template: ContainerTemplate) -> list[int]:
    """Its pid 1, and the process that sessions are copies of, which is not theirs."""
    assert template.record.init
    init = template.record.init.pid
    own = Path(f"/proc/{init}/ns/pid").readlink()
    below = Path(f"/proc/{init}/task/{init}/children").read_text().split()
    return [init, *(int(p) for p in below if Path(f"/proc/{p}/ns/pid").readlink() == own)]


async def test_sessions_outlive_their_template(workshop: Workshop) -> None:
    agent = workshop.agent("", f"import dependency\n{WAIT}")
    template = await workshop.template(agent)
    running = await workshop.start(agent, template)
    await running.says("up")
    await template.close()
    assert template.state == "closed"
    assert template.unsuited(running.spec)
    with pytest.raises(ConnectionRefusedError):
        await running.sandbox.connect(8080)  # it lives, and listens to nothing
    later = await workshop.start(agent, template)
    assert later.sandbox.ordinary_because == "the template is closed: it was closed"
    await later.sandbox.stop()
    await running.sandbox.stop()
    async with asyncio.timeout(SECONDS_MAX):
        while Path(template.spec.directory).exists():  # cleared away with its last session
            await asyncio.sleep(0.005)


async def test_a_template_that_is_killed_takes_no_session_with_it(workshop: Workshop) -> None:
    agent = workshop.agent("", f"import dependency\n{WAIT}")
    template = await workshop.template(agent, spares=0)
    running = await workshop.start(agent, template)
    await running.says("up")
    os.kill(processes_of(template)[-1], signal.SIGKILL)
    async with asyncio.timeout(SECONDS_MAX):
        while template.state == "ready":
            await asyncio.sleep(0.005)
    assert (template.state, template.reason) == ("unfit", "its process ended")
    later = await workshop.start(agent, template)
    assert later.sandbox.record.template is None
    for each in (running, later):
        with pytest.raises(ConnectionRefusedError):
            await each.sandbox.connect(8080)
        await each.sandbox.stop()
    await template.close()
    assert not Path(template.spec.directory).exists()


async def test_a_forker_that_is_killed_takes_no_session_with_it(workshop: Workshop) -> None:
    agent = workshop.agent("", f"import dependency\n{WAIT}")
    template = await workshop.template(agent)
    running = await workshop.start(agent, template)
    await running.says("up")
    assert isinstance(workshop.driver, ContainerDriver)
    forker = workshop.driver._templates.forker_pid
    assert forker
    os.kill(forker, signal.SIGKILL)
    async with asyncio.timeout(SECONDS_MAX):
        while template.state == "ready":
            await asyncio.sleep(0.005)
    with pytest.raises(ConnectionRefusedError):
        await running.sandbox.connect(8080)
    again = await workshop.template(agent)
    assert again.state == "ready"
    assert workshop.driver._templates.forker_pid != forker
    more = await workshop.start(agent, again)
    await more.says("up")
    for each in (running, more):
        await each.sandbox.stop()
    await template.close()
    assert not Path(template.spec.directory).exists()


@pytest.mark.parametrize("folder", ["vendor", "tools"])
async def test_own_modules_that_the_agent_puts_first_hide_none_unseen(
    workshop: Workshop, folder: str
) -> None:
    agent = workshop.agent(
        "import calendar", "import dependency, sys\nsys.path.insert(0, 'vendor')"
    )
    code = Path(agent["mounts"][0].source) / folder
    code.mkdir()
    (code / "calendar.py").write_text("")
    if folder == "tools":  # a package, which is on no path
        (code / "__init__.py").write_text("")
    template = await workshop.template(agent)
    hides = "the agent's own modules hide others that are imported: calendar"
    assert template.reason == ("" if folder == "tools" else hides)
    await template.close()


async def test_a_session_that_is_killed_before_its_release_harms_no_other(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when it is stopped while it starts."""
    agent = workshop.agent("", f"import dependency\n{WAIT}")
    template = await workshop.template(agent)
    assert isinstance(workshop.driver, ContainerDriver)
    forks = workshop.driver._templates._forks
    forker, told = workshop.driver._templates.forker_pid, forks.told

    async def killed_first(what: str, pid: int) -> None:
        if what == "release":
            (payload,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            os.kill(int(payload), signal.SIGKILL)
            async with asyncio.timeout(SECONDS_MAX):
                while "TracerPid:\t0\n" not in Path(f"/proc/{payload}/status").read_text():
                    await asyncio.sleep(0.005)
        await told(what, pid)

    monkeypatch.setattr(forks, "told", killed_first)
    running = await workshop.start(agent, template)
    monkeypatch.undo()
    assert running.sandbox.ordinary_because == "the session ended while it was set up"
    again = await workshop.start(agent, template)
    assert again.sandbox.record.template == template.id
    assert workshop.driver._templates.forker_pid == forker
    for each in (running, again):
        await each.says("up")
        await each.sandbox.stop()
    await template.close()


FEED = """
import os, socket, stat
for number in range(3, 20):
    try:
        if stat.S_ISSOCK(os.fstat(number).st_mode):
            feed = socket.socket(fileno=os.dup(number))
    except OSError:
        pass
"""
VFORK = """
import ctypes, json, time
note = json.dumps(dict(threads=[], descriptors=[], shadowed=[], reads=[])).encode()
if ctypes.PyDLL(None).vfork() == 0:
    feed.send(note)
    time.sleep(600)
"""


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        ("feed.send(b'{')", "says what makes no sense when imported"),
        ("feed.send(b'[' * 50_000)", "says what makes no sense when imported"),
        ("feed.send(b'{\"reads\": 1}')", "says what makes no sense when imported"),
        (VFORK, "does not stop within 2 s"),
    ],
)
async def test_what_a_hostile_dependency_says_harms_no_other_template(
    workshop: Workshop, does: str, reason: str
) -> None:
    agent = workshop.agent("", f"import dependency\n{WAIT}")
    template = await workshop.template(agent)
    assert isinstance(workshop.driver, ContainerDriver)
    forker = workshop.driver._templates.forker_pid
    hostile = await workshop.template(workshop.agent(FEED + does, "import dependency"))
    assert (hostile.state, hostile.reason) == ("unfit", reason)
    assert workshop.driver._templates.forker_pid == forker
    running = await workshop.start(agent, template)
    assert running.sandbox.record.template == template.id
    await running.says("up")
    await running.sandbox.stop()
    for each in (template, hostile):
        await each.close()


async def test_a_spare_is_taken_and_made_again_and_ends_with_its_template(
    workshop: Workshop,
) -> None:
    agent = workshop.agent("", "import dependency, os; print(os.getpid())")
    before = HostView.of(workshop.ground.root / "boxes")
    template = await workshop.template(agent, spares=1)
    taken = []
    for _ in range(3):
        await spare_of(workshop, template)
        running = await workshop.start(agent, template)
        taken.append(running.sandbox.record.cgroup)
        assert (await running.end()).code == 0
        assert running.output == "2\n"
        await running.sandbox.stop()
    assert all(group.startswith("spare.") for group in taken)
    assert len(set(taken)) == 3
    await spare_of(workshop, template)
    await template.close()
    async with asyncio.timeout(SECONDS_MAX):
        while Path(template.spec.directory).exists():  # a spare may have been dying
            await asyncio.sleep(0.005)
    after = HostView.of(workshop.ground.root / "boxes")
    assert after.groups <= before.groups  # one of an earlier test's may still have been dying
    assert after.processes == before.processes
    assert list((workshop.ground.root / "driver" / "spares").iterdir()) == []


async def spare_of(workshop: Workshop, template: ContainerTemplate) -> int:
    """The pid of the session that is begun already."""
    assert isinstance(workshop.driver, ContainerDriver)
    async with asyncio.timeout(SECONDS_MAX):
        while not (pids := workshop.driver._templates.spares(template.id)):
            await asyncio.sleep(0.005)
    return pids[0]


async def test_more_at_once_than_there_are_spares(workshop: Workshop) -> None:
    agent = workshop.agent("", f"import dependency\n{WAIT}")
    template = await workshop.template(agent, spares=2)
    running = await asyncio.gather(*(workshop.start(agent, template) for _ in range(12)))
    assert all(each.sandbox.record.template for each in running)
    assert len({each.sandbox.record.uid for each in running}) == (12 if os.geteuid() == 0 else 1)
    for each in running:
        await each.says("up")
        await each.sandbox.stop()
    await template.close()


async def test_a_dead_spare_is_no_hindrance(workshop: Workshop) -> None:
    agent = workshop.agent("", "import dependency; print('well')")
    template = await workshop.template(agent, spares=1)
    os.kill(await spare_of(workshop, template), signal.SIGKILL)
    running = await workshop.start(agent, template)
    assert (await running.end()).code == 0
    assert running.output == "well\n"
    await running.sandbox.stop()
    await template.close()


async def test_a_killed_platform_leaves_sessions_and_no_template(workshop: Workshop) -> None:
    ground, agent = workshop.ground, workshop.agent("", f"import dependency\n{WAIT}")
    spec = ground.spec(**agent)
    program = f"""
import asyncio, pathlib, sys, msgspec
sys.path[:0] = {[str(Path(__file__).parent)]!r}
import sandbox_ground
from freehold.ports.sandbox import SandboxSpec, TemplateSpec
sandbox_ground.CGROUP = {os.environ.get("NONE") or __import__("sandbox_ground").CGROUP!r}
async def main():
    driver = sandbox_ground.make_driver("container", pathlib.Path({str(ground.root / "driver")!r}))
    spec = msgspec.json.decode(sys.argv[1], type=SandboxSpec)
    template = await driver.prepare(TemplateSpec(id="orphan", command=spec.command,
        mounts=spec.mounts, environment=spec.environment, directory=spec.directory + "-template",
        output="/dev/null"))
    sandbox = await driver.start(spec, template)
    assert sandbox.record.template
    await asyncio.sleep(0.5)  # by now a spare is there
    print("started", template.record.init.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""
    platform = await asyncio.create_subprocess_exec(
        __import__("sys").executable, "-c", program, msgspec_line(spec),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert platform.stdout
    async with asyncio.timeout(SECONDS_MAX):
        _, init = (await platform.stdout.readline()).split()
    platform.send_signal(signal.SIGKILL)
    await platform.wait()
    found = await workshop.driver.adopt(spec)
    assert found is not None
    # Only the session is left below the template's pid 1: neither the template nor a spare.
    async with asyncio.timeout(SECONDS_MAX):
        while len(Path(f"/proc/{int(init)}/task/{int(init)}/children").read_text().split()) != 1:
            await asyncio.sleep(0.005)
    kept = {spec.id, *(record.id for record in all_templates(workshop) if record.id != "orphan")}
    assert "orphan" not in await workshop.driver.sweep(kept)  # it holds the session together
    with pytest.raises(ConnectionRefusedError):
        await found.connect(8080)
    await found.stop()
    async with asyncio.timeout(SECONDS_MAX):
        while "orphan" in {record.id for record in all_templates(workshop)}:
            await asyncio.sleep(0.005)
    assert not Path(spec.directory + "-template").exists()


def all_templates(workshop: Workshop) -> list[Any]:
    assert isinstance(workshop.driver, ContainerDriver)
    return workshop.driver._templates._records.all()


def msgspec_line(spec: object) -> str:
    import msgspec

    return msgspec.json.encode(spec).decode()


async def test_a_template_has_one_name_at_a_time(workshop: Workshop) -> None:
    agent = workshop.agent("", "")
    template = await workshop.template(agent)
    assert isinstance(workshop.driver, ContainerDriver)
    with pytest.raises(SandboxFailed, match="exists already"):
        await workshop.driver.prepare(template.spec)
    await template.close()
    await template.close()
    again = await workshop.driver.prepare(template.spec)
    assert again.state == "ready"
    await again.close()


async def test_options_of_the_interpreters_own_are_honoured(workshop: Workshop) -> None:
    agent = workshop.agent("", "")
    agent["command"] = (PYTHON, "-c", "")
    template = await workshop.template(agent, modules=("json",))
    script = "import sys; print(sys.flags.isolated, sys.argv)"
    own = agent | {"command": (PYTHON, "-I", "-c", script, "x")}
    assert await workshop.said(own, template) == "1 ['-c', 'x']\n"
    module = agent | {"command": (PYTHON, "-m", "this")}
    assert "Namespaces are one honking great idea" in await workshop.said(module, template)
