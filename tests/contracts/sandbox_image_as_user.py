"""Run as a normal user by test_sandbox_images: fetch, unpack, run, write, end."""

import asyncio
import sys
from pathlib import Path

from sandbox_ground import HostView, ground_of, nothing_is_left

from freehold.adapters.egress.addresses import denied
from freehold.adapters.images import ImageStore
from freehold.adapters.images.reach import Reach
from image_parts import python_image

CODE = """
import os
open("/srv/agent.py", "a").write("# more")
os.mkdir("/etc/new")
os.remove("/srv/agent.py")
print("it could", os.listdir("/srv"))
"""


async def main(tier: str, root: Path) -> None:
    layout = python_image(CODE).layout(root / "layout")
    store = ImageStore(
        root / "images",
        reach=Reach(denied=denied, forbidden=denied),
        layout_directories=(root / "layout",),
    )
    image = await store.fetch(f"oci:{layout}:1", note=lambda _: None)
    (root / "ground").mkdir()
    async with ground_of(tier, root / "ground") as ground:
        assert (await ground.driver.probe()).available  # the driver's own files are there then
        before = HostView.of(ground.root)
        options = {"command": image.config.command, "workdir": image.config.workdir}
        for _ in range(2):
            end, output = await ground.run("", root=str(image.folder), **options)
            assert (end.code, output.strip()) == (0, "it could []"), output
        assert nothing_is_left(before, ground.root)
    print("all well")


asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
