"""Cedar's text in colours: what a word is, as a class of the style sheet."""

import re

from markupsafe import Markup, escape

_TOKEN = re.compile(
    r"(?P<note>//[^\n]*)"
    r'|(?P<text>"(?:[^"\\\n]|\\.)*")'
    r"|(?P<mark>@[A-Za-z_]\w*)"
    r"|(?P<effect>\b(?:permit|forbid)\b)"
    r"|(?P<word>\b(?:when|unless|if|then|else|in|has|like|is|true|false)\b)"
    r"|(?P<thing>\b(?:principal|action|resource|context)\b)"
    r"|(?P<type>\b[A-Z]\w*(?:::[A-Z]\w*)*(?=::))"
    r"|(?P<figure>\b\d+\b)"
)


def coloured(text: str) -> Markup:
    """Whatever is no Cedar is left as it is."""
    pieces: list[str] = []
    end = 0
    for found in _TOKEN.finditer(text):
        pieces.append(str(escape(text[end : found.start()])))
        pieces.append(f'<span class="k-{found.lastgroup}">{escape(found[0])}</span>')
        end = found.end()
    pieces.append(str(escape(text[end:])))
    return Markup("".join(pieces))  # noqa: S704 - every piece was escaped
