"""Weights in the shape of all-MiniLM-L6-v2 with random numbers and few words, and a plain reading
of the model in float32 to compare with."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from freehold.adapters.embeddings.weights import Published

Array = np.ndarray[Any, np.dtype[Any]]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", "tool", "##s"]
_WIDTH, _WIDE, _LAYERS, _HEADS = 384, 1536, 6, 12


def small_tensors(seed: int = 7) -> dict[str, Array]:
    random = np.random.default_rng(seed)

    def some(*shape: int) -> Array:
        return random.normal(0, 0.05, shape).astype("<f4")

    made = {
        "embeddings.word_embeddings.weight": some(len(WORDS), _WIDTH),
        "embeddings.position_embeddings.weight": some(512, _WIDTH),
        "embeddings.token_type_embeddings.weight": some(2, _WIDTH),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in range(_LAYERS):
        at = f"encoder.layer.{layer}."
        shapes = {
            "attention.self.query": (_WIDTH, _WIDTH),
            "attention.self.key": (_WIDTH, _WIDTH),
            "attention.self.value": (_WIDTH, _WIDTH),
            "attention.output.dense": (_WIDTH, _WIDTH),
            "intermediate.dense": (_WIDE, _WIDTH),
            "output.dense": (_WIDTH, _WIDE),
        }
        for name, shape in shapes.items():
            made[f"{at}{name}.weight"], made[f"{at}{name}.bias"] = some(*shape), some(shape[0])
        norms += [f"{at}attention.output.LayerNorm", f"{at}output.LayerNorm"]
    for name in norms:
        made[f"{name}.weight"], made[f"{name}.bias"] = 1 + some(_WIDTH), some(_WIDTH)
    return made


def write_published(directory: Path) -> tuple[Published, Published]:
    """Both files, as a hub would serve them."""
    header, parts, offset = {"__metadata__": {"format": "pt"}}, [], 0
    for name, tensor in small_tensors().items():
        place = [offset, offset + tensor.nbytes]
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": place}  # type: ignore[dict-item]
        parts.append(tensor.tobytes())
        offset += tensor.nbytes
    text = json.dumps(header).encode()
    (directory / "model.safetensors").write_bytes(
        len(text).to_bytes(8, "little") + text + b"".join(parts)
    )
    (directory / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    first, second = (_published(directory / name) for name in ("model.safetensors", "vocab.txt"))
    return first, second


def _published(path: Path) -> Published:
    content = path.read_bytes()
    return Published(path.name, hashlib.sha256(content).hexdigest(), len(content))


def in_float32(tensors: dict[str, Array], ids: list[int]) -> Array:
    """The vector of one text."""
    hidden = (
        tensors["embeddings.word_embeddings.weight"][ids]
        + tensors["embeddings.position_embeddings.weight"][: len(ids)]
        + tensors["embeddings.token_type_embeddings.weight"][0]
    )
    hidden = _normed(tensors, "embeddings.LayerNorm", hidden)
    for layer in range(_LAYERS):
        at = f"encoder.layer.{layer}."
        query, key, value = (
            _dense(tensors, f"{at}attention.self.{part}", hidden)
            .reshape(len(ids), _HEADS, -1)
            .transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        likeness = query @ key.transpose(0, 2, 1) / np.sqrt(_WIDTH / _HEADS)
        likeness = np.exp(likeness - likeness.max(-1, keepdims=True))
        seen = (likeness / likeness.sum(-1, keepdims=True)) @ value
        seen = seen.transpose(1, 0, 2).reshape(len(ids), _WIDTH)
        seen = _dense(tensors, f"{at}attention.output.dense", seen)
        hidden = _normed(tensors, f"{at}attention.output.LayerNorm", hidden + seen)
        wide = _dense(tensors, f"{at}intermediate.dense", hidden)
        wide = wide * 0.5 * (1 + _erf(wide / np.sqrt(2)))
        wide = _dense(tensors, f"{at}output.dense", wide)
        hidden = _normed(tensors, f"{at}output.LayerNorm", hidden + wide)
    mean = hidden.mean(0)
    vector: Array = mean / np.linalg.norm(mean)
    return vector


def _dense(tensors: dict[str, Array], name: str, value: Array) -> Array:
    made: Array = value @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]
    return made


def _normed(tensors: dict[str, Array], name: str, value: Array) -> Array:
    value = value - value.mean(-1, keepdims=True)
    value = value / np.sqrt((value**2).mean(-1, keepdims=True) + 1e-12)
    made: Array = value * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]
    return made


def _erf(value: Array) -> Array:
    """By its derivative: numpy has none."""
    grid = np.linspace(-6, 6, 200_001)
    steps = np.exp(-(grid**2)) * (grid[1] - grid[0]) * 2 / np.sqrt(np.pi)
    table = np.cumsum(steps) - 1
    made: Array = np.interp(value, grid, table)
    return made
