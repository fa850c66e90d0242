"""The four services' models, read from the installed botocore: operations, shapes, errors.

Shapes are resolved when somebody asks for them: a start pays for reading the files, and for one
small object per operation.
"""

import functools
import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from botocore.loaders import Loader

SERVICES = (
    "bedrock-agentcore",
    "bedrock-agentcore-control",
    "agent-registry",
    "agent-registry-control",
)

Raw = Mapping[str, Any]


class Member(NamedTuple):
    """A structure's member. `location` is None for one that travels in the body."""

    name: str
    wire_name: str
    location: str | None
    shape: "Shape"


class Shape:
    """One shape; the same object wherever the model refers to it.

    `kind` is the model's own word (structure, list, string, ...), but for `document`: any JSON.
    """

    def __init__(self, service: "Service", name: str, traits: Raw) -> None:
        self._service = service
        self.name = name
        self.traits = traits
        self.kind: str = "document" if traits.get("document") else traits["type"]

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name}>"

    @functools.cached_property
    def members(self) -> dict[str, Member]:
        found = {}
        for name, ref in self.traits.get("members", {}).items():
            shape = self._service.shape(ref)
            wire_name = ref.get("locationName", name)
            found[name] = Member(name, wire_name, ref.get("location"), shape)
        return found

    @property
    def required(self) -> tuple[str, ...]:
        return tuple(self.traits.get("required", ()))

    @property
    def payload(self) -> Member | None:
        """The member that is the whole body, if one is."""
        name = self.traits.get("payload")
        return self.members[name] if name else None

    @functools.cached_property
    def element(self) -> "Shape":
        """Of a list."""
        return self._service.shape(self.traits["member"])

    @functools.cached_property
    def key(self) -> "Shape":
        """Of a map."""
        return self._service.shape(self.traits["key"])

    @functools.cached_property
    def value(self) -> "Shape":
        """Of a map."""
        return self._service.shape(self.traits["value"])

    @property
    def is_union(self) -> bool:
        return bool(self.traits.get("union"))

    @property
    def is_event_stream(self) -> bool:
        return bool(self.traits.get("eventstream"))

    @property
    def error_status(self) -> int | None:
        """The HTTP status of an exception shape; None of any other."""
        if not self.traits.get("exception"):
            return None
        status: int = self.traits.get("error", {}).get("httpStatusCode", 500)
        return status


class Operation(NamedTuple):
    """`errors` are the names of the errors that the model lists for this operation."""

    service: "Service"
    name: str
    method: str
    uri: str
    status: int
    input: Shape
    output: Shape
    errors: frozenset[str]

    @property
    def id(self) -> str:
        return f"{self.service.name}:{self.name}"


class Service:
    """One service's model."""

    def __init__(self, name: str, raw: Raw) -> None:
        self.name = name
        self.signing_name: str = raw["metadata"]["signingName"]
        self._raw_shapes: Raw = raw["shapes"]
        self._shapes: dict[tuple[str, str | None], Shape] = {}
        self.operations = {key: self._operation(key, op) for key, op in raw["operations"].items()}

    def shape(self, ref: Raw) -> Shape:
        """What a reference names. A reference can override the timestamp's format."""
        name, timestamp_format = ref["shape"], ref.get("timestampFormat")
        known = self._shapes.get((name, timestamp_format))
        if known is None:
            traits = self._raw_shapes[name]
            if timestamp_format:
                traits = {**traits, "timestampFormat": timestamp_format}
            known = self._shapes[name, timestamp_format] = Shape(self, name, traits)
        return known

    def error(self, code: str) -> Shape | None:
        """The exception shape of that name, whichever operation it belongs to."""
        if not self._raw_shapes.get(code, {}).get("exception"):
            return None
        return self.shape({"shape": code})

    def _operation(self, name: str, raw: Raw) -> Operation:
        http = raw["http"]
        return Operation(
            service=self,
            name=name,
            method=http["method"],
            uri=http["requestUri"],
            status=http.get("responseCode", 200),
            input=self.shape(raw.get("input", _NOTHING)),
            output=self.shape(raw.get("output", _NOTHING)),
            errors=frozenset(error["shape"] for error in raw.get("errors", ())),
        )


_NOTHING = {"shape": ""}
_NO_MEMBERS = {"type": "structure", "members": {}}


class _ModelFiles:
    """What botocore's loader reads files with. Its own keeps the order of keys in a class of
    objects that are five times slower to make.
    """

    def exists(self, path: str) -> bool:
        return Path(f"{path}.json").is_file() or Path(f"{path}.json.gz").is_file()

    def load_file(self, path: str) -> Any:
        plain, packed = Path(f"{path}.json"), Path(f"{path}.json.gz")
        if plain.is_file():
            return msgspec.json.decode(plain.read_bytes())
        if packed.is_file():
            return msgspec.json.decode(gzip.decompress(packed.read_bytes()))
        return None


@functools.cache
def services() -> Mapping[str, Service]:
    """All four, read once in a process. Only botocore's own data: never what a user's home adds."""
    loader = Loader(
        extra_search_paths=[Loader.BUILTIN_DATA_PATH],
        file_loader=_ModelFiles(),
        include_default_search_paths=False,
    )
    models = {}
    for name in SERVICES:
        raw = loader.load_service_model(name, "service-2")
        raw["shapes"].setdefault("", _NO_MEMBERS)
        models[name] = Service(name, raw)
    return models


def operations() -> dict[str, Operation]:
    """All of them, by "{service}:{Operation}"."""
    return {op.id: op for service in services().values() for op in service.operations.values()}
