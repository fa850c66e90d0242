"""The service of a model: its protocol, its operations, and what a tool says of each."""

import html
import re
from dataclasses import dataclass

from freehold.adapters.targets.smithy.model import (
    Json,
    Model,
    Shape,
    Traits,
    Unusable,
    target,
    targets,
)
from freehold.kernel.errors import ValidationFailed

# The first that a service has is taken.
PROTOCOLS = {
    "aws.protocols#restJson1": "restJson1",
    "aws.protocols#awsJson1_1": "awsJson1_1",
    "aws.protocols#awsJson1_0": "awsJson1_0",
    "aws.protocols#restXml": "restXml",
    "aws.protocols#awsQuery": "awsQuery",
    "aws.protocols#ec2Query": "ec2Query",
    "alloy#simpleRestJson": "restJson1",
}
_KNOWN_OTHERS = frozenset({"smithy.protocols#rpcv2Cbor", "aws.protocols#rpcv2Cbor"})
_LIFECYCLE = ("create", "put", "read", "update", "delete", "list")
_RESOURCE_DEPTH_MAX = 16
_BREAK = re.compile(r"<(?:/p|br ?/?|/?ul|/?ol|/?dl|/h\d|/li|/dt|/dd)>", re.IGNORECASE)
_ITEM = re.compile(r"<(?:li|dt|dd)>", re.IGNORECASE)
_TAG = re.compile(r"</?[A-Za-z][^<>]*>|<!--[^<>]*>")
_SENTENCE = re.compile(r"(?<=[.!?])\s")


@dataclass(slots=True)
class Service:
    """`protocol` is empty where it has none that we speak; `protocol_missing` says which then."""

    shape: Shape
    protocol: str
    protocol_trait: str
    protocol_missing: str
    operations: list[str]
    errors: list[str]

    @property
    def traits(self) -> Traits:
        return self.shape.traits


def only_service(model: Model) -> Service:
    """Raises ValidationFailed where the model has none or several, or it is not readable."""
    names = model.services()
    if len(names) != 1:
        found = ", ".join(names[:5]) or "none"
        raise ValidationFailed(f"A Smithy model of one service is taken; this one has: {found}.")
    try:
        shape = model.shape(names[0])
        trait = next((t for t in PROTOCOLS if t in shape.traits), "")
        return Service(
            shape=shape,
            protocol=PROTOCOLS.get(trait, ""),
            protocol_trait=trait,
            protocol_missing=", ".join(
                t for t in shape.traits.protocols() if "protocols#" in t or t in _KNOWN_OTHERS
            ),
            operations=_operations(model, shape),
            errors=targets(shape, "errors"),
        )
    except Unusable as error:
        raise ValidationFailed(f"The service {names[0]} cannot be read: {error}.") from None


def _operations(model: Model, service: Shape) -> list[str]:
    found = dict.fromkeys(targets(service, "operations"))
    resources = [(r, 0) for r in targets(service, "resources")]
    seen: set[str] = set()
    for name, depth in resources:
        if name in seen or depth > _RESOURCE_DEPTH_MAX:
            continue
        seen.add(name)
        resource = model.shape(name)
        for lifecycle in _LIFECYCLE:
            if lifecycle in resource.node:
                found.setdefault(target(resource, lifecycle))
        for several in ("operations", "collectionOperations"):
            found.update(dict.fromkeys(targets(resource, several)))
        resources += [(r, depth + 1) for r in targets(resource, "resources")]
    return list(found)


def plain(text: str, *, characters_max: int) -> str:
    """Documentation without markup: AWS writes HTML where Smithy has CommonMark."""
    text = text[: 20 * characters_max]
    if "<" in text:
        text = _TAG.sub("", _ITEM.sub("\n- ", _BREAK.sub("\n", text)))
    text = html.unescape(text)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    text = "\n".join(line for line in lines if line and line != "-")
    if len(text) <= characters_max:
        return text
    cut = text[: characters_max - 2]
    return cut[: cut.rfind(" ")] + " …" if " " in cut else cut + " …"


def first_sentence(text: str, *, characters_max: int) -> str:
    return plain(_SENTENCE.split(plain(text, characters_max=4 * characters_max), maxsplit=1)[0],
                 characters_max=characters_max)  # fmt: skip


def description(operation: Shape, service: Service) -> str:
    traits = operation.traits
    parts = [plain(traits.text("documentation"), characters_max=3000)]
    if "deprecated" in traits:
        why = traits.members("deprecated").get("message")
        parts.insert(0, f"Deprecated: {plain(str(why), characters_max=300)}" if why else
                     "Deprecated.")  # fmt: skip
    pages = {**service.traits.members("paginated"), **traits.members("paginated")}
    if "paginated" in traits and "inputToken" in pages and "outputToken" in pages:
        parts.append(
            f"It answers in pages: where the result has {pages['outputToken']}, call again with it"
            f" as {pages['inputToken']} for the next one."
        )
    name = " ".join(re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", operation.name))
    return "\n".join(p for p in parts if p) or name


def annotations(operation: Shape, method: str, *, has_token: bool) -> Json:
    """MCP's hints, where the model says so; a client takes the worst for what is left out."""
    traits = operation.traits
    if "readonly" in traits or method in ("GET", "HEAD"):
        return {"readOnlyHint": True, "openWorldHint": True}
    hints: Json = {"readOnlyHint": False, "openWorldHint": True}
    if method == "DELETE":
        hints["destructiveHint"] = True
    if "idempotent" in traits or method in ("PUT", "DELETE") or has_token:
        hints["idempotentHint"] = True
    return hints
