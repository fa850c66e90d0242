"""From a bundle to what sessions start from: with real pip, in real sandboxes."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest
from build_ground import LIMITS, Common, Workshop, common, workshop_of

from freehold.services.runtime.build import Builder, BuildFailed, operator_index


@pytest.fixture(scope="module")
def shared() -> Iterator[Common]:
    with common() as made:
        yield made


@pytest.fixture(params=["container", "process"])
async def workshop(request: pytest.FixtureRequest, shared: Common) -> AsyncIterator[Workshop]:
    async with workshop_of(request.param, shared) as (made, probe):
        if not probe.available:
            pytest.skip(probe.detail)
        yield made


isolated = pytest.mark.parametrize("workshop", ["container"], indirect=True)


async def test_requirements_become_a_compiled_layer_that_nobody_can_write(
    workshop: Workshop,
) -> None:
    workshop.publish_wheel("greeting", "1.0", "hello = 'hello'\ndef main(): ...\n")
    request = await workshop.request(
        {"requirements.txt": "greeting\n", "package/module.py": "x = 1\n", "broken.py": "x ="}
    )
    result = await workshop.builder().build(request)

    assert result.layer_dir is not None
    assert await workshop.imports(result, "import greeting; print(greeting.hello)") == "hello"
    assert (result.code_dir / "main.py").read_text() == "print('main')\n"
    assert list((result.layer_dir / "__pycache__").glob("greeting.*.pyc"))
    assert list((result.code_dir / "package/__pycache__").glob("module.*.pyc"))
    assert (result.layer_dir / "bin/greeting-tool").stat().st_mode & 0o777 == 0o555
    assert result.interpreter == workshop.interpreter.name
    assert result.fallback_from is None
    for tree in (result.code_dir, result.layer_dir):
        for path in (tree, *tree.rglob("*")):
            assert not path.stat().st_mode & 0o222, path
            assert path.stat().st_mode & 0o444 == 0o444, path
    assert "Successfully installed greeting-1.0" in result.log_path.read_text()
    assert workshop.leftovers() == []


@isolated
async def test_a_layer_tells_nothing_of_where_it_was_built(workshop: Workshop) -> None:
    workshop.publish_wheel("greeting", "1.0", "def where(): ...\n")
    result = await workshop.builder().build(
        await workshop.request({"requirements.txt": "greeting\n"})
    )
    assert result.layer_dir is not None
    for path in result.layer_dir.rglob("*.pyc"):
        assert str(workshop.top).encode() not in path.read_bytes()


@isolated
async def test_the_same_requirements_again_run_no_pip(workshop: Workshop) -> None:
    workshop.publish_wheel("greeting", "1.0", "")
    builder = workshop.builder()
    files = {"requirements.txt": "greeting\n"}
    first = await builder.build(await workshop.request(files))
    again = await builder.build(await workshop.request(files))
    # Another bundle and another process of the platform, with the same requirements.
    other = await workshop.builder().build(await workshop.request({**files, "other.py": ""}))

    assert workshop.driver.installs == 1
    assert (again.code_dir, again.layer_dir) == (first.code_dir, first.layer_dir)
    assert other.layer_dir == first.layer_dir
    assert other.code_dir != first.code_dir


@isolated
async def test_two_identical_builds_at_once_do_the_work_once(workshop: Workshop) -> None:
    workshop.publish_wheel("greeting", "1.0", "")
    builder = workshop.builder()
    files = {"requirements.txt": "greeting\n"}
    requests = [await workshop.request(files) for _ in range(4)]
    results = await asyncio.gather(*(builder.build(request) for request in requests))

    assert (workshop.driver.installs, workshop.driver.compiles) == (1, 1)
    assert len({(result.code_dir, result.layer_dir) for result in results}) == 1


@isolated
async def test_two_processes_with_identical_builds_at_once_end_with_one_layer(
    workshop: Workshop,
) -> None:
    workshop.publish_wheel("greeting", "1.0", "")
    requests = [await workshop.request({"requirements.txt": "greeting\n"}) for _ in range(2)]
    results = await asyncio.gather(*(workshop.builder().build(request) for request in requests))
    assert workshop.driver.installs == 2
    assert len({(result.code_dir, result.layer_dir) for result in results}) == 1
    assert workshop.leftovers() == []


@isolated
async def test_tenants_share_nothing(workshop: Workshop) -> None:
    workshop.publish_wheel("greeting", "1.0", "")
    builder = workshop.builder()
    files = {"requirements.txt": "greeting\n"}
    first = await builder.build(await workshop.request(files, tenant="111122223333"))
    second = await builder.build(await workshop.request(files, tenant="444455556666"))
    assert workshop.driver.installs == 2
    assert first.layer_dir != second.layer_dir
    assert first.code_dir != second.code_dir


@isolated
async def test_a_range_is_resolved_anew_once_the_answer_is_old(workshop: Workshop) -> None:
    files = {"requirements.txt": "greeting>=1\n"}
    workshop.publish_wheel("greeting", "1.0", "version = 1\n")
    first = await workshop.builder().build(await workshop.request(files))
    workshop.publish_wheel("greeting", "1.1", "version = 2\n")
    soon = await workshop.builder().build(await workshop.request(files))
    old = workshop.builder(limits=msgspec.structs.replace(LIMITS, resolved_days_max=0))
    later = await old.build(await workshop.request(files))

    assert soon.layer_dir == first.layer_dir
    assert await workshop.imports(later, "import greeting; print(greeting.version)") == "2"
    assert await workshop.imports(first, "import greeting; print(greeting.version)") == "1"


@isolated
async def test_different_words_for_the_same_packages_lead_to_one_layer(workshop: Workshop) -> None:
    workshop.publish_wheel("greeting", "1.0", "def f(): return {'a', 'b', 'c'}\n")
    builder = workshop.builder()
    first = await builder.build(await workshop.request({"requirements.txt": "greeting\n"}))
    project = "[project]\nname = 'x'\ndependencies = ['greeting==1.0']\n"
    second = await builder.build(await workshop.request({"pyproject.toml": project}))
    assert workshop.driver.installs == 2
    assert second.layer_dir is not None and first.layer_dir is not None
    kept = {
        str(path.relative_to(second.layer_dir)): path.read_bytes()
        for path in second.layer_dir.rglob("*.py")
    }
    assert kept == {
        str(path.relative_to(first.layer_dir)): path.read_bytes()
        for path in first.layer_dir.rglob("*.py")
    }


@isolated
async def test_a_bundle_that_carries_its_dependencies_needs_no_layer(workshop: Workshop) -> None:
    request = await workshop.request({"vendored/__init__.py": "x = 1\n"})
    result = await workshop.builder().build(request)
    assert result.layer_dir is None
    assert workshop.driver.installs == 0


@isolated
async def test_the_bundles_own_wheels_and_projects_can_be_required(workshop: Workshop) -> None:
    project = "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"
    backend = (
        "import zipfile\n"
        "def build_wheel(directory, *_args, **_named):\n"
        "    open('scratch', 'w').close()\n"  # builders do write beside their sources
        "    name = 'mine-1-py3-none-any.whl'\n"
        "    with zipfile.ZipFile(directory + '/' + name, 'w') as wheel:\n"
        "        wheel.writestr('mine.py', 'x = 7')\n"
        "        i = 'mine-1.dist-info/'\n"
        "        text = 'Metadata-Version: 2.1\\nName: mine\\nVersion: 1\\n'\n"
        "        wheel.writestr(i + 'METADATA', text)\n"
        "        wheel.writestr(i + 'WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\n')\n"
        "        wheel.writestr(i + 'RECORD', '')\n"
        "    return name\n"
    )
    request = await workshop.request(
        {
            "requirements.txt": "-r deeper/more.txt\n",
            "deeper/more.txt": "./mine\n",
            "mine/pyproject.toml": project + "[project]\nname = 'mine'\nversion = '1'\n",
            "mine/backend.py": backend,
        }
    )
    result = await workshop.builder().build(request)
    assert await workshop.imports(result, "import mine; print(mine.x)") == "7"
    assert not (result.code_dir / "mine/scratch").exists()


async def test_a_requirement_that_cannot_be_had_fails_with_pips_last_words(
    workshop: Workshop,
) -> None:
    request = await workshop.request({"requirements.txt": "no-such-package==3\n"})
    with pytest.raises(BuildFailed, match=r"requirements\.txt could not be installed") as failure:
        await workshop.builder().build(request)
    assert any("No matching distribution found" in line for line in failure.value.log_tail)
    assert "No matching distribution found" in str(failure.value)
    assert "failed: requirements.txt could not be installed" in workshop.log(request)
    assert workshop.leftovers() == []


@isolated
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"key": "absent.zip"}, "there is no 'absent.zip' in the bucket 'bundles'"),
        ({"bucket": "absent"}, "in the bucket 'absent'"),
        ({"entry_point": ("absent.py",)}, "entry point 'absent.py' is not in the bundle"),
        ({"entry_point": ("../main.py",)}, "is not in the bundle"),
        ({"entry_point": ()}, "is not in the bundle"),
        ({"runtime": "PYTHON_2_7"}, "PYTHON_2_7 is not on this machine. There is: PYTHON_3_"),
        ({"runtime": "NODE_22", "fallback": True}, "NODE_22 is not on this machine"),
    ],
)
async def test_what_was_asked_wrongly_is_said(
    workshop: Workshop, change: dict[str, object], reason: str
) -> None:
    request = msgspec.structs.replace(await workshop.request({}), **change)
    with pytest.raises(BuildFailed, match=reason):
        await workshop.builder().build(request)
    assert workshop.driver.installs == 0


@isolated
async def test_a_fallback_interpreter_is_the_nearest_and_the_result_says_so(
    workshop: Workshop,
) -> None:
    real = workshop.interpreter
    names = ("PYTHON_3_10", "PYTHON_3_12", "PYTHON_3_14", "NODE_22")
    builder = workshop.builder(
        interpreters={name: msgspec.structs.replace(real, name=name) for name in names}
    )
    request = await workshop.request({}, runtime="PYTHON_3_13", fallback=True)
    result = await builder.build(request)
    assert (result.interpreter, result.fallback_from) == ("PYTHON_3_14", "PYTHON_3_13")
    assert "PYTHON_3_14 instead" in workshop.log(request)


@isolated
async def test_a_bundle_above_the_limit_is_refused(workshop: Workshop) -> None:
    small = msgspec.structs.replace(LIMITS, zip_bytes_max=100)
    with pytest.raises(BuildFailed, match="the bundle is larger than"):
        await workshop.builder(limits=small).build(await workshop.request({"x": "y" * 1000}))


@isolated
async def test_a_wrapped_entry_point_and_a_module_are_taken(workshop: Workshop) -> None:
    builder = workshop.builder()
    wrapped = ("opentelemetry-instrument", "main.py")
    await builder.build(await workshop.request({}, entry_point=wrapped))
    await builder.build(await workshop.request({}, entry_point=("-m", "main")))


HOLDS_ON = "import time\nprint('building', flush=True)\ntime.sleep(600)\n"


async def test_a_build_that_takes_too_long_is_ended(workshop: Workshop) -> None:
    workshop.publish_sdist("slow", HOLDS_ON)
    limits = msgspec.structs.replace(LIMITS, seconds_max=3)
    request = await workshop.request({"requirements.txt": "slow\n"})
    with pytest.raises(BuildFailed, match="took longer than 3 s"):
        await workshop.builder(limits=limits).build(request)
    assert workshop.leftovers() == []
    assert await workshop.driver.sweep(set()) == []


async def _begun(workshop: Workshop, builder: Builder) -> "asyncio.Task[object]":
    """A build, held up inside a package's own code."""
    request = await workshop.request({"requirements.txt": "slow\n"})
    build = asyncio.create_task(builder.build(request))
    async with asyncio.timeout(30):
        while not workshop.driver.installs and not build.done():
            await asyncio.sleep(0.02)
    await workshop.log_says(request, "Getting requirements to build wheel")
    return build


async def test_a_cancelled_build_leaves_nothing_and_can_be_run_again(workshop: Workshop) -> None:
    workshop.publish_sdist("slow", HOLDS_ON)
    builder = workshop.builder()
    build = await _begun(workshop, builder)
    build.cancel()
    with pytest.raises(asyncio.CancelledError):
        await build
    assert workshop.leftovers() == []
    assert await workshop.driver.sweep(set()) == []

    workshop.publish_sdist("slow", "")
    result = await builder.build(await workshop.request({"requirements.txt": "slow\n"}))
    assert await workshop.imports(result, "import slow; print(slow.built)") == "True"


@isolated
async def test_a_build_that_fills_the_disk_is_ended(workshop: Workshop) -> None:
    workshop.publish_sdist(
        "greedy",
        "import os\nfile = open(os.environ['TMPDIR'] + '/x', 'wb')\n"
        "while True: file.write(bytes(1 << 20))\n",
    )
    limits = msgspec.structs.replace(LIMITS, layer_bytes_max=64 << 20)
    request = await workshop.request({"requirements.txt": "greedy\n"})
    with pytest.raises(BuildFailed, match="wrote more than 64 MiB"):
        await workshop.builder(limits=limits).build(request)
    assert workshop.leftovers() == []


@isolated
async def test_a_memory_bomb_ends_the_build_and_nothing_else(workshop: Workshop) -> None:
    workshop.publish_sdist("hungry", "x = []\nwhile True: x.append(bytearray(16 << 20))\n")
    request = await workshop.request({"requirements.txt": "hungry\n"})
    with pytest.raises(BuildFailed):
        await workshop.builder().build(request)
    assert workshop.leftovers() == []


@isolated
async def test_a_flood_of_output_is_bounded_and_its_end_is_kept(workshop: Workshop) -> None:
    # The last line of a failed build's output is what pip shows last, so it has to come last.
    flood = "import sys\nfor n in range(20_000): print('flood', n)\nsys.exit('the end')\n"
    workshop.publish_sdist("loud", flood)
    limits = msgspec.structs.replace(LIMITS, log_bytes_max=20_000)
    request = await workshop.request({"requirements.txt": "loud\n"})
    with pytest.raises(BuildFailed) as failure:
        await workshop.builder(limits=limits).build(request)
    log = workshop.log(request)
    assert len(log) < 60_000
    assert "lines left out]" in log
    assert any("Failed to build" in line for line in failure.value.log_tail)
    assert failure.value.log_tail[-1] in log


SPY = """
import os, socket, sys, urllib.request
def attempt(what, act):
    try:
        answer = act()
    except BaseException as error:
        answer = "no: " + type(error).__name__
    print("spy:", what, answer, file=sys.stderr, flush=True)
def connect(host, port):
    socket.create_connection((host, port), timeout=3).close()
    return "connected"
attempt("secret", lambda: open({secret!r}).read())
attempt("shadow", lambda: open("/etc/shadow").read())
attempt("direct", lambda: connect("127.0.0.1", {port}))
attempt("metadata", lambda: connect("169.254.169.254", 80))
attempt("name", lambda: socket.getaddrinfo("example.com", 80))
attempt("proxy", lambda: urllib.request.urlopen("http://127.0.0.1:{port}/", timeout=5).read())
attempt("mounted", lambda: open({code!r} + "/planted", "w").close())
attempt("capabilities", lambda: [l for l in open("/proc/self/status") if "CapEff" in l][0][8:-1])
attempt("environment", lambda: sorted(name for name in os.environ if "CANARY" in name))
sys.exit("spy: done")
"""


@isolated
async def test_a_packages_own_code_sees_nothing_of_the_host_and_reaches_nobody(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = 0

    async def accepted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.close()

    monkeypatch.setenv("CANARY", "x")
    secret = workshop.top / "secret"
    secret.write_text("canary")
    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    workshop.publish_sdist(
        "spy", SPY.format(secret=str(secret), port=port, code="/opt/freehold-build/code")
    )
    request = await workshop.request({"requirements.txt": "spy\n"})
    with pytest.raises(BuildFailed):
        await workshop.builder().build(request)
    server.close()
    said = {
        words[1]: " ".join(words[2:])
        for line in workshop.log(request).splitlines()
        if (words := line.split("spy:")[-1].split())[:1] != ["done"]
        and "spy: " in line
        and (words := ["", *words])
    }
    assert said == {
        "secret": "no: FileNotFoundError",
        "shadow": "no: FileNotFoundError",
        "direct": "no: ConnectionRefusedError",
        "metadata": "no: OSError",
        "name": "no: gaierror",
        "proxy": "no: HTTPError",
        "mounted": "no: OSError",
        "capabilities": "0000000000000000",
        "environment": "[]",
    }
    assert f"egress to 127.0.0.1:{port} is not allowed" in workshop.log(request)
    assert connections == 0


@isolated
async def test_a_real_package_comes_through_the_operators_own_index(workshop: Workshop) -> None:
    request = await workshop.request({"requirements.txt": "six\n"})
    try:
        result = await workshop.builder(index=operator_index).build(request)
    except BuildFailed as failure:
        if "No matching distribution" in str(failure) or "not reachable" in str(failure):
            pytest.skip(f"no package index can be reached here: {failure.reason}")
        raise
    assert await workshop.imports(result, "import six; print(six.PY3)") == "True"
