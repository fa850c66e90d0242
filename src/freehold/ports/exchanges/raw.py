"""Bodies as texts of a span, and back."""

import base64
import codecs
import re

from freehold.ports.content_capture import CONTENT_BYTES_MAX

EVENT_STREAM = "application/vnd.amazon.eventstream"
_DATA_URL = re.compile(r"data:[^,\s]*;base64,")
_TYPE = re.compile(r"[a-z0-9.+-]+/[a-z0-9.+-]+")
_ENCODED_BYTES_MAX = CONTENT_BYTES_MAX * 3 // 4


def media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def recorded(raw: bytes, content_type: str = "") -> tuple[str, bool]:
    """As it came, or as a `data:` URL where it is no text that a span can hold; and whether it was
    cut for that."""
    kind = media_type(content_type)
    text = None if kind == EVENT_STREAM else _text(raw)
    if text is not None:
        return text, len(raw) > CONTENT_BYTES_MAX
    encoded = base64.b64encode(raw[:_ENCODED_BYTES_MAX]).decode()
    kind = kind if _TYPE.fullmatch(kind) else "application/octet-stream"
    return f"data:{kind};base64,{encoded}", len(raw) > _ENCODED_BYTES_MAX


def recorded_bytes(text: str) -> bytes:
    """What `recorded` was given, but for what was cut. Raises ValueError where that cannot be told
    any more: a rule of redaction found something in the encoded bytes."""
    url = _DATA_URL.match(text)
    return text.encode() if url is None else base64.b64decode(text[url.end() :], validate=True)


def _text(raw: bytes) -> str | None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        # Where it is cut within a character, that is left out.
        text = decoder.decode(raw[:CONTENT_BYTES_MAX], final=len(raw) <= CONTENT_BYTES_MAX)
    except UnicodeDecodeError:
        return None
    # Postgres stores no NUL; and what looks like an encoded one would be decoded on its way back.
    return None if "\0" in text or _DATA_URL.match(text) else text
