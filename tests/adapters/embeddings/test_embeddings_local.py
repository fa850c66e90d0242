"""The local model: its words, its numbers, and where its weights come from."""

import contextlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_model import in_float32, small_tensors, write_published
from tokenizers import BertWordPieceTokenizer  # type: ignore[attr-defined]

from embedding_ground import local_embeddings
from freehold.adapters.embeddings.local import LocalEmbeddings
from freehold.adapters.embeddings.safetensors import NotSafetensors, read_safetensors
from freehold.adapters.embeddings.sources import model_hub
from freehold.adapters.embeddings.weights import (
    GRAPH,
    RECORD,
    SET,
    FetchFailed,
    Published,
    Source,
    Told,
    Weights,
)
from freehold.adapters.embeddings.wordpiece import WordPiece
from freehold.ports.embeddings import EmbeddingsUnavailable

QUIET: Told = lambda _: None  # noqa: E731

VOCABULARY = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "!", "#", "$", "-", ".", "_", "\u3002", "\u4eac",
    "\u6771", "a", "b", "un", "##able", "##b", "##a", "##s", "tool", "cafe", "create", "issue",
    "2024", "##24", "20", "strasse", "\u00df", "##\u00df", "stra", "##e", "\u03c3", "##\u03c3",
]  # fmt: skip


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("words") / "vocab.txt"
    path.write_text("\n".join(VOCABULARY) + "\n")
    return path


# Scripts that have not changed for long: the reference's tables of Unicode are of another year.
_SCRIPTS = ((0, 0x52F), (0x5D0, 0x5EA), (0x2000, 0x206F), (0x3041, 0x30FF), (0x4E00, 0x4EFF),
            (0x1F300, 0x1F4FF))  # fmt: skip
_CHARACTERS = st.one_of(
    st.sampled_from("ab unabletools-_$.!#20246CAFÉcaféßΣ東京。\t\n\u00a0\u200b\ufffd"),
    *(
        st.characters(min_codepoint=low, max_codepoint=high, exclude_categories=["Cs", "Cn"])
        for low, high in _SCRIPTS
    ),
)


@settings(max_examples=400, deadline=None)
@given(st.text(_CHARACTERS, max_size=40))
def test_words_split_as_the_reference_splits_them(vocabulary: Path, text: str) -> None:
    reference = BertWordPieceTokenizer(str(vocabulary), lowercase=True)
    # Its special tokens in a text would be tokens; a text of a tenant is only text to us.
    expected = reference.encode(text.replace("[", "").replace("]", "")).ids
    assert WordPiece(vocabulary).encode(text.replace("[", "").replace("]", "")) == expected


def test_a_long_text_is_cut_and_still_ends(vocabulary: Path) -> None:
    ids = WordPiece(vocabulary, tokens_max=16).encode("tool " * 1000)
    assert len(ids) == 16
    assert (ids[0], ids[-1]) == (2, 3)


@pytest.fixture(scope="module")
def published(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, tuple[Published, Published]]:
    directory = tmp_path_factory.mktemp("published")
    return directory, write_published(directory)


class Hub:
    """Serves the files with ranges, and may break off once."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ranges: list[str | None] = []
        self.break_after: int | None = None
        self.content: bytes | None = None
        handler = partial(_Handler, self)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.base = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, hub: Hub, *args: object) -> None:
        self._hub = hub
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        wanted = self._hub.directory / self.path.rpartition("/")[2]
        content = self._hub.content or wanted.read_bytes()
        asked = self.headers.get("Range")
        self._hub.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        part, self._hub.break_after = self._hub.break_after, None
        with contextlib.suppress(ConnectionError):  # who had enough goes
            self.wfile.write(content[start:] if part is None else content[start:part])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub(published: tuple[Path, tuple[Published, Published]]) -> Iterator[Hub]:
    hub = Hub(published[0])
    yield hub
    hub.close()


@pytest.fixture
def source(hub: Hub, published: tuple[Path, tuple[Published, Published]]) -> Source:
    return model_hub(hub.base, published=published[1])


@pytest.fixture
def weights(tmp_path: Path, published: tuple[Path, tuple[Published, Published]]) -> Weights:
    return Weights([tmp_path / "home"], published=published[1])


async def test_the_graph_computes_the_model(weights: Weights, source: Source) -> None:
    assert weights.put([source], QUIET).state == "ready"
    embedder = LocalEmbeddings(weights)
    texts = ["tools", "a b c d e f g", "z " * 60]
    vectors = await embedder.embed(texts)
    pieces = WordPiece(weights.vocabulary_of(weights.find()))
    expected = [in_float32(small_tensors(), pieces.encode(text)) for text in texts]
    assert min(float(a @ b) for a, b in zip(vectors, expected, strict=True)) > 0.98
    await embedder.close()


async def test_a_text_has_the_same_vector_in_any_company(weights: Weights, source: Source) -> None:
    """int8 takes one scale for all of a run: a text that shares one has another vector."""
    assert weights.put([source], QUIET).state == "ready"
    embedder = LocalEmbeddings(weights)
    texts = ["tools", "a b c d e f g", "z " * 60, "tools", "b", "c d"]
    alone = np.concatenate([await embedder.embed([text]) for text in texts])
    assert (await embedder.embed(texts) == alone).all()
    assert (await embedder.embed(texts[:3]) == alone[:3]).all()
    await embedder.close()


def test_what_was_fetched_is_not_fetched_again(weights: Weights, hub: Hub, source: Source) -> None:
    weights.put([source], QUIET)
    asked = len(hub.ranges)
    assert weights.put([source], QUIET).state == "ready"
    assert len(hub.ranges) == asked
    weights.put([source], QUIET, force=True)
    assert len(hub.ranges) > asked


def test_a_download_that_broke_off_goes_on_where_it_was(
    weights: Weights, hub: Hub, source: Source
) -> None:
    hub.break_after = 3 << 20
    with pytest.raises(FetchFailed, match="broke off"):
        weights.put([source], QUIET)
    assert weights.status().state == "missing"
    assert weights.put([source], QUIET).state == "ready"
    assert hub.ranges[1] == f"bytes={3 << 20}-"


def test_other_bytes_than_the_published_ones_are_refused(
    weights: Weights, hub: Hub, source: Source, published: tuple[Path, tuple[Published, Published]]
) -> None:
    hub.content = bytes(published[1][0].bytes)
    with pytest.raises(FetchFailed, match=r"not the published|longer than published"):
        weights.put([source], QUIET)
    assert weights.status().state == "missing"
    hub.content = None
    assert weights.put([source], QUIET).state == "ready"  # nothing wrong was kept


def test_the_next_source_is_asked_when_one_fails(
    weights: Weights, source: Source, published: tuple[Path, tuple[Published, Published]]
) -> None:
    nobody = model_hub("http://127.0.0.1:9", published=published[1])
    said: list[str] = []
    assert weights.put([nobody, source], said.append).state == "ready"
    assert any("cannot be reached" in line for line in said)


def test_no_source_at_all_names_each_reason(
    weights: Weights, published: tuple[Path, tuple[Published, Published]]
) -> None:
    nobody = model_hub("http://127.0.0.1:9", published=published[1])
    with pytest.raises(FetchFailed, match=r"model hub: cannot be reached .*; model hub: cannot"):
        weights.put([nobody, nobody], QUIET)


def test_a_file_that_changed_since_is_noticed(weights: Weights, source: Source) -> None:
    found = Path(weights.put([source], QUIET).directory or "")
    with (found / GRAPH).open("r+b") as file:
        file.write(b"changed")
    status = weights.status()
    assert (status.state, status.why) == (
        "broken", "model.onnx changed since: freehold embeddings fetch --force",
    )  # fmt: skip
    assert weights.put([source], QUIET).state == "ready"


async def test_weights_that_come_later_are_found_without_a_restart(
    weights: Weights, source: Source
) -> None:
    embedder = LocalEmbeddings(weights)
    with pytest.raises(EmbeddingsUnavailable, match="freehold embeddings fetch"):
        await embedder.embed(["a"])
    weights.put([source], QUIET)
    assert (await embedder.embed(["a"])).shape == (1, 384)
    await embedder.close()


async def test_a_graph_that_cannot_be_loaded_is_told(weights: Weights, source: Source) -> None:
    found = Path(weights.put([source], QUIET).directory or "")
    (found / GRAPH).write_bytes(b"nothing")
    embedder = LocalEmbeddings(weights)
    with pytest.raises(EmbeddingsUnavailable, match="freehold embeddings fetch --force"):
        await embedder.embed(["a"])
    await embedder.close()


def test_a_second_home_is_looked_into(tmp_path: Path, weights: Weights, source: Source) -> None:
    weights.put([source], QUIET)
    both = Weights([tmp_path / "empty", tmp_path / "home"])
    assert both.find() == tmp_path / "home" / SET
    assert (both.find() / RECORD).is_file()


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff" * 20, b"\x02\0\0\0\0\0\0\0[]", (99).to_bytes(8, "little") + b"{}"],
)
def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(NotSafetensors):
        read_safetensors(path)


def test_a_tensor_outside_of_the_file_is_refused(tmp_path: Path) -> None:
    header = b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(NotSafetensors, match="not in the file"):
        read_safetensors(path)


async def test_the_published_weights_give_what_their_authors_show() -> None:
    """The example on the page of the model: 0.695, 0.943 and 0.257 in float32."""
    embedder = local_embeddings()
    person, dog, very, sunny = await embedder.embed(
        [
            "That is a happy person",
            "That is a happy dog",
            "That is a very happy person",
            "Today is a sunny day",
        ]
    )
    likeness = [float(person @ other) for other in (dog, very, sunny)]
    assert np.allclose(likeness, [0.695, 0.943, 0.257], atol=0.04)
    await embedder.close()
