"""Unpacking bundles: what comes out of a good one, and that nothing comes out of a hostile one."""

import io
import os
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from freehold.services.runtime.build.model import BuildFailed, BuildLimits
from freehold.services.runtime.build.unpack import unpack

LIMITS = BuildLimits(
    zip_bytes_max=4 << 20, unpacked_bytes_max=8 << 20, entries_max=100, ratio_max=50
)
Fill = Callable[[zipfile.ZipFile], None]


def entry(name: str, mode: int = 0, system: int = 3) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.filename = name  # as it is: the constructor cuts it at a NUL
    info.orig_filename = name
    info.external_attr = mode << 16
    info.create_system = system
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


def archive(tmp_path: Path, fill: Fill) -> Path:
    path = tmp_path / "bundle.zip"
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        warnings.simplefilter("ignore")  # of a name that is there twice
        fill(bundle)
    return path


def files(*names: str) -> Fill:
    def fill(bundle: zipfile.ZipFile) -> None:
        for name in names:
            bundle.writestr(entry(name, 0o644), b"x")

    return fill


def link(name: str, leads_to: str) -> Fill:
    return lambda bundle: bundle.writestr(entry(name, stat.S_IFLNK | 0o777), leads_to)


def both(*fills: Fill) -> Fill:
    def fill(bundle: zipfile.ZipFile) -> None:
        for each in fills:
            each(bundle)

    return fill


def test_files_directories_modes_and_links_come_out_as_they_went_in(tmp_path: Path) -> None:
    def fill(bundle: zipfile.ZipFile) -> None:
        bundle.writestr(entry("./main.py", stat.S_IFREG | 0o644), b"print(1)")
        bundle.writestr(entry("bin/tool", stat.S_IFREG | 0o755), b"#!/bin/sh\n")
        bundle.writestr(entry("package//deep/module.py", system=0), b"deep")
        bundle.writestr(entry("empty/", stat.S_IFDIR | 0o755), b"")
        bundle.writestr(entry("set", stat.S_IFREG | 0o6755), b"suid")
        bundle.writestr(entry("latest", stat.S_IFLNK | 0o777), b"package/deep")
        bundle.writestr(entry("package/up.py", stat.S_IFLNK | 0o777), b"../main.py")
        bundle.writestr(entry("naïve ☃.txt"), b"unicode")

    target = tmp_path / "out"
    unpack(archive(tmp_path, fill), target, LIMITS)

    found = {str(path.relative_to(target)) for path in target.rglob("*")}
    assert found == {
        *("main.py", "bin", "bin/tool", "package", "package/deep", "package/deep/module.py"),
        *("empty", "set", "latest", "package/up.py", "naïve ☃.txt"),
    }
    assert (target / "main.py").read_bytes() == b"print(1)"
    assert os.access(target / "bin/tool", os.X_OK)
    assert not (target / "main.py").stat().st_mode & 0o111
    assert not (target / "set").stat().st_mode & 0o7000
    assert (target / "latest/module.py").read_bytes() == b"deep"
    assert (target / "package/up.py").read_bytes() == b"print(1)"


def many(count: int) -> Fill:
    return files(*(f"f{n}" for n in range(count)))


def zeros(name: str, size: int) -> Fill:
    return lambda bundle: bundle.writestr(entry(name), bytes(size))


HOSTILE: dict[str, tuple[Fill, str]] = {
    "a path above": (files("../evil"), "leads out of it"),
    "a path above from within": (files("a/../../evil"), "leads out of it"),
    "dots that cancel out": (files("a/../b"), "leads out of it"),
    "an absolute path": (files("/etc/evil"), "absolute path"),
    "a drive": (files("C:/evil"), "absolute path"),
    "backslashes": (files("..\\evil"), "character that may not be"),
    "a newline": (files("a\nb"), "character that may not be"),
    "a right-to-left override": (files("a\u202eyp.exe"), "character that may not be"),
    "a name that is too long": (files("n" * 256), "too long"),
    "a path that is too deep": (files("/".join("d" * 65)), "too long"),
    "too many entries": (many(101), "entries"),
    "one name twice": (files("a", "b", "a"), "more than once"),
    "one name twice, spelt apart": (files("d/a", "d/./a"), "more than once"),
    "names alike but case": (files("Main.py", "main.py"), "alike but case"),
    "directories alike but case": (files("Lib/a", "lib/b"), "alike but case"),
    "names alike but form": (files("caf\u00e9", "cafe\u0301"), "alike but case"),
    "a file, then a directory": (files("a", "a/b"), "as a file and as a directory"),
    "a directory, then a file": (files("a/b", "a"), "more than once"),
    "a link to an absolute path": (link("l", "/etc/passwd"), "leads out of it"),
    "a link above": (link("l", "../x"), "leads out of it"),
    "a link above from within": (link("a/b/l", "../../../x"), "leads out of it"),
    "a link that comes back up": (link("a/l", "b/../../../x"), "leads out of it"),
    "a link up through a link": (
        both(link("a/b/up", "../.."), link("a/b/l", "up/../x")),
        "leads out of it",
    ),
    "a file through a link": (both(link("l", "d"), files("d/x", "l/x")), "as a directory"),
    "a link in a file's place": (both(files("l/x"), link("l", "d")), "more than once"),
    "an empty link": (link("l", ""), "leads out of it"),
    "a link that is too long": (link("l", "x" * 2000), "too long"),
    "a character device": (
        lambda bundle: bundle.writestr(entry("null", stat.S_IFCHR | 0o666), b""),
        "a device",
    ),
    "a FIFO": (lambda bundle: bundle.writestr(entry("p", stat.S_IFIFO | 0o666), b""), "a device"),
    "a socket": (
        lambda bundle: bundle.writestr(entry("s", stat.S_IFSOCK | 0o666), b""),
        "a device",
    ),
    "a bomb of one file": (zeros("bomb", 7 << 20), "times its size"),
    "more than may be": (
        lambda bundle: [bundle.writestr(f"f{n}", os.urandom(3 << 20)) for n in range(3)],  # type: ignore[func-returns-value]
        "unpacks to more than 8 MiB",
    ),
    "a compression of another kind": (
        lambda bundle: bundle.writestr("x", b"x" * 100, compress_type=zipfile.ZIP_LZMA),
        "compression other than deflate",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_bundle_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    fill, reason = HOSTILE[name]
    with pytest.raises(BuildFailed, match=reason):
        unpack(archive(tmp_path, fill), tmp_path / "out", LIMITS)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle.zip"]


def patched(content: bytes, change: Callable[[bytearray, int], None]) -> bytes:
    """`content` with its first central directory record changed."""
    data = bytearray(content)
    change(data, data.index(b"PK\x01\x02"))
    return bytes(data)


def zipped(fill: Fill) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        fill(bundle)
    return buffer.getvalue()


def encrypt(data: bytearray, record: int) -> None:
    data[record + 8] |= 1


def shrink(data: bytearray, record: int) -> None:
    struct.pack_into("<L", data, record + 24, 10)  # says 10 bytes, holds more


def large_directory(data: bytearray, record: int) -> None:
    end = data.rindex(b"PK\x05\x06")
    struct.pack_into("<L", data, end + 12, 1 << 30)


GOOD = zipped(lambda bundle: bundle.writestr("main.py", b"print('hello')" * 100))

BROKEN: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "not a zip file"),
    "another file": (b"#!/bin/sh\n" * 100, "not a zip file"),
    "half of one": (GOOD[: len(GOOD) // 2], "not a zip file"),
    "an encrypted one": (patched(GOOD, encrypt), "encrypted"),
    "a lie about a size": (patched(GOOD, shrink), "not a readable zip file"),
    "a directory of 1 GiB": (patched(GOOD, large_directory), "too many entries"),
    "flipped bytes": (
        GOOD[:45] + bytes(byte ^ 0xFF for byte in GOOD[45:55]) + GOOD[55:],
        "not a readable zip file",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_not_a_whole_plain_zip_is_refused(tmp_path: Path, name: str) -> None:
    content, reason = BROKEN[name]
    path = tmp_path / "bundle.zip"
    path.write_bytes(content)
    with pytest.raises(BuildFailed, match=reason):
        unpack(path, tmp_path / "out", LIMITS)


def test_a_zip64_archive_is_read(tmp_path: Path) -> None:
    def fill(bundle: zipfile.ZipFile) -> None:
        with bundle.open(entry("main.py"), "w", force_zip64=True) as file:
            file.write(b"x" * 1000)

    path = archive(tmp_path, fill)
    unpack(path, tmp_path / "out", LIMITS)
    assert (tmp_path / "out" / "main.py").stat().st_size == 1000


def test_text_that_compresses_well_is_no_bomb(tmp_path: Path) -> None:
    unpack(archive(tmp_path, zeros("small", 1 << 20)), tmp_path / "out", LIMITS)
    assert (tmp_path / "out" / "small").stat().st_size == 1 << 20
