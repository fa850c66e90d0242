"""all-MiniLM-L6-v2 as an int8 graph of onnxruntime, made from the published weights.

The table of words stays outside of the graph, in a file that is mapped: a text reads a few rows of
it, and every worker of a machine shares them. Inside, onnxruntime keeps what it loads in memory of
its own.
"""

from typing import Any

import numpy as np

from freehold.adapters.embeddings.onnx_file import FLOAT, MICROSOFT, Graph
from freehold.adapters.embeddings.safetensors import Tensors

Array = np.ndarray[Any, np.dtype[Any]]

NAME = "all-MiniLM-L6-v2"
DIMENSIONS = 384
TOKENS_MAX = 256
"""The length that the model was trained with, as its authors publish it."""
_LAYERS, _HEADS = 6, 12
_EPSILON = 1e-12


def word_table(tensors: Tensors) -> Array:
    """float16: a third of the model's size, and no difference that the tests can see."""
    table: Array = tensors["embeddings.word_embeddings.weight"].astype("<f2")
    return table


def graph(tensors: Tensors) -> bytes:
    """Takes `words` (rows of the table; texts x tokens x 384) and `mask` (int32, 1 for a token);
    gives `vectors`, a row of unit length for each text."""
    made = Graph(NAME)
    words = made.input("words", "float32", ["texts", "tokens", DIMENSIONS])
    mask = made.input("mask", "int32", ["texts", "tokens"])
    hidden = _beginning(made, tensors, words)
    for layer in range(_LAYERS):
        hidden = _layer(made, tensors, f"encoder.layer.{layer}.", hidden, mask)
    made.output(_mean(made, hidden, mask), "float32", ["texts", DIMENSIONS])
    return made.model()


def _beginning(made: Graph, tensors: Tensors, words: str) -> str:
    places = tensors["embeddings.position_embeddings.weight"][:TOKENS_MAX]
    places = places + tensors["embeddings.token_type_embeddings.weight"][0]
    first, second = (made.constant(np.array([at], "int64")) for at in (1, 2))
    zero = made.constant(np.array([0], "int64"))
    length = made.node("Slice", [made.node("Shape", [words]), first, second])
    here = made.node("Slice", [made.constant(places), zero, length, zero])
    return made.node(
        "LayerNormalization",
        [
            made.node("Add", [words, here]),
            made.constant(tensors["embeddings.LayerNorm.weight"]),
            made.constant(tensors["embeddings.LayerNorm.bias"]),
        ],
        axis=-1,
        epsilon=_EPSILON,
    )


def _layer(made: Graph, tensors: Tensors, at: str, hidden: str, mask: str) -> str:
    parts = [f"{at}attention.self.{part}" for part in ("query", "key", "value")]
    projected = _product(
        made,
        hidden,
        np.concatenate([tensors[f"{part}.weight"] for part in parts]),
        np.concatenate([tensors[f"{part}.bias"] for part in parts]),
    )
    sizes = made.constant(np.array([DIMENSIONS] * 3, "int64"))
    query, key, value = made.nodes("Split", [projected, sizes], 3, axis=-1)
    seen = made.node(
        "MultiHeadAttention",
        [query, key, value, "", mask],
        domain=MICROSOFT,
        num_heads=_HEADS,
    )
    seen = _dense(made, tensors, f"{at}attention.output.dense", seen)
    hidden = _sum(made, tensors, f"{at}attention.output.LayerNorm", seen, hidden)
    wide = _dense(made, tensors, f"{at}intermediate.dense", hidden)
    wide = made.node("Gelu", [wide], domain=MICROSOFT)
    return _sum(
        made,
        tensors,
        f"{at}output.LayerNorm",
        _dense(made, tensors, f"{at}output.dense", wide),
        hidden,
    )


def _dense(made: Graph, tensors: Tensors, name: str, value: str) -> str:
    return _product(made, value, tensors[f"{name}.weight"], tensors[f"{name}.bias"])


def _product(made: Graph, value: str, weight: Array, bias: Array) -> str:
    """Weights as int8 with a scale for each column; the value is quantized as it comes."""
    columns = weight.T
    scales = (np.abs(columns).max(axis=0) / 127).astype("float32")
    small = np.rint(columns / scales).clip(-127, 127).astype("int8")
    return made.node(
        "DynamicQuantizeMatMul",
        [value, made.constant(small), made.constant(scales), "", made.constant(bias)],
        domain=MICROSOFT,
    )


def _sum(made: Graph, tensors: Tensors, name: str, value: str, skipped: str) -> str:
    return made.node(
        "SkipLayerNormalization",
        [
            value,
            skipped,
            made.constant(tensors[f"{name}.weight"]),
            made.constant(tensors[f"{name}.bias"]),
        ],
        domain=MICROSOFT,
        epsilon=_EPSILON,
    )


def _mean(made: Graph, hidden: str, mask: str) -> str:
    """Of the tokens that are there, then to unit length."""
    last = made.constant(np.array([-1], "int64"))
    second = made.constant(np.array([1], "int64"))
    there = made.node("Cast", [made.node("Unsqueeze", [mask, last])], to=FLOAT)
    total = made.node("ReduceSum", [made.node("Mul", [hidden, there]), second], keepdims=0)
    return made.node("LpNormalization", [total], axis=-1, p=2)
