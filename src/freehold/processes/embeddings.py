"""The embedder that the settings ask for. Making it loads nothing: the first text does."""

from pathlib import Path

from freehold.adapters.embeddings.absent import NoEmbeddings
from freehold.adapters.embeddings.endpoint import EndpointEmbeddings
from freehold.adapters.embeddings.local import LocalEmbeddings
from freehold.adapters.embeddings.weights import Weights, beside_python
from freehold.settings import Settings


def weights(state: Path) -> Weights:
    """Those of the platform, else those that the set-up of the repository got."""
    return Weights([state / "embeddings", beside_python()])


def embedder(settings: Settings) -> LocalEmbeddings | EndpointEmbeddings | NoEmbeddings:
    """Whoever asked for it closes it."""
    if settings.embeddings == "off":
        return NoEmbeddings()
    if settings.embeddings == "local":
        return LocalEmbeddings(weights(settings.state))
    return EndpointEmbeddings(
        settings.embeddings, settings.embeddings_model or "", key=settings.embeddings_key
    )
