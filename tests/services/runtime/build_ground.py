"""What the build suites stand on: real sandboxes, bundles, and packages made here."""

import asyncio
import base64
import contextlib
import hashlib
import io
import os
import shutil
import tempfile
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from freehold.adapters.blobs.filesystem import FilesystemBlobs
from freehold.adapters.egress import ForwardProxy
from freehold.adapters.sandbox.container import ContainerDriver
from freehold.adapters.sandbox.interpreters import InstalledInterpreters
from freehold.adapters.sandbox.process import ProcessDriver
from freehold.ports.interpreters import Interpreter
from freehold.ports.sandbox import Limits, Probe, Sandbox, SandboxDriver, SandboxSpec
from freehold.services.runtime.build import (
    Builder,
    BuildLimits,
    BuildRequest,
    BuildResult,
    PackageIndex,
    operator_index,
)
from freehold.services.runtime.build.tools import prepare_tools
from freehold.services.runtime.build.tree import BuildTree

LIMITS = BuildLimits(
    seconds_max=60, sandbox=Limits(memory_bytes_max=512 << 20, scratch_bytes_max=32 << 20)
)


class Counted:
    """A driver that counts what it is asked to start, by the word after the script."""

    def __init__(self, driver: SandboxDriver) -> None:
        self.tier = driver.tier
        self.driver = driver
        self.installs = 0
        self.compiles = 0

    async def start(self, spec: SandboxSpec) -> Sandbox:
        self.installs += "install" in spec.command
        self.compiles += "compile" in spec.command
        return await self.driver.start(spec)

    async def probe(self) -> Probe:
        return await self.driver.probe()

    async def adopt(self, spec: SandboxSpec) -> Sandbox | None:
        return await self.driver.adopt(spec)

    async def sweep(self, keep: set[str]) -> list[str]:
        return await self.driver.sweep(keep)

    async def close(self) -> None:
        await self.driver.close()


class Workshop:
    """A build root with everything around it. `wheels` is the operator's only index."""

    def __init__(self, top: Path, driver: SandboxDriver, interpreter: Interpreter) -> None:
        self.top = top
        self.root = top / "builds"
        self.wheels = top / "wheels"
        self.wheels.mkdir()
        self.blobs = FilesystemBlobs(top / "blobs")
        self.driver = Counted(driver)
        self.interpreter = interpreter
        self._numbers = 0

    def pip_environment(self, **settings: str) -> dict[str, str]:
        """An operator's environment with these pip settings and no others."""
        kept = {name: os.environ[name] for name in ("PATH",) if name in os.environ}
        return {**kept, "HOME": str(self.top), "PIP_CONFIG_FILE": os.devnull, **settings}

    async def local_index(self) -> PackageIndex:
        return await operator_index(
            environ=self.pip_environment(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(self.wheels))
        )

    def builder(
        self,
        *,
        limits: BuildLimits = LIMITS,
        index: Callable[[], Awaitable[PackageIndex]] | None = None,
        interpreters: dict[str, Interpreter] | None = None,
    ) -> Builder:
        return Builder(
            root=self.root,
            blobs=self.blobs,
            driver=self.driver,
            egress=ForwardProxy(),
            interpreters=interpreters or {self.interpreter.name: self.interpreter},
            limits=limits,
            index=index or self.local_index,
        )

    async def request(
        self, files: dict[str, str], *, tenant: str = "111122223333", **options: Any
    ) -> BuildRequest:
        """With a bundle of `files` in the blobs."""
        self._numbers += 1
        await self.blobs.create_bucket(tenant, "bundles")
        key = f"bundle-{self._numbers}.zip"

        async def chunks() -> AsyncIterator[bytes]:
            yield zipped({"main.py": "print('main')\n", **files})

        await self.blobs.put(tenant, "bundles", key, chunks())
        options.setdefault("entry_point", ("main.py",))
        options.setdefault("runtime", self.interpreter.name)
        return BuildRequest(
            id=f"build-{self._numbers}", tenant=tenant, bucket="bundles", key=key, **options
        )

    def log(self, request: BuildRequest) -> str:
        return (self.root / "builds" / f"{request.id}.log").read_text()

    async def log_says(self, request: BuildRequest, text: str) -> None:
        async with asyncio.timeout(30):
            while text not in self.log(request):
                await asyncio.sleep(0.02)

    def leftovers(self) -> list[str]:
        """Of work in progress."""
        return [path.name for path in (self.root / "tmp").iterdir()]

    async def imports(self, result: BuildResult, code: str) -> str:
        """What `code` prints where the layer is on the path."""
        process = await asyncio.create_subprocess_exec(
            self.interpreter.executable,
            *("-I", "-c", f"import sys; sys.path[:0] = [{str(result.layer_dir)!r}]\n{code}"),
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 20)
        return output.decode().strip()

    def publish_wheel(self, name: str, version: str, module: str) -> None:
        (self.wheels / f"{name}-{version}-py3-none-any.whl").write_bytes(
            wheel(name, version, {f"{name}.py": module})
        )

    def publish_sdist(self, name: str, backend: str) -> None:
        """A source distribution whose own build code is `backend`: it needs no other package."""
        root = f"{name}-1.0"
        project = (
            "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"
            f"[project]\nname = '{name}'\nversion = '1.0'\n"
        )
        (self.wheels / f"{root}.zip").write_bytes(
            zipped(
                {
                    f"{root}/PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
                    f"{root}/pyproject.toml": project,
                    f"{root}/backend.py": backend + _BUILD_WHEEL.format(name=name),
                }
            )
        )


_BUILD_WHEEL = """
import zipfile

def build_wheel(directory, config_settings=None, metadata_directory=None):
    name = "{name}-1.0-py3-none-any.whl"
    info = "{name}-1.0.dist-info/"
    with zipfile.ZipFile(directory + "/" + name, "w") as wheel:
        wheel.writestr("{name}.py", "built = True\\n")
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0\\n")
        wheel.writestr(info + "WHEEL",
            "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return name
"""


def wheel(name: str, version: str, files: dict[str, str]) -> bytes:
    info = f"{name}-{version}.dist-info"
    contents = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name}-tool = {name}:main\n",
    }
    record = [f"{path},{_record_hash(text)},{len(text)}" for path, text in contents.items()]
    contents[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""])
    return zipped(contents)


def _record_hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def zipped(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            # One time for all: the same files are the same bundle.
            archive.writestr(zipfile.ZipInfo(name), text)
    return buffer.getvalue()


class Common:
    """What the workshops of a test run share: it takes seconds to make, and is never written."""

    def __init__(self, directory: Path) -> None:
        self.interpreter = _some_interpreter(directory)
        tree = BuildTree(directory / "builds")
        self.tools = prepare_tools(tree, directory / "staged")

    def give_tools(self, root: Path) -> None:
        target = root / "tools" / self.tools.name
        shutil.copytree(self.tools, target, copy_function=os.link)
        root.chmod(0o755)


def _some_interpreter(directory: Path) -> Interpreter:
    """A Python of this machine, one that every user can run before one that has to be copied."""
    for search in ((Path("/usr/bin"), Path("/usr/local/bin")), None):
        for name, found in InstalledInterpreters(directory, search).discover().items():
            if name.startswith("PYTHON"):
                return found
    raise AssertionError("this machine has no Python that agents could run on")


@contextlib.contextmanager
def common() -> Iterator[Common]:
    directory = Path(tempfile.mkdtemp(prefix="freehold-python-"))
    directory.chmod(0o711)
    try:
        yield Common(directory)
    finally:
        _remove(directory)


def _remove(top: Path) -> None:
    for directory, _, _ in os.walk(top):
        Path(directory).chmod(0o755)
    shutil.rmtree(top)


@contextlib.asynccontextmanager
async def workshop_of(tier: str, shared: Common) -> AsyncIterator[tuple[Workshop, Probe]]:
    top = Path(tempfile.mkdtemp(prefix="freehold-builds-"))
    top.chmod(0o711)
    interpreter = shared.interpreter
    driver: SandboxDriver = (
        ContainerDriver(
            directory=top / "driver",
            interpreters={interpreter.name: interpreter},
            cgroup=f"freehold-builds-{os.getpid()}",
        )
        if tier == "container"
        else ProcessDriver(directory=top / "driver")
    )
    made = Workshop(top, driver, interpreter)
    shared.give_tools(made.root)
    try:
        yield made, await driver.probe()
    finally:
        await driver.sweep(set())
        await driver.close()
        await made.blobs.close()
        _remove(top)
