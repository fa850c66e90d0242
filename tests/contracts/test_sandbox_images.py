"""Every tier that isolates runs an unpacked container image; nothing of it is left."""

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sandbox_ground import (
    PYTHON,
    SECONDS_MAX,
    SLOW_TIERS,
    Ground,
    HostView,
    ground_of,
    nothing_is_left,
)

from freehold.adapters.egress.addresses import denied
from freehold.adapters.images import ImageStore
from freehold.adapters.images.reach import Reach
from freehold.ports.images import Image
from freehold.ports.sandbox import Limits, SandboxFailed
from image_parts import python_image

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
async def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Whose command is Python with the code that follows."""
    top = tmp_path_factory.mktemp("images")
    for folder in (top, top.parent, top.parent.parent):  # pytest closes them to other users
        folder.chmod(0o711)
    made = python_image("print('by its own command')")
    folder = made.layout(top / "layout")
    store = ImageStore(
        top / "unpacked",
        reach=Reach(denied=denied, forbidden=denied),
        layout_directories=(top / "layout",),
    )
    return await store.fetch(f"oci:{folder}:1", note=lambda _: None)


@pytest.fixture(params=["container", "gvisor", *SLOW_TIERS[:1]])
async def ground(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ground]:
    # As far up as pytest made them: one more of them where several workers run.
    for folder in (tmp_path, *tmp_path.parents):
        folder.chmod(0o711)
        if folder.name.startswith("pytest-of-"):
            break
    root = tmp_path / "ground"
    root.mkdir()
    async with ground_of(request.param, root) as made:
        probe = await made.driver.probe()
        if not probe.available:
            pytest.skip(probe.detail)
        yield made


def code(image: Image, text: str) -> tuple[str, ...]:
    return (*image.config.command[:-1], "-c", text)


async def test_it_runs_its_own_command_in_its_own_place(ground: Ground, image: Image) -> None:
    end, output = await ground.run(
        "", root=str(image.folder), command=image.config.command, workdir=image.config.workdir
    )
    assert (end.code, output.strip()) == (0, "by its own command")


async def test_the_hosts_files_are_not_seen_and_its_own_can_be_written(
    ground: Ground, image: Image
) -> None:
    text = """
import os
print(os.getuid() in (1000, 0), os.path.exists("/usr/bin/env"), os.path.exists("/opt/freehold"))
os.rename("/srv/agent.py", "/srv/moved.py")
open("/srv/moved.py", "a").write("# more")
os.mkdir("/new"); open("/new/file", "w").write("x" * 1000)
os.remove("/srv/moved.py"); open("/etc/passwd", "a").write("x")
print(sorted(os.listdir("/srv")), sorted(os.listdir("/new")), open("/etc/hostname").read().strip())
"""
    for _ in range(2):  # the second sees nothing of the first
        end, output = await ground.run("", root=str(image.folder), command=code(image, text))
        assert (end.code, output.splitlines()) == (
            0, ["True False False", "[] ['file'] sandbox"]
        ), output  # fmt: skip


async def test_what_it_writes_is_limited(ground: Ground, image: Image) -> None:
    text = """
try:
    with open("/srv/large", "wb") as file:
        for _ in range(64):
            file.write(bytes(1 << 20))
except OSError as error:
    print("limited:", error.errno)
"""
    limits = Limits(memory_bytes_max=256 << 20, scratch_bytes_max=16 << 20)
    spec = {"root": str(image.folder), "command": code(image, text), "limits": limits}
    _, output = await ground.run("", **spec)
    assert output.startswith("limited: 28"), output


async def test_nothing_of_it_is_left(ground: Ground, image: Image) -> None:
    before = HostView.of(ground.root)
    sleeping = await ground.start(
        root=str(image.folder), command=code(image, "import time; time.sleep(600)")
    )
    assert HostView.of(ground.root).mounts == before.mounts, "its mounts are the host's"
    await sleeping.sandbox.stop()
    assert nothing_is_left(before, ground.root)
    assert list((image.folder / "session").iterdir()) == []


async def test_it_is_found_again_and_ended_by_another_process_of_ours(
    ground: Ground, image: Image
) -> None:
    sleeping = await ground.start(
        root=str(image.folder), command=code(image, "import time; time.sleep(600)")
    )
    await ground.replace_driver()
    found = await ground.driver.adopt(sleeping.spec)
    assert found is not None
    await found.stop()
    assert (await found.wait()).reason


async def test_an_image_that_is_gone_is_refused_with_its_name(ground: Ground) -> None:
    with pytest.raises(SandboxFailed, match="not there"):
        await ground.start(root=str(ground.root / "gone"), command=(PYTHON,))


@pytest.mark.parametrize("ground", ["process"], indirect=True)
async def test_the_process_tier_refuses_it(ground: Ground, image: Image) -> None:
    with pytest.raises(SandboxFailed, match="no container images"):
        await ground.start(root=str(image.folder), command=image.config.command)


@pytest.mark.skipif(os.geteuid() != 0, reason="already runs as a normal user")
@pytest.mark.parametrize("ground", ["container", "gvisor"], indirect=True)
async def test_it_works_as_a_normal_user(ground: Ground) -> None:
    """Whose overlay is made in a user namespace."""
    root = Path(tempfile.mkdtemp(prefix="freehold-image-user-"))
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    here = Path(__file__).parent
    path = [str(here.parents[1] / "src"), str(here.parent), str(here), packages]
    try:
        os.chown(root, 65534, 65534)
        process = await asyncio.create_subprocess_exec(
            *(PYTHON, str(here / "sandbox_image_as_user.py"), ground.tier, str(root)),
            user=65534,
            group=65534,
            extra_groups=[],
            env={"PYTHONPATH": ":".join(path), "PATH": os.environ["PATH"], "HOME": str(root)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(SECONDS_MAX * 2):
            output, _ = await process.communicate()
    finally:
        shutil.rmtree(root)
    assert output.decode().splitlines()[-1:] == ["all well"], output.decode()
