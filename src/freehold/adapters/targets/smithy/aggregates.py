"""The structures, lists and maps of a plan, with their names on the wire of each protocol."""

from freehold.adapters.targets.smithy.model import Member, Model, Shape, Unusable
from freehold.adapters.targets.smithy.plan import Aggregate, Slot
from freehold.adapters.targets.smithy.service import Service

_KINDS = {
    "string": "string", "enum": "string", "blob": "blob", "timestamp": "timestamp",
    "boolean": "boolean", "byte": "number", "short": "number", "integer": "number",
    "long": "number", "intEnum": "number", "bigInteger": "number", "float": "float",
    "double": "float", "bigDecimal": "float", "document": "document",
}  # fmt: skip
_JSON = frozenset({"restJson1", "awsJson1_0", "awsJson1_1"})
_SHAPES_MAX = 2000
BODY = "(body)"


def slot_kind(shape: Shape) -> str:
    """Empty for what is no simple shape."""
    return _KINDS.get(shape.type, "")


class Aggregates:
    def __init__(self, model: Model, protocol: str) -> None:
        self._model, self._protocol = model, protocol
        self._is_json = protocol in _JSON
        self._special: dict[str, bool] = {}

    def body(
        self, shape: Shape, members: dict[str, Member], *, sent: bool
    ) -> tuple[dict[str, Aggregate], str]:
        """The aggregates of a body of these members, and which of them it is itself."""
        found = _Found()
        slots = self._slots(members, found, sent)
        if not slots:
            return {}, ""
        self._follow(found, sent)
        return {BODY: Aggregate(kind="structure", members=slots), **found.shapes}, BODY

    def payload(self, member: Member, *, sent: bool) -> tuple[dict[str, Aggregate], Slot]:
        found = _Found()
        slot = self._slot(member, "member", found, sent)
        self._follow(found, sent)
        return found.shapes, slot

    def root(self, shape: Shape, member: Member | None, service: Service) -> tuple[str, str, str]:
        """The name, namespace and prefix of the element that is a body in XML."""
        if self._is_json:
            return "", "", ""
        given = member.traits.text("xmlName") if member is not None else ""
        name = given or shape.traits.text("xmlName") or shape.name
        traits = [shape.traits, service.traits]
        if member is not None:
            traits.insert(0, member.traits)
        for owner in traits:
            if "xmlNamespace" in owner:
                uri, prefix = _namespace(owner.members("xmlNamespace"))
                return name, uri, prefix
        return name, "", ""

    def _slots(self, members: dict[str, Member], found: "_Found", sent: bool) -> dict[str, Slot]:
        slots = {}
        for name, member in members.items():
            if not self._is_json or self._is_special(member):
                slots[name] = self._slot(member, name, found, sent)
        return slots

    def _slot(self, member: Member, name: str, found: "_Found", sent: bool) -> Slot:
        target = self._model.shape(member.target)
        kind = slot_kind(target)
        time_format = ""
        if kind == "timestamp":
            time_format = (
                member.traits.text("timestampFormat")
                or target.traits.text("timestampFormat")
                or ("epoch-seconds" if self._is_json else "date-time")
            )
        traits = member.traits
        uri, prefix = _namespace(traits.members("xmlNamespace"))
        return Slot(
            kind=kind,
            shape="" if kind else found.name(target),
            wire=self._wire(member, name, sent),
            format=time_format,
            flat=not self._is_json
            and ("xmlFlattened" in traits or (self._protocol == "ec2Query" and sent)),
            attribute="xmlAttribute" in traits and not self._is_json,
            namespace="" if self._is_json else uri,
            prefix="" if self._is_json else prefix,
        )

    def _wire(self, member: Member, name: str, sent: bool) -> str:
        traits = member.traits
        if self._protocol == "restJson1":
            return traits.text("jsonName") or name
        if self._is_json:
            return name
        if self._protocol == "ec2Query" and sent:
            given = traits.text("aws.protocols#ec2QueryName")
            if given:
                return given
            named = traits.text("xmlName") or name
            return named[:1].upper() + named[1:]
        return traits.text("xmlName") or name

    def _follow(self, found: "_Found", sent: bool) -> None:
        """One after the other, since how deep shapes are nested is not ours to say."""
        while found.waiting:
            shape = found.waiting.pop()
            if shape.type not in ("structure", "union", "list", "map"):
                raise Unusable(f"{shape.id} is of type {shape.type[:40]}, which is no data")
            if len(found.names) > _SHAPES_MAX:
                raise Unusable(f"it is made of more than {_SHAPES_MAX} shapes")
            if shape.type in ("list", "map"):
                slots = {n: self._slot(m, n, found, sent) for n, m in shape.members.items()}
            else:
                slots = self._slots(shape.members, found, sent)
            uri, prefix = _namespace(shape.traits.members("xmlNamespace"))
            found.shapes[found.names[shape.id]] = Aggregate(
                kind=shape.type,
                members=slots,
                namespace="" if self._is_json else uri,
                prefix="" if self._is_json else prefix,
            )

    def _is_special(self, member: Member) -> bool:
        """Whether JSON on the wire differs from what the caller writes, here or further in."""
        if self._protocol == "restJson1" and member.traits.text("jsonName") not in (
            "",
            member.name,
        ):
            return True
        if member.target not in self._special:
            self._find_special(member.target)
        return self._special[member.target]

    def _find_special(self, root: str) -> None:
        """For all that is reachable: who uses a timestamp or another name, and who uses them."""
        users: dict[str, set[str]] = {}
        special: list[str] = []
        waiting, seen = [root], {root}
        while waiting:
            shape = self._model.shape(waiting.pop())
            if shape.type == "timestamp":
                special.append(shape.id)
            if shape.type in ("enum", "intEnum"):
                continue
            for member in shape.members.values():
                users.setdefault(member.target, set()).add(shape.id)
                renamed = member.traits.text("jsonName")
                if self._protocol == "restJson1" and renamed not in ("", member.name):
                    special.append(shape.id)
                if member.target not in seen:
                    seen.add(member.target)
                    waiting.append(member.target)
        marked: set[str] = set()
        while special:
            shape_id = special.pop()
            if shape_id not in marked:
                marked.add(shape_id)
                special += users.get(shape_id, ())
        for shape_id in seen:
            self._special[shape_id] = shape_id in marked


class _Found:
    """What was met of a body, and what of it has still to be looked into."""

    def __init__(self) -> None:
        self.shapes: dict[str, Aggregate] = {}
        self.names: dict[str, str] = {}
        self.waiting: list[Shape] = []
        self._taken: set[str] = {BODY}

    def name(self, shape: Shape) -> str:
        name = self.names.get(shape.id)
        if name is None:
            name = shape.id if shape.name in self._taken else shape.name
            self._taken.add(name)
            self.names[shape.id] = name
            self.waiting.append(shape)
        return name


def _namespace(trait: dict[str, object]) -> tuple[str, str]:
    uri, prefix = trait.get("uri", ""), trait.get("prefix", "")
    if not isinstance(uri, str) or not isinstance(prefix, str):
        raise Unusable("a trait xmlNamespace has no uri")
    return uri, prefix
