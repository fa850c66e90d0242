"""Where the weights of the local model are, and how they get there.

Two published files, each known by its hash, become three that are smaller and quicker to load; the
originals are not kept. A set of files appears under its name whole or not at all.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from freehold.adapters.embeddings import minilm
from freehold.adapters.embeddings.safetensors import NotSafetensors, read_safetensors

GRAPH, WORDS, VOCABULARY, RECORD = "model.onnx", "words.f16", "vocab.txt", "made.json"
SET = f"{minilm.NAME.lower()}-int8-1"
"""Name of the directory. Its number changes with what is made of the weights."""
COMMAND = "freehold embeddings fetch"

Told = Callable[[str], None]


class Published(msgspec.Struct, frozen=True):
    name: str
    sha256: str
    bytes: int


PUBLISHED = (
    Published(
        "model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        90_868_376,
    ),
    Published(
        "vocab.txt",
        "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        231_508,
    ),
)


class WeightsMissing(Exception):
    """They are not here, or not whole; the message says what to do."""


class FetchFailed(Exception):
    """No source had them; the message says what each of them answered."""


class Source(msgspec.Struct, frozen=True):
    """`fetch(directory, told)` puts the PUBLISHED files there. Raises FetchFailed."""

    name: str
    fetch: Callable[[Path, Told], None]


class Record(msgspec.Struct, frozen=True, rename="camel"):
    """What a set says of itself: from where it came, and the hash of each file."""

    model: str
    source: str
    files: dict[str, str]


class Status(msgspec.Struct, frozen=True, rename="camel"):
    state: Literal["ready", "missing", "broken"]
    model: str
    looked_in: tuple[str, ...]
    directory: str | None = None
    source: str | None = None
    bytes: int = 0
    why: str | None = None


def beside_python() -> Path:
    """For all platforms of one virtual environment: where set-up of this repository puts them."""
    return Path(sys.prefix) / "share" / "freehold" / "embeddings"


class Weights:
    """Looks into `homes` in their order; `put` writes into the first."""

    def __init__(
        self, homes: Sequence[Path], *, published: tuple[Published, Published] = PUBLISHED
    ) -> None:
        """`published`: the tensors and the vocabulary."""
        self._homes, self._published = tuple(homes), published

    def find(self) -> Path:
        """The directory of a whole set. Sizes are not looked at again: it was written whole."""
        for home in self._homes:
            if (home / SET / RECORD).is_file():
                return home / SET
        raise WeightsMissing(
            f"the weights of {minilm.NAME} are not on this machine; get them with: {COMMAND}"
        )

    @staticmethod
    def graph_of(found: Path) -> str:
        return str(found / GRAPH)

    @staticmethod
    def vocabulary_of(found: Path) -> Path:
        return found / VOCABULARY

    def status(self) -> Status:
        """Reads and hashes every file: some 50 ms."""
        looked = tuple(map(str, self._homes))
        try:
            found = self.find()
        except WeightsMissing as missing:
            return Status("missing", minilm.NAME, looked, why=str(missing))
        try:
            record = msgspec.json.decode((found / RECORD).read_bytes(), type=Record)
            wrong = [n for n, digest in record.files.items() if _digest(found / n) != digest]
        except (OSError, msgspec.DecodeError) as error:
            return Status("broken", minilm.NAME, looked, str(found), why=str(error))
        if wrong:
            why = f"{', '.join(wrong)} changed since: {COMMAND} --force"
            return Status("broken", minilm.NAME, looked, str(found), record.source, why=why)
        size = sum((found / name).stat().st_size for name in record.files)
        return Status("ready", minilm.NAME, looked, str(found), record.source, size)

    def put(self, sources: Sequence[Source], told: Told, *, force: bool = False) -> Status:
        """Fetches unless a whole set is here already. Raises FetchFailed.

        What a broken download had got is kept beside, for the next try to go on with.
        """
        home = self._homes[0]
        home.mkdir(parents=True, exist_ok=True)
        with (home / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # a second fetch waits, and finds what the first got
            status = self.status()
            if status.state == "ready" and not force:
                return status
            self._get(home, sources, told)
        return self.status()

    def _get(self, home: Path, sources: Sequence[Source], told: Told) -> None:
        partial = home / ".partial"
        partial.mkdir(exist_ok=True)
        source = self._fetched(sources, partial, told)
        told("Making the int8 model ...")
        tensors, vocabulary = (partial / file.name for file in self._published)
        _make(tensors, vocabulary, home, source.name)
        shutil.rmtree(partial, ignore_errors=True)

    def _fetched(self, sources: Sequence[Source], partial: Path, told: Told) -> Source:
        said = []
        for source in sources:
            try:
                source.fetch(partial, told)
                for file in self._published:
                    verify(partial / file.name, file)
            except FetchFailed as error:
                said.append(f"{source.name}: {error}")
                told(said[-1])
            else:
                return source
        raise FetchFailed("; ".join(said))


def verify(path: Path, file: Published) -> None:
    """Raises FetchFailed, and removes a file that is not the published one."""
    if path.stat().st_size == file.bytes and _digest(path) == file.sha256:
        return
    path.unlink()
    raise FetchFailed(f"{file.name} is not the published file")


def _make(published: Path, vocabulary: Path, home: Path, source: str) -> None:
    try:
        tensors = read_safetensors(published)
        graph, words = minilm.graph(tensors), minilm.word_table(tensors)
    except (NotSafetensors, KeyError) as error:
        raise FetchFailed(f"{published.name}: {error}") from error
    work = Path(tempfile.mkdtemp(prefix=".making-", dir=home))
    try:
        work.chmod(0o755)
        (work / GRAPH).write_bytes(graph)
        (work / WORDS).write_bytes(words.tobytes())
        shutil.copyfile(vocabulary, work / VOCABULARY)
        files = {name: _digest(work / name) for name in (GRAPH, WORDS, VOCABULARY)}
        record = Record(f"{minilm.NAME}/int8", source, files)
        (work / RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(record)))
        for name in (*files, RECORD):
            _settle(work / name)
        _replace(work, home / SET)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _replace(made: Path, target: Path) -> None:
    """A worker that has the old files mapped keeps them until it ends."""
    old = target.with_name(f".old-{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        target.rename(old)
    try:
        made.rename(target)
    except OSError:
        if not (target / RECORD).is_file():  # else another fetch was faster
            raise
    shutil.rmtree(old, ignore_errors=True)


def _settle(path: Path) -> None:
    path.chmod(0o644)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
