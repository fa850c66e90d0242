"""XML by the traits of restXml, awsQuery and ec2Query."""

from typing import Any
from xml.sax.saxutils import escape

from freehold.adapters.targets.smithy.plan import Aggregate, Side, Slot
from freehold.adapters.targets.smithy.scalars import BadArgument, read_text, text
from freehold.adapters.targets.smithy.xml_tree import Element

Shapes = dict[str, Aggregate]
_QUOTE = {'"': "&quot;", "\n": "&#xA;", "\r": "&#xD;", "\t": "&#x9;"}
_RETURN = {"\r": "&#xD;"}


def written_root(value: Any, shape: Aggregate, side: Side) -> bytes:
    """The document of a structure or union. Raises BadArgument."""
    writer = _Writer(side.shapes)
    writer.structure(value, shape, (side.root, _declared(side.namespace, side.prefix)), "the input")
    return "".join(writer.out).encode()


def _declared(uri: str, prefix: str) -> str:
    if not uri:
        return ""
    return f' xmlns{":" if prefix else ""}{prefix}="{escape(uri, _QUOTE)}"'


class _Writer:
    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes
        self.out: list[str] = []

    def structure(self, value: Any, shape: Aggregate, tag: tuple[str, str], where: str) -> None:
        """`tag` is the element's name and what it declares."""
        if not isinstance(value, dict):
            raise BadArgument(f"{where} has to be an object")
        name, attributes = tag
        begun = len(self.out)
        self.out.append("")  # its attributes are known when its members are through
        for member, entry in value.items():
            slot = shape.members.get(member)
            if slot is None or entry is None:
                continue
            if slot.attribute:
                content = text(entry, slot.kind, slot.format, f"{where}.{member}")
                attributes += f' {slot.wire}="{escape(content, _QUOTE)}"'
            else:
                self._element(entry, slot, slot.wire, f"{where}.{member}")
        self.out[begun] = f"<{name}{attributes}>"
        self.out.append(f"</{name}>")

    def _element(self, value: Any, slot: Slot, name: str, where: str) -> None:
        namespace = _declared(slot.namespace, slot.prefix)
        if not slot.shape:
            content = escape(text(value, slot.kind, slot.format, where), _RETURN)
            self.out.append(f"<{name}{namespace}>{content}</{name}>")
            return
        shape = self._shapes[slot.shape]
        if shape.kind == "list":
            self._list(value, slot, name, where)
        elif shape.kind == "map":
            self._map(value, slot, name, where)
        else:
            namespace = namespace or _declared(shape.namespace, shape.prefix)
            self.structure(value, shape, (name, namespace), where)

    def _list(self, value: Any, slot: Slot, name: str, where: str) -> None:
        if not isinstance(value, list):
            raise BadArgument(f"{where} has to be a list")
        member = self._shapes[slot.shape].members["member"]
        if not slot.flat:
            self.out.append(f"<{name}{_declared(slot.namespace, slot.prefix)}>")
        for index, entry in enumerate(value):
            self._element(entry, member, name if slot.flat else member.wire, f"{where}[{index}]")
        if not slot.flat:
            self.out.append(f"</{name}>")

    def _map(self, value: Any, slot: Slot, name: str, where: str) -> None:
        if not isinstance(value, dict):
            raise BadArgument(f"{where} has to be an object")
        members = self._shapes[slot.shape].members
        key, content = members["key"], members["value"]
        namespace = _declared(slot.namespace, slot.prefix)
        entry_tag = f"{name}{namespace}" if slot.flat else "entry"
        if not slot.flat:
            self.out.append(f"<{name}{namespace}>")
        for member, entry in value.items():
            self.out.append(f"<{entry_tag}>")
            self._element(member, key, key.wire, where)
            self._element(entry, content, content.wire, f"{where}.{member}")
            self.out.append(f"</{name if slot.flat else 'entry'}>")
        if not slot.flat:
            self.out.append(f"</{name}>")


def read_structure(element: Element, shape: Aggregate, shapes: Shapes) -> dict[str, Any]:
    """Members that are not there are left out."""
    made: dict[str, Any] = {}
    children: dict[str, list[Element]] = {}
    for child in element.children:
        children.setdefault(child.name, []).append(child)
    for name, slot in shape.members.items():
        if slot.attribute:
            if slot.wire in element.attributes:
                made[name] = read_text(element.attributes[slot.wire], slot.kind)
            continue
        found = children.get(slot.wire.rpartition(":")[2])
        if found:
            made[name] = _read(found, slot, shapes)
    return made


def _read(found: list[Element], slot: Slot, shapes: Shapes) -> Any:
    if not slot.shape:
        return read_text(found[0].text, slot.kind)
    shape = shapes[slot.shape]
    if shape.kind == "list":
        entries = found if slot.flat else found[0].children
        member = shape.members["member"]
        return [_read([entry], member, shapes) for entry in entries]
    if shape.kind == "map":
        return _read_map(found if slot.flat else found[0].children, shape, shapes)
    return read_structure(found[0], shape, shapes)


def _read_map(entries: list[Element], shape: Aggregate, shapes: Shapes) -> dict[str, Any]:
    key, content = shape.members["key"], shape.members["value"]
    made = {}
    for entry in entries:
        keys = [c for c in entry.children if c.name == key.wire]
        values = [c for c in entry.children if c.name == content.wire]
        if keys and values:
            made[keys[0].text] = _read(values, content, shapes)
    return made


def loose(element: Element) -> Any:
    """Of an element that no model describes, such as an error's."""
    if not element.children:
        return element.text.strip()
    made: dict[str, Any] = {}
    for child in element.children:
        entry = loose(child)
        if child.name not in made:
            made[child.name] = entry
        elif isinstance(made[child.name], list):
            made[child.name].append(entry)
        else:
            made[child.name] = [made[child.name], entry]
    return made
