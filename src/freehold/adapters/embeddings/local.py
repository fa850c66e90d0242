"""all-MiniLM-L6-v2 on this machine, in threads of the process that asks.

onnxruntime works without the interpreter's lock, so that the event loop goes on. A few texts (a
query) have threads of their own and never wait behind many (the tools of a target), whose one
thread has a lower priority where the system can do that.
"""

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from freehold.adapters.embeddings import minilm
from freehold.adapters.embeddings.weights import COMMAND, WORDS, Weights, WeightsMissing
from freehold.adapters.embeddings.wordpiece import WordPiece
from freehold.ports.embeddings import EmbeddingsUnavailable

if TYPE_CHECKING:
    from freehold.ports.embeddings import Vectors

_FEW = 4
_FEW_AT_ONCE_MAX = min(4, os.cpu_count() or 1)
_AT_ONCE = 4
_LOW_PRIORITY = 10


class LocalEmbeddings:
    """Loads the weights when it is first asked; where there are none it looks again each time, so
    that `freehold embeddings fetch` needs no restart."""

    model = f"{minilm.NAME}/int8"
    dimensions = minilm.DIMENSIONS

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._model: _Model | None = None
        self._loading = threading.Lock()
        self._few = ThreadPoolExecutor(_FEW_AT_ONCE_MAX, "embed-few")
        self._many = ThreadPoolExecutor(1, "embed-many", initializer=_step_back)

    async def embed(self, texts: Sequence[str]) -> "Vectors":
        if not texts:
            return np.empty((0, self.dimensions), np.float32)
        loop = asyncio.get_running_loop()
        if len(texts) <= _FEW:
            return await loop.run_in_executor(self._few, self._now, list(texts))
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        for start in range(0, len(texts), _AT_ONCE):
            some = list(texts[start : start + _AT_ONCE])
            vectors[start : start + _AT_ONCE] = await loop.run_in_executor(
                self._many, self._now, some
            )
        return vectors

    async def close(self) -> None:
        for executor in (self._few, self._many):
            await asyncio.to_thread(executor.shutdown, cancel_futures=True)

    def _now(self, texts: list[str]) -> "Vectors":
        if self._model is None:
            with self._loading:
                if self._model is None:
                    self._model = _Model(self._weights)
        return self._model.embed(texts)


class _Model:
    def __init__(self, weights: Weights) -> None:
        try:
            home = weights.find()
        except WeightsMissing as missing:
            raise EmbeddingsUnavailable(str(missing)) from missing
        try:
            self._run = _session(weights.graph_of(home))
            self._words = np.memmap(home / WORDS, "<f2", "r").reshape(-1, minilm.DIMENSIONS)
            self._pieces = WordPiece(weights.vocabulary_of(home), tokens_max=minilm.TOKENS_MAX)
        except Exception as error:  # onnxruntime's errors have no base of their own
            raise EmbeddingsUnavailable(
                f"the weights in {home} cannot be loaded; get them anew with: {COMMAND} --force"
            ) from error

    def embed(self, texts: list[str]) -> "Vectors":
        """One by one: a run has one scale for all that is in it, so that in company a text has
        another vector (a cosine of 0.98 to 0.99 with its own). Short texts cost a fifth more."""
        return np.concatenate([self._one(text) for text in texts])

    def _one(self, text: str) -> "Vectors":
        row = self._pieces.encode(text)
        words = self._words[np.array([row], np.int64)].astype(np.float32)
        mask = np.ones((1, len(row)), np.int32)
        vectors: Vectors = self._run(None, {"words": words, "mask": mask})[0]
        return vectors


def _session(graph: str) -> Callable[..., Any]:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # it looks when it is imported
    import onnxruntime  # type: ignore[import-untyped]  # deferred: only who embeds pays for it

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # it would keep what the largest batch took
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    run: Callable[..., Any] = session.run
    return run


def _step_back() -> None:
    """On Linux a priority belongs to a thread."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOW_PRIORITY)
