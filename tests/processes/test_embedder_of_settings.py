"""Which embedder the settings ask for, and what they cannot say."""

from pathlib import Path

import pytest

from embedding_ground import ENDPOINT_KEY, ENDPOINT_MODEL, EndpointDouble
from freehold.ports.embeddings import EmbeddingsUnavailable
from freehold.processes.embeddings import embedder, weights
from freehold.settings import SettingsError, load

URL, MODEL = "FREEHOLD_EMBEDDINGS", "FREEHOLD_EMBEDDINGS_MODEL"


async def test_by_default_it_is_the_local_model(tmp_path: Path) -> None:
    made = embedder(load({"FREEHOLD_STATE": str(tmp_path)}))
    assert (made.model, made.dimensions) == ("all-MiniLM-L6-v2/int8", 384)
    await made.close()


def test_weights_of_the_state_directory_come_first(tmp_path: Path) -> None:
    assert weights(tmp_path).status().looked_in[0] == str(tmp_path / "embeddings")


async def test_off_is_nothing_and_says_why() -> None:
    made = embedder(load({URL: "off"}))
    with pytest.raises(EmbeddingsUnavailable, match="FREEHOLD_EMBEDDINGS=off"):
        await made.embed(["a"])
    await made.close()


async def test_an_endpoint_is_asked_with_its_key() -> None:
    async with EndpointDouble() as double:
        settings = load(
            {
                URL: double.base_url,
                MODEL: ENDPOINT_MODEL,
                "FREEHOLD_EMBEDDINGS_KEY": ENDPOINT_KEY,
            }
        )
        assert ENDPOINT_KEY not in repr(settings)
        made = embedder(settings)
        assert len(await made.embed(["a", "b"])) == 2
        await made.close()


@pytest.mark.parametrize("value", ["remote", "ftp://x/v1", "https://", "https://x/v1?key=1", "a b"])
def test_what_is_no_endpoint_is_refused(value: str) -> None:
    with pytest.raises(SettingsError, match="expected local, off or a base URL"):
        load({URL: value, MODEL: "m"})


def test_an_endpoint_needs_a_model() -> None:
    with pytest.raises(SettingsError, match=MODEL):
        load({URL: "https://api.example.com/v1"})
