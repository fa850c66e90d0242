"""What a machine starts from: a kernel, and a first file system with our program for it.

`scripts/install-vm.sh` puts a distribution's kernel, a few of its modules and a static busybox into
one folder. From there it takes a tenth of a second to find the machine's disks.
"""

import hashlib
import lzma
import os
import shutil
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from freehold.adapters.sandbox.vm import guest
from freehold.adapters.sandbox.vm.cpio import Archive

FOLDER = Path("/usr/local/lib/freehold/vm")
INSTALL = "install what machines are made of: sudo sh scripts/install-vm.sh"

# In the order in which they are loaded.
MODULES = ("virtio_ring", "virtio", "virtio_mmio", "virtio_blk", "virtio_console", "libcrc32c",
           "erofs", "overlay")  # fmt: skip
_OPTIONAL = ("libcrc32c", "virtio_ring", "virtio")  # built in, in some kernels
_PROGRAM = ("frames", "kernel_calls", "line", "streams", "tree", "cell", "commands",
            "agent")  # fmt: skip
_GZIP = 31  # as zlib names the format
_PACKAGE = "freehold/adapters/sandbox/vm/guest"
_ROOT_LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")

_INIT = """#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
for module in {modules}; do $b insmod /modules/$module.ko; done
$b mount -t tmpfs -o mode=755,size=32m root /root
{links}
disk() {{
    for block in /sys/block/vd*; do
        [ "$($b cat $block/serial)" = "$1" ] || continue
        $b mkdir -p "/root$2"
        $b mount -t erofs -o ro,nosuid,nodev "/dev/${{block##*/}}" "/root$2"
    done
}}
{disks}
$b mkdir -p /root/dev /root/proc /root/sys /root/run /root/guest
$b cp -r /guest /root
for each in dev proc sys; do $b mount --move /$each /root/$each; done
exec $b switch_root /root {python} -I -S -c '{start}'
"""
_START = (
    "import sys; sys.path.insert(0, '\"'\"'/guest'\"'\"');"
    " from freehold.adapters.sandbox.vm.guest import agent; agent.main()"
)


class Boot(msgspec.Struct, frozen=True):
    """`digest` names everything that a snapshot of such a machine depends on."""

    kernel: str
    first_files: str
    digest: str


def missing(folder: Path) -> str | None:
    """What an operator has to do first; None when nothing."""
    needed = [folder / "vmlinuz", folder / "busybox"]
    needed += [folder / f"{name}.ko" for name in MODULES if name not in _OPTIONAL]
    absent = [path for path in needed if not path.exists()]
    return f"{INSTALL} ({absent[0]} is not there)" if absent else None


def prepared(folder: Path, cache: Path, *, python: str, disks: Iterable[tuple[str, str]]) -> Boot:
    """`disks`: (serial, mount point) of those that `python` needs to run. Blocks; made once."""
    cache.mkdir(parents=True, exist_ok=True, mode=0o711)
    image = (folder / "vmlinuz").read_bytes()
    kernel = _kept(cache / f"vmlinux-{_digest(image)}", lambda: uncompressed(image))
    content = first_files(folder, python, disks)
    archive = _kept(cache / f"first-files-{_digest(content)}", lambda: content)
    return Boot(str(kernel), str(archive), _digest(f"{kernel.name} {archive.name}".encode()))


def first_files(folder: Path, python: str, disks: Iterable[tuple[str, str]]) -> bytes:
    """A cpio archive."""
    archive = Archive()
    archive.file("bin/busybox", (folder / "busybox").read_bytes(), 0o755)
    for name in ("dev", "proc", "sys", "root"):
        archive.folder(name)
    archive.device("dev/console", 5, 1)
    modules = [name for name in MODULES if (folder / f"{name}.ko").exists()]
    for name in modules:
        archive.file(f"modules/{name}.ko", (folder / f"{name}.ko").read_bytes())
    here = Path(guest.__file__).parent
    for name in _PROGRAM:
        archive.file(f"guest/{_PACKAGE}/{name}.py", (here / f"{name}.py").read_bytes())
    for part in range(1, len(_PACKAGE.split("/")) + 1):
        archive.file(f"guest/{'/'.join(_PACKAGE.split('/')[:part])}/__init__.py", b"")
    init = _INIT.format(
        modules=" ".join(modules),
        links="\n".join(f"$b ln -s {to} /root/{name}" for name, to in system_links().items()),
        disks="\n".join(f"disk {serial} {target}" for serial, target in disks),
        python=python,
        start=_START,
    )
    archive.file("init", init.encode(), 0o755)
    return archive.finished()


def system_links() -> dict[str, str]:
    """Of the host's root into its /usr."""
    paths = [Path("/", name) for name in _ROOT_LINKS]
    return {path.name: str(path.readlink()) for path in paths if path.is_symlink()}


def uncompressed(image: bytes) -> bytes:
    """The ELF kernel in a bzImage, or the image itself where it cannot be had.

    The kernel could unpack itself, for a second of every emulated boot.
    """
    sectors, (offset, length) = image[0x1F1] or 4, struct.unpack_from("<II", image, 0x248)
    start = (sectors + 1) * 512 + offset
    payload = image[start : start + length]
    try:
        if payload.startswith(b"\x1f\x8b"):
            kernel = zlib.decompressobj(_GZIP).decompress(payload)
        elif payload.startswith(b"\xfd7zXZ"):
            kernel = lzma.LZMADecompressor().decompress(payload)
        elif payload.startswith(b"\x02!L\x18"):
            kernel = _filtered("lz4", payload)
        elif payload.startswith(b"(\xb5/\xfd"):
            kernel = _filtered("zstd", payload)
        else:
            kernel = b""
    except (OSError, lzma.LZMAError, zlib.error):
        kernel = b""
    return kernel if kernel.startswith(b"\x7fELF") else image


def _filtered(program: str, payload: bytes) -> bytes:
    if not shutil.which(program):
        return b""
    # What follows the stream (the kernel's size) is an error to both, after all is out.
    return subprocess.run([program, "-dc"], input=payload, capture_output=True, check=False).stdout


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _kept(path: Path, make: Callable[[], bytes]) -> Path:
    if not path.exists():
        descriptor, fresh = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(make())
        Path(fresh).chmod(0o644)  # QEMU opens it as another user
        Path(fresh).replace(path)
    return path
