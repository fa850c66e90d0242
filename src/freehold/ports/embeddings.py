"""Texts as vectors, such that texts of like meaning are near each other."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy

    Vectors = numpy.ndarray[tuple[int, int], numpy.dtype[numpy.float32]]


class EmbeddingsUnavailable(Exception):
    """There is no embedder, or it does not answer; the message says what to do about it."""


class Embeddings(Protocol):
    """`model` names what made a vector: two of different models cannot be compared."""

    model: str
    dimensions: int

    async def embed(self, texts: Sequence[str]) -> "Vectors":
        """A row of unit length for each text. Raises EmbeddingsUnavailable. Never blocks the event
        loop."""
