"""Any endpoint with OpenAI's `POST {base}/embeddings`: a provider's, or a server of one's own."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
import numpy as np

from freehold.ports.embeddings import EmbeddingsUnavailable

if TYPE_CHECKING:
    from freehold.ports.embeddings import Vectors

_BATCH = 64
_SECONDS_MAX = 30.0
_ANSWER_BYTES_MAX = 32 << 20
_CONNECTIONS_MAX = 4
_TEXT_CHARACTERS_MAX = 20_000
"""Some endpoints refuse a text that is longer than their model reads, instead of cutting it."""


class _Row(msgspec.Struct):
    embedding: list[float]
    index: int | None = None


class _Answer(msgspec.Struct):
    data: list[_Row]


_ANSWER = msgspec.json.Decoder(_Answer)


class EndpointEmbeddings:
    """`dimensions` is 0 until the endpoint has answered once."""

    def __init__(self, base_url: str, model: str, *, key: str | None = None) -> None:
        """`base_url` as the provider states it, with its version: `https://api.example.com/v1`."""
        # Two servers may mean different models by one name.
        self.model = f"{model}@{urlsplit(base_url).netloc}"
        self.dimensions = 0
        self._asked_for = model
        self._url = base_url.rstrip("/") + "/embeddings"
        self._headers = {"Content-Type": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"EndpointEmbeddings({self._asked_for}, {self._url})"

    async def embed(self, texts: Sequence[str]) -> "Vectors":
        if not texts:
            return np.empty((0, self.dimensions), np.float32)
        batches = [texts[start : start + _BATCH] for start in range(0, len(texts), _BATCH)]
        rows = [await self._asked(batch) for batch in batches]
        vectors: Vectors = np.concatenate(rows)
        return vectors

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _asked(self, texts: Sequence[str]) -> "Vectors":
        # Empty texts are refused by some, and half a surrogate pair by all.
        inputs = [_encodable(text[:_TEXT_CHARACTERS_MAX]) or " " for text in texts]
        asked = {"model": self._asked_for, "input": inputs, "encoding_format": "float"}
        body = await self._post(msgspec.json.encode(asked))
        try:
            answer = _ANSWER.decode(body)
            vectors = _ordered(answer.data, len(texts))
        except (msgspec.DecodeError, ValueError) as error:
            raise self._unavailable(f"answered something else: {error}") from error
        # From float16 and below, some rows are not quite of unit length.
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(lengths).all():
            raise self._unavailable("answered numbers that are none")
        vectors /= np.maximum(lengths, 1e-12)
        # Vectors of two lengths cannot be compared.
        self.dimensions = self.dimensions or vectors.shape[1]
        if vectors.shape[1] != self.dimensions:
            raise self._unavailable(f"answered {vectors.shape[1]} dimensions, not as before")
        return vectors

    async def _post(self, body: bytes) -> bytes:
        try:
            async with self._open().post(
                self._url, data=body, headers=self._headers, allow_redirects=False
            ) as answer:
                content = await _bounded(answer.content)
        except TimeoutError as error:
            raise self._unavailable(f"did not answer in {_SECONDS_MAX:g} s") from error
        except aiohttp.ClientError as error:
            # Its words may hold headers: the kind of error is enough.
            raise self._unavailable(f"cannot be reached ({type(error).__name__})") from error
        if answer.status != 200:
            raise self._unavailable(f"answered {answer.status}{_advice(answer.status)}")
        if content is None:
            raise self._unavailable("answered too much")
        return content

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS_MAX),
                timeout=aiohttp.ClientTimeout(total=_SECONDS_MAX),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    def _unavailable(self, why: str) -> EmbeddingsUnavailable:
        return EmbeddingsUnavailable(f"the embeddings endpoint {self._url} {why}")


def _advice(status: int) -> str:
    return {
        401: ": see FREEHOLD_EMBEDDINGS_KEY",
        403: ": see FREEHOLD_EMBEDDINGS_KEY",
        404: ": see FREEHOLD_EMBEDDINGS and FREEHOLD_EMBEDDINGS_MODEL",
    }.get(status, "")


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _ordered(rows: list[_Row], count: int) -> "Vectors":
    """In the order of the texts: answers may be in another, and say so by `index`."""
    if len(rows) != count:
        raise ValueError(f"{len(rows)} vectors for {count} texts")
    at = [place if row.index is None else row.index for place, row in enumerate(rows)]
    if sorted(at) != list(range(count)):
        raise ValueError("indexes that are not those of the texts")
    placed = sorted(zip(at, rows, strict=True), key=lambda pair: pair[0])
    vectors: np.ndarray[Any, np.dtype[np.float32]]
    with np.errstate(over="ignore"):  # what is too large is infinite, and refused
        vectors = np.array([row.embedding for _, row in placed], np.float32)
    if vectors.ndim != 2 or not vectors.shape[1]:
        raise ValueError("vectors without numbers")
    return vectors


async def _bounded(content: aiohttp.StreamReader) -> bytes | None:
    parts: list[bytes] = []
    size = 0
    async for part in content.iter_chunked(1 << 16):
        size += len(part)
        if size > _ANSWER_BYTES_MAX:
            return None
        parts.append(part)
    return b"".join(parts)
