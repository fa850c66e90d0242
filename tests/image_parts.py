"""Images made here: layers from lists of entries, in OCI layouts."""

import functools
import gzip
import hashlib
import io
import json
import platform
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import zstandard

MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"

Entry = tuple[tarfile.TarInfo, bytes]


def file(name: str, content: bytes | str = b"", mode: int = 0o644, **more: Any) -> Entry:
    data = content.encode() if isinstance(content, str) else content
    return _entry(name, tarfile.REGTYPE, mode=mode, size=len(data), **more), data


def directory(name: str, mode: int = 0o755) -> Entry:
    return _entry(name, tarfile.DIRTYPE, mode=mode), b""


def symlink(name: str, target: str) -> Entry:
    return _entry(name, tarfile.SYMTYPE, linkname=target), b""


def hardlink(name: str, target: str) -> Entry:
    return _entry(name, tarfile.LNKTYPE, linkname=target), b""


def device(name: str) -> Entry:
    return _entry(name, tarfile.BLKTYPE, devmajor=8, devminor=0), b""


def _entry(name: str, kind: bytes, **more: Any) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type = kind
    for attribute, value in more.items():
        setattr(entry, attribute, value)
    return entry


def layer(*entries: Entry) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry, content in entries:
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Made:
    """An image as its blobs by digest; `root` is the digest of its manifest or index."""

    def __init__(
        self,
        layers: Sequence[bytes],
        *,
        compression: str = "gzip",
        run: dict[str, Any] | None = None,
        architecture: str = MACHINE,
        diff_ids: Sequence[str] | None = None,
        index: bool = False,
    ) -> None:
        self.blobs: dict[str, bytes] = {}
        self.media_types: dict[str, str] = {}
        packed = [{"gzip": _gzip, "zstd": _zstd, "": bytes}[compression](each) for each in layers]
        suffix = f"+{compression}" if compression else ""
        configuration = {
            "os": "linux",
            "architecture": architecture,
            "config": {"Cmd": ["/bin/agent"], **(run or {})},
            "rootfs": {
                "type": "layers",
                "diff_ids": [digest(each) for each in layers] if diff_ids is None else diff_ids,
            },
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self._add(json.dumps(configuration).encode(), CONFIG),
            "layers": [self._add(each, LAYER + suffix) for each in packed],
        }
        self.manifest = manifest
        descriptor = self._add(json.dumps(manifest).encode(), MANIFEST)
        self.digest = self.root = str(descriptor["digest"])
        if index:
            other = self._add(json.dumps({**manifest, "layers": []}).encode(), MANIFEST)
            described = {
                "schemaVersion": 2,
                "mediaType": INDEX,
                "manifests": [
                    {**other,
                     "platform": {"os": "linux", "architecture": "riscv64"}},
                    {**descriptor, "platform": {"os": "linux", "architecture": architecture}},
                ],
            }  # fmt: skip
            self.root = str(self._add(json.dumps(described).encode(), INDEX)["digest"])

    def _add(self, content: bytes, media_type: str) -> dict[str, Any]:
        name = digest(content)
        self.blobs[name], self.media_types[name] = content, media_type
        return {"mediaType": media_type, "digest": name, "size": len(content)}

    def layout(self, folder: Path, tag: str | None = "1") -> Path:
        (folder / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        for name, content in self.blobs.items():
            (folder / "blobs" / name.replace(":", "/")).write_bytes(content)
        described = {
            "mediaType": self.media_types[self.root],
            "digest": self.root,
            "size": len(self.blobs[self.root]),
        }
        if tag is not None:
            described["annotations"] = {"org.opencontainers.image.ref.name": tag}
        index = {"schemaVersion": 2, "manifests": [described]}
        (folder / "index.json").write_text(json.dumps(index))
        (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        return folder


def _gzip(content: bytes) -> bytes:
    return gzip.compress(content, compresslevel=1, mtime=0)


def _zstd(content: bytes) -> bytes:
    return zstandard.compress(content)


_LOADED = """
import encodings.idna, http.server, json, os, socket, sys, traceback, urllib.request
files = {module.__file__ for module in sys.modules.values() if getattr(module, "__file__", None)}
print(json.dumps(sorted(files)))
"""


def python_image(agent: str, **options: Any) -> Made:
    """An agent on the Python that runs this: the files that it loads, and no others."""
    python = str(Path(sys.executable).resolve())
    own = layer(directory("srv"), file("srv/agent.py", agent))
    run = {"Entrypoint": [python, "-I", "-S", "-u"], "Cmd": ["agent.py"], "WorkingDir": "/srv",
           "Env": ["PATH=/usr/bin:/bin", "FROM_IMAGE=yes"], "User": "somebody"}  # fmt: skip
    return Made([_python_layer(python), own], run=run, **options)


@functools.cache
def _python_layer(python: str) -> bytes:
    """What a base image would be."""
    line = [python, "-I", "-S", "-c", _LOADED]
    loaded = json.loads(subprocess.run(line, check=True, capture_output=True).stdout)
    paths = {python, *loaded, *_libraries([python, *loaded])}
    return layer(*(file(path, Path(path).read_bytes(), 0o755) for path in sorted(paths)))


def _libraries(programs: Iterable[str]) -> set[str]:
    elf = [path for path in programs if Path(path).read_bytes()[:4] == b"\x7fELF"]
    said = subprocess.run(["ldd", *elf], check=False, capture_output=True, text=True).stdout
    return set(re.findall(r"(/\S+) \(0x", said))
