"""No embedder, on purpose."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from freehold.ports.embeddings import EmbeddingsUnavailable

if TYPE_CHECKING:
    from freehold.ports.embeddings import Vectors


class NoEmbeddings:
    model = ""
    dimensions = 0

    async def embed(self, texts: Sequence[str]) -> "Vectors":
        raise EmbeddingsUnavailable("embeddings are switched off (FREEHOLD_EMBEDDINGS=off)")

    async def close(self) -> None:
        pass
