"""XML from services that we do not know: no document types, no entities, and bounded."""

from xml.parsers import expat

_DEPTH_MAX = 64
_ELEMENTS_MAX = 200_000


class Malformed(Exception):
    """Says what is wrong with it."""


class Element:
    """Its name is without a prefix; its attributes keep theirs."""

    __slots__ = ("attributes", "children", "name", "text")

    def __init__(self, name: str, attributes: dict[str, str]) -> None:
        self.name, self.attributes = name, attributes
        self.children: list[Element] = []
        self.text = ""

    def child(self, name: str) -> "Element | None":
        return next((c for c in self.children if c.name == name), None)


def parsed(content: bytes) -> Element:
    """Raises Malformed."""
    tree = _Tree()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = tree.start
    parser.EndElementHandler = tree.end
    parser.CharacterDataHandler = tree.characters
    # Without a document type there is no entity to expand and nothing outside to fetch.
    parser.StartDoctypeDeclHandler = tree.refuse
    parser.EntityDeclHandler = tree.refuse
    parser.ExternalEntityRefHandler = tree.refuse
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, LookupError, ValueError):
        raise Malformed("it is no XML") from None
    if tree.root is None:
        raise Malformed("it is empty")
    return tree.root


class _Tree:
    def __init__(self) -> None:
        self.root: Element | None = None
        self._open: list[Element] = []
        self._pieces: list[list[str]] = []
        self._count = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if len(self._open) >= _DEPTH_MAX or self._count > _ELEMENTS_MAX:
            raise Malformed("it is nested too deep, or too long")
        element = Element(name.rpartition(":")[2], attributes)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)
        self._pieces.append([])

    def end(self, _name: str) -> None:
        self._open.pop().text = "".join(self._pieces.pop())

    def characters(self, text: str) -> None:
        self._pieces[-1].append(text)

    def refuse(self, *_declaration: object) -> int:
        raise Malformed("it declares a document type")
