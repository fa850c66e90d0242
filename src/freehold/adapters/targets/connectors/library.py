"""The data files, as connectors. Under `x-freehold` they say what OpenAPI has no words for."""

import re
from collections.abc import Iterator
from functools import cached_property
from importlib import resources
from typing import Any, Literal

import msgspec

from freehold.adapters.targets.openapi.conversion import Conversion
from freehold.adapters.targets.openapi.reading import read
from freehold.ports.connectors import Connector, ConnectorOperation, ConnectorParameter
from freehold.ports.targets import Definition, Described, Json

_OURS = "x-freehold"
_METHODS = ("get", "put", "post", "delete", "patch")


class Refusal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a service says "no" with status 200: `member` of its answer is false, and the member
    `why` says why."""

    member: str
    why: str
    words: dict[str, str] = {}
    """What to do about some of them, for the model."""


class Noise(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Members of answers that say nothing to an agent: addresses of further calls, pictures. By
    their names, or the ends of those, but for what is `kept`."""

    names: tuple[str, ...] = ()
    endings: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


class Traits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of one operation. `fixed` arguments are ours. With `whole` the answer is somebody's file, and
    stays as it is. `encoded` arguments are given as text and sent as base64; `twice` ones are
    encoded for the path a second time where they have slashes. `documents` point to texts that are
    sent as documents of the service's own format."""

    scopes: tuple[str, ...] = ()
    reads: bool = False
    destroys: bool = False
    repeats: bool = False
    fixed: Json = {}
    whole: bool = False
    encoded: tuple[str, ...] = ()
    twice: tuple[str, ...] = ()
    documents: tuple[str, ...] = ()


class _Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    connector: Connector
    fixed: Json = {}
    refusal: Refusal | None = None
    documents: Literal["", "atlassian"] = ""
    noise: Noise | None = None


class Prepared:
    """One connector with its operations as definitions, made when first asked for."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        document = read(text)
        head = msgspec.convert(document[_OURS], _Head)
        self.traits = dict(_traits(document))
        self.fixed, self.refusal = head.fixed, head.refusal
        self.documents, self.noise = head.documents, head.noise
        self._bare = bare = head.connector
        self.title, self.version = bare.title, bare.version
        self.parameters, self.ways = bare.parameters, bare.ways

    @cached_property
    def described(self) -> Described:
        """With {parameters} left in the servers' addresses."""
        return Conversion(self._text).described()

    @cached_property
    def definitions(self) -> dict[str, Definition]:
        return {definition.name: definition for definition in self.described.definitions}

    @cached_property
    def connector(self) -> Connector:
        titles = {name: d.document.get("title", name) for name, d in self.definitions.items()}
        operations = tuple(
            ConnectorOperation(
                name=name, title=titles[name], reads=traits.reads, destroys=traits.destroys,
                scopes=traits.scopes,
            )
            for name, traits in self.traits.items()
        )  # fmt: skip
        return msgspec.structs.replace(self._bare, operations=operations)

    @staticmethod
    def is_valid(parameter: ConnectorParameter, value: str) -> bool:
        """It becomes a part of the address: nothing but what its pattern says may."""
        return re.fullmatch(parameter.pattern, value) is not None


class Library:
    def __init__(self) -> None:
        folder = resources.files(__package__) / "data"
        self._files = {
            file.name.removesuffix(".yaml"): file
            for file in sorted(folder.iterdir(), key=lambda f: f.name)
            if file.name.endswith(".yaml")
        }
        self._kept: dict[str, Prepared] = {}

    def ids(self) -> tuple[str, ...]:
        return tuple(self._files)

    def get(self, id: str) -> Prepared:
        """Raises KeyError. Reading one takes a moment: some milliseconds for each operation."""
        if id not in self._kept:
            self._kept[id] = Prepared(self._files[id].read_bytes())
        return self._kept[id]


def _traits(document: Json) -> Iterator[tuple[str, Traits]]:
    paths: dict[str, dict[str, Any]] = document["paths"]
    for item in paths.values():
        for method in _METHODS:
            if method in item:
                operation = item[method]
                given = operation.get(_OURS, {})
                usual = {"reads": method == "get", "destroys": method == "delete"}
                yield operation["operationId"], msgspec.convert({**usual, **given}, Traits)
