"""XML in and out. What comes in is bounded, and may declare neither a type nor an entity."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from xml.parsers import expat
from xml.sax.saxutils import escape

from freehold.edges.s3.errors import S3Error
from freehold.kernel.body import Body

# A CompleteMultipartUpload of 10,000 parts with checksums is about 2.5 MB.
_DOCUMENT_BYTES_MAX = 4 << 20
_ELEMENTS_MAX = 100_000
_DEPTH_MAX = 8
_INLINE_BYTES_MAX = 32 * 1024
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'


@dataclass(slots=True)
class Element:
    """Its name is without a namespace; its text is what stood before its first child."""

    name: str
    text: str = ""
    children: list["Element"] = field(default_factory=list)

    def all(self, name: str) -> Iterator["Element"]:
        return (child for child in self.children if child.name == name)

    def get(self, name: str) -> str | None:
        """The text of the first child of that name."""
        return next((child.text for child in self.all(name)), None)


async def read_document(body: Body, name: str) -> Element:
    """The root of the body's document, or MalformedXML."""
    data = await read_bounded(body)
    if len(data) <= _INLINE_BYTES_MAX:
        return parse(data, name)
    return await asyncio.to_thread(parse, data, name)


async def read_bounded(body: Body) -> bytes:
    """A body that should be a document: MalformedXML when it is larger than any."""
    data = bytearray()
    async for chunk in body.chunks():
        data += chunk
        if len(data) > _DOCUMENT_BYTES_MAX:
            raise _malformed()
    return bytes(data)


def parse(data: bytes, name: str) -> Element:
    tree = _Tree()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = tree.start
    parser.EndElementHandler = tree.end
    parser.CharacterDataHandler = tree.characters
    # Without a document type there is no entity to expand and nothing outside to fetch.
    parser.StartDoctypeDeclHandler = tree.refuse
    parser.EntityDeclHandler = tree.refuse
    parser.ExternalEntityRefHandler = tree.refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise _malformed() from error
    if tree.root is None or tree.root.name != name:
        raise _malformed()
    return tree.root


class _Tree:
    def __init__(self) -> None:
        self.root: Element | None = None
        self._open: list[Element] = []
        self._count = 0

    def start(self, name: str, _attributes: dict[str, str]) -> None:
        element = Element(name.rpartition(" ")[2])
        self._count += 1
        if len(self._open) >= _DEPTH_MAX or self._count > _ELEMENTS_MAX:
            raise _malformed()
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def end(self, _name: str) -> None:
        self._open.pop()

    def characters(self, text: str) -> None:
        self._open[-1].text += text

    def refuse(self, *_declaration: object) -> int:
        raise _malformed()


def _malformed() -> S3Error:
    return S3Error("MalformedXML", "the XML is not well formed, or not what this operation takes")


def text(name: str, value: str | int) -> str:
    return f"<{name}>{_escaped(str(value))}</{name}>"


def group(name: str, *parts: str) -> str:
    return f"<{name}>{''.join(parts)}</{name}>"


def document(name: str, *parts: str) -> bytes:
    return f'{HEAD}<{name} xmlns="{_NAMESPACE}">{"".join(parts)}</{name}>'.encode()


def timestamp(name: str, at: datetime) -> str:
    """Milliseconds, as S3 writes them."""
    seconds = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return text(name, f"{seconds}.{at.microsecond // 1000:03d}Z")


def owner(name: str, tenant: str) -> str:
    return group(name, text("ID", tenant), text("DisplayName", tenant))


def error_document(error: S3Error, *, resource: str, request_id: str) -> bytes:
    """S3 gives its errors no namespace."""
    parts = [text("Code", error.code), text("Message", error.message)]
    parts += [text(name, value) for name, value in error.details.items()]
    parts += [text("Resource", resource), text("RequestId", request_id)]
    return (HEAD + group("Error", *parts, text("HostId", "freehold"))).encode()


def _escaped(value: str) -> str:
    """XML 1.0 has no way to write most control characters; as references, as S3 writes them.

    A client that lists such keys asks for encoding-type=url.
    """
    escaped = escape(value)
    if escaped.isprintable():
        return escaped
    return "".join(f"&#{ord(c)};" if c < " " and c not in "\n\t" else c for c in escaped)
