"""What a machine starts from, made by our own code."""

import gzip
import lzma
import struct
import subprocess
from pathlib import Path

import pytest

from freehold.adapters.sandbox.vm import boot, qemu
from freehold.adapters.sandbox.vm.cpio import Archive
from freehold.adapters.sandbox.vm.qemu import Descriptors
from freehold.ports.sandbox import Limits

KERNEL = b"\x7fELF" + bytes(range(256)) * 100


def image(payload: bytes) -> bytes:
    """A bzImage as far as it matters here."""
    head = bytearray(2 * 512)
    head[0x1F1] = 1
    struct.pack_into("<II", head, 0x248, 64, len(payload))
    return bytes(head) + bytes(64) + payload + b"what follows"


@pytest.mark.parametrize(
    "payload",
    [gzip.compress(KERNEL) + struct.pack("<I", len(KERNEL)),
     lzma.compress(KERNEL) + struct.pack("<I", len(KERNEL))],
    ids=["gzip", "xz"],
)  # fmt: skip
def test_the_kernel_is_taken_out_of_its_image(payload: bytes) -> None:
    assert boot.uncompressed(image(payload)) == KERNEL


@pytest.mark.parametrize("payload", [b"\x01\x02\x03\x04", b"\xfd7zXZ\x00broken", b"\x1f\x8bbroken"])
def test_an_image_that_cannot_be_read_is_left_to_unpack_itself(payload: bytes) -> None:
    assert boot.uncompressed(image(payload)) == image(payload)


def test_an_archive_is_what_cpio_reads(tmp_path: Path) -> None:
    busybox = next(
        (Path(p) for p in ("/bin/busybox", boot.FOLDER / "busybox") if Path(p).exists()), None
    )
    if busybox is None:
        pytest.skip("needs a busybox")
    archive = Archive()
    archive.file("deep/er/program", b"#!/bin/sh\n", 0o755)
    archive.link("deep/link", "er/program")
    archive.folder("empty")
    subprocess.run(
        [busybox, "cpio", "-id"], input=archive.finished(), cwd=tmp_path, check=True,
        capture_output=True,
    )  # fmt: skip
    assert (tmp_path / "deep/er/program").read_bytes() == b"#!/bin/sh\n"
    assert (tmp_path / "deep/er/program").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "deep/link").readlink() == Path("er/program")
    assert (tmp_path / "empty").is_dir()


def test_what_is_not_installed_is_said_with_what_to_do(tmp_path: Path) -> None:
    assert str(boot.missing(tmp_path)).startswith(
        "install what machines are made of: sudo sh scripts/install-vm.sh"
    )


def arguments(limits: Limits, *, emulated: bool = True) -> list[str]:
    shape = qemu.shape(limits, (("serial", "/disk"),), emulated=emulated)
    given = Descriptors(control=3, qmp=4, output=5, kernel=6, first_files=7, disks=(8,))
    return list(qemu.arguments("qemu", shape, given, share=False, incoming=False))


@pytest.mark.parametrize("emulated", [True, False])
def test_a_machine_has_no_network_no_shared_folder_and_disks_that_are_only_read(
    emulated: bool,
) -> None:
    line = arguments(Limits(), emulated=emulated)
    devices = {line[n + 1].partition(",")[0] for n, each in enumerate(line) if each == "-device"}
    assert devices == {"virtio-serial-device", "virtserialport", "virtio-blk-device"}
    assert not {"-netdev", "-nic", "-net", "-fsdev", "-virtfs", "-usb", "-vnc"} & set(line)
    assert {"-nodefaults", "-no-user-config"} <= set(line)
    disks = [line[n + 1] for n, each in enumerate(line) if each == "-blockdev"]
    assert all("read-only=on" in disk for disk in disks)
    assert "spawn=deny" in line[line.index("-sandbox") + 1]
    assert ("kvm" in line) != emulated


def test_the_command_gets_all_its_memory_and_the_host_bounds_the_rest() -> None:
    limits = Limits(memory_bytes_max=512 << 20, cpus_max=1.5, processes_max=10_000)
    shape = qemu.shape(limits, (), emulated=False)
    assert shape.memory_bytes > limits.memory_bytes_max
    assert shape.processors == 2
    whole = qemu.on_the_host(limits, shape)
    assert shape.memory_bytes < whole.memory_bytes_max < 2 * shape.memory_bytes
    assert whole.cpus_max < 2
    assert whole.processes_max < 1000
