"""Writing the ONNX format: as much of it as the graph of one model needs.

Protocol buffers are written here by hand: the `onnx` package is 30 MB and would be used once, when
the weights are fetched. Numbers of fields are those of onnx.proto.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

MICROSOFT = "com.microsoft"
"""The operators that onnxruntime adds to the standard's."""
_IR_VERSION = 8
_OPSET, _MICROSOFT_OPSET = 17, 1
FLOAT, _INT8, _INT32, _INT64 = 1, 3, 6, 7
_TYPES = {"float32": FLOAT, "int8": _INT8, "int32": _INT32, "int64": _INT64}
_ATTRIBUTE_FLOAT, _ATTRIBUTE_INT = 1, 2


class Graph:
    """Collects nodes and constants, then becomes the bytes of a model."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[bytes] = []
        self._constants: list[bytes] = []
        self._ends: list[bytes] = []
        self._made = 0

    def constant(self, value: Array) -> str:
        name = self._fresh("c")
        value = np.ascontiguousarray(value)
        dims = b"".join(_number(1, size) for size in value.shape)
        kind = _number(2, _TYPES[value.dtype.name])
        little = value.astype(value.dtype.newbyteorder("<"), copy=False)
        self._constants.append(dims + kind + _text(8, name) + _field(9, little.tobytes()))
        return name

    def node(
        self, operator: str, inputs: Sequence[str], *, domain: str = "", **attributes: float
    ) -> str:
        return self.nodes(operator, inputs, 1, domain=domain, **attributes)[0]

    def nodes(
        self,
        operator: str,
        inputs: Sequence[str],
        outputs: int,
        *,
        domain: str = "",
        **attributes: float,
    ) -> list[str]:
        """The names of a node's outputs. An input "" is one left out."""
        names = [self._fresh("t") for _ in range(outputs)]
        parts = [_text(1, name) for name in inputs]
        parts += [_text(2, name) for name in names]
        parts += [_text(3, self._fresh("n")), _text(4, operator)]
        parts += [_field(5, _attribute(key, value)) for key, value in attributes.items()]
        parts += [_text(7, domain)]
        self._nodes.append(b"".join(parts))
        return names

    def input(self, name: str, kind: str, shape: Sequence[str | int]) -> str:
        self._ends.append(_field(11, _value(name, kind, shape)))
        return name

    def output(self, name: str, kind: str, shape: Sequence[str | int]) -> None:
        self._ends.append(_field(12, _value(name, kind, shape)))

    def model(self) -> bytes:
        graph = b"".join(
            [
                *(_field(1, node) for node in self._nodes),
                _text(2, self._name),
                *(_field(5, constant) for constant in self._constants),
                *self._ends,
            ]
        )
        operators = [("", _OPSET), (MICROSOFT, _MICROSOFT_OPSET)]
        return b"".join(
            [
                _number(1, _IR_VERSION),
                _text(2, "freehold"),
                _field(7, graph),
                *(_field(8, _text(1, domain) + _number(2, at)) for domain, at in operators),
            ]
        )

    def _fresh(self, lead: str) -> str:
        self._made += 1
        return f"{lead}{self._made}"


def _attribute(name: str, value: float) -> bytes:
    if isinstance(value, int):
        return _text(1, name) + _number(3, value) + _number(20, _ATTRIBUTE_INT)
    raw = np.array(value, "<f4").tobytes()
    return _text(1, name) + _varint(2 << 3 | 5) + raw + _number(20, _ATTRIBUTE_FLOAT)


def _value(name: str, kind: str, shape: Sequence[str | int]) -> bytes:
    dims = b"".join(
        _field(1, _number(1, size) if isinstance(size, int) else _text(2, size)) for size in shape
    )
    tensor = _number(1, _TYPES[kind]) + _field(2, dims)
    return _text(1, name) + _field(2, _field(1, tensor))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _text(number: int, value: str) -> bytes:
    return _field(number, value.encode())


def _number(number: int, value: int) -> bytes:
    # A negative int64 is ten bytes, as two's complement.
    return _varint(number << 3) + _varint(value & (1 << 64) - 1)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
