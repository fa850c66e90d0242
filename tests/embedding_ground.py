"""Embedders for tests: the local model, and an endpoint on loopback that speaks OpenAI's wire."""

import asyncio
import base64
import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from aiohttp import web

from freehold.adapters.embeddings.local import LocalEmbeddings
from freehold.adapters.embeddings.weights import Weights, WeightsMissing, beside_python

Vectors = np.ndarray[Any, np.dtype[np.float32]]

ENDPOINT_MODEL, ENDPOINT_KEY, ENDPOINT_DIMENSIONS = "words-256", "sk-only-for-tests", 256


def weights_beside_python() -> Path:
    """The set that set-up got. Skips where it could not, but never in CI."""
    try:
        return Weights([beside_python()]).find()
    except WeightsMissing as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))


def local_embeddings() -> LocalEmbeddings:
    weights_beside_python()
    return LocalEmbeddings(Weights([beside_python()]))


def words_as_vectors(texts: Sequence[str]) -> Vectors:
    """Texts that share words are near each other; a crude model that anybody can foresee."""
    vectors = np.zeros((len(texts), ENDPOINT_DIMENSIONS), np.float32)
    for row, text in zip(vectors, texts, strict=True):
        row[0] = 0.01  # so that no text is without direction
        for word in re.findall(r"\w+", text.lower()):
            row[zlib.crc32(word.encode()) % ENDPOINT_DIMENSIONS] += 1
    return vectors


class CountingEmbeddings:
    """In this process, and knows what it was asked."""

    model = "words"
    dimensions = ENDPOINT_DIMENSIONS

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failure: Exception | None = None
        self.gate: asyncio.Event | None = None

    async def embed(self, texts: Sequence[str]) -> Vectors:
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.asked += texts
        vectors = words_as_vectors(texts)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class EndpointDouble:
    """`POST /v1/embeddings`, in an order of its own as the wire allows."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.answers: list[web.Response] = []
        """Given instead, one for each request."""
        self.base_url = ""

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/v1/embeddings", self._embeddings)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.base_url = f"http://{host}:{port}/v1"
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._runner.cleanup()

    async def _embeddings(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {ENDPOINT_KEY}":
            return web.json_response({"error": {"message": "no such key"}}, status=401)
        asked = await request.json()
        self.requests.append(asked)
        if self.answers:
            return self.answers.pop(0)
        if asked["model"] != ENDPOINT_MODEL:
            return web.json_response({"error": {"message": "no such model"}}, status=404)
        # A provider's rows need not be of unit length.
        vectors = words_as_vectors(asked["input"]) * 3
        rows = [
            {"object": "embedding", "index": at, "embedding": _encoded(row, asked)}
            for at, row in enumerate(vectors)
        ]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        answer = {"object": "list", "model": ENDPOINT_MODEL, "data": rows[::-1], "usage": usage}
        return web.json_response(answer)


def _encoded(row: "np.ndarray[Any, np.dtype[np.float32]]", asked: dict[str, Any]) -> Any:
    if asked.get("encoding_format") == "base64":
        return base64.b64encode(row.tobytes()).decode()
    return row.tolist()
