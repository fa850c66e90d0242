"""What a machine is made of, and what its agent is to do, for one spec."""

import base64
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from freehold.adapters.sandbox import image_root, template
from freehold.adapters.sandbox.container import etc, seccomp
from freehold.adapters.sandbox.launcher import LAUNCHER_FILE
from freehold.adapters.sandbox.template.templates import template_environment
from freehold.adapters.sandbox.vm import boot, guest, qemu
from freehold.adapters.sandbox.vm.boot import Boot
from freehold.adapters.sandbox.vm.guest import cell
from freehold.adapters.sandbox.vm.images import Image, Images
from freehold.adapters.sandbox.vm.template import launched
from freehold.ports.interpreters import Interpreter
from freehold.ports.sandbox import LAUNCHER, Mount, SandboxFailed, SandboxSpec, TemplateSpec

_FOLDER = Path(LAUNCHER).parent
_IMPORTING = (
    Path(guest.__file__).with_name("prepared.py"),
    Path(template.__file__).with_name("inside.py"),
    Path(template.__file__).with_name("needs.py"),
)
_SYSTEM_PYTHON = "/usr/bin/python3"


class Plan(msgspec.Struct, frozen=True):
    """`job` makes all that the command needs. It can go without a word about the session."""

    boot: Boot
    shape: qemu.Shape
    job: dict[str, Any]


class Planner:
    """`folder` is what install-vm.sh filled; `cache` may be shared by drivers."""

    def __init__(
        self,
        *,
        folder: Path,
        cache: Path,
        cache_bytes_max: int,
        interpreters: Mapping[str, Interpreter],
    ) -> None:
        self._folder = folder
        self._cache = cache
        self._images = Images(cache, cache_bytes_max)
        self._interpreters = interpreters

    def boot(self) -> Boot:
        """Blocks; seconds the first time."""
        return self._boot()[0]

    def plan(self, spec: SandboxSpec | TemplateSpec, *, emulated: bool) -> Plan:
        """Blocks: as long as it takes to make disks of what was never seen before."""
        started, bound = self._boot()
        folder = spec.root if isinstance(spec, SandboxSpec) else None
        root = self._images.of(image_root.files(folder), cell.UID) if folder else None
        visible = self._system_files(spec.command[0], bound) if root is None else self._own_names()
        mounted = [(self._images.of(each.source), each) for each in visible]
        mounted += [(self._images.of(each.source, cell.UID), each) for each in spec.mounts]
        every = [*(i for i, _ in bound), *(i for i, _ in mounted), *([root] if root else ())]
        images = {image.serial: image for image in every}
        if len(images) > qemu.IMAGES_MAX:
            raise SandboxFailed(f"a machine has room for {qemu.IMAGES_MAX} different mounts")
        disks = tuple((serial, image.path) for serial, image in images.items())
        job = self._job(spec, mounted, [target for _, target in bound])
        job["root"] = root.serial if root else None
        return Plan(started, qemu.shape(spec.limits, disks, emulated=emulated), job)

    def _system_files(self, executable: str, bound: list[tuple[Image, str]]) -> list[Mount]:
        """Beside the disks that the machine has anyway."""
        own = {target for _, target in bound}
        asked = self._interpreters.get(executable)
        visible = [mount for mount in asked.mounts if mount.target not in own] if asked else []
        return [Mount(str(etc.prepared(self._cache)), "/etc"), *visible]

    def _own_names(self) -> list[Mount]:
        """What takes the place of files of a container image."""
        folder = etc.prepared(self._cache)
        return [Mount(str(folder / name), f"/etc/{name}") for name in image_root.OWN_FILES]

    def _boot(self) -> tuple[Boot, list[tuple[Image, str]]]:
        python, mounts = self._own_python()
        bound = [(self._images.system(), "/usr")]
        bound += [(self._images.of(mount.source), mount.target) for mount in mounts]
        disks = [(image.serial, target) for image, target in bound]
        return boot.prepared(self._folder, self._cache, python=python, disks=disks), bound

    def _own_python(self) -> tuple[str, tuple[Mount, ...]]:
        """For the machine's agent; the system's, or else one that agents may ask for."""
        if Path(_SYSTEM_PYTHON).exists():
            return _SYSTEM_PYTHON, ()
        for interpreter in self._interpreters.values():
            if interpreter.name.startswith("PYTHON"):
                return interpreter.executable, interpreter.mounts
        raise SandboxFailed("a machine's own program needs a Python: apt-get install python3")

    def _job(
        self,
        spec: SandboxSpec | TemplateSpec,
        mounted: Iterable[tuple[Image, Mount]],
        bound: list[str],
    ) -> dict[str, Any]:
        imports = _imports(spec) if isinstance(spec, TemplateSpec) else None
        files = [LAUNCHER_FILE, *(_IMPORTING if imports else ())]
        return {
            "links": boot.system_links(),
            "bound": bound,
            "files": {str(_FOLDER / file.name): file.read_text() for file in files},
            "filter": base64.b64encode(seccomp.program()).decode(),
            "limits": msgspec.to_builtins(spec.limits),
            "prepared": imports,
            "environment": template_environment(spec) if isinstance(spec, TemplateSpec) else {},
            "images": [
                {
                    "serial": image.serial,
                    "file": image.file,
                    "target": mount.target,
                    "writable": mount.writable,
                }
                for image, mount in mounted
            ],
        }


def _imports(spec: TemplateSpec) -> list[str] | None:
    """The program that imports ahead; None of what is no Python: its machine is ahead, at least."""
    if "python" not in Path(spec.command[0]).name:
        return None
    config = {"launched": launched(spec.command), "modules": [[name] for name in spec.modules]}
    program = str(_FOLDER / "prepared.py")
    return [spec.command[0], "-u", program, msgspec.json.encode(config).decode()]
