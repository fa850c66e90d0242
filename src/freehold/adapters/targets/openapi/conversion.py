"""A document into tools, with or without a platform around it."""

from typing import Any
from urllib.parse import urlsplit

from freehold.adapters.targets.openapi.operations import Tools
from freehold.adapters.targets.openapi.reading import read
from freehold.adapters.targets.openapi.references import (
    DOCUMENTS_MAX,
    CannotFetch,
    Fetch,
    Library,
)
from freehold.adapters.targets.openapi.versions import Dialect, dialect_of
from freehold.ports.targets import Described, Problem

TOOLS_MAX = 1000
_PROBLEMS_MAX = 2000


class Conversion:
    """`missing` names the documents to be brought with `add`, again after each round."""

    def __init__(self, text: str | bytes, url: str = "") -> None:
        """Raises ValidationFailed for what is no OpenAPI document."""
        document = read(text)
        self._dialect: Dialect = dialect_of(document)
        itself = document.get("$self")
        if isinstance(itself, str) and urlsplit(itself).scheme in ("http", "https"):
            url = itself
        self._url = url
        self._library = Library(document, url)

    def missing(self) -> list[str]:
        urls = self._library.missing()
        if urls and not self._library.room():
            for url in urls:
                self.fail(url, f"there are more than {DOCUMENTS_MAX} documents")
            return []
        return urls

    def add(self, url: str, text: str | bytes) -> None:
        self._library.add(url, text)

    def fail(self, url: str, why: str) -> None:
        self._library.fail(url, why)

    def described(self, *, tools_max: int = TOOLS_MAX) -> Described:
        tools = Tools(self._library, self._dialect, self._url)
        definitions, problems = tools.all(tools_max)
        if not definitions and not problems:
            why = "The document has no operations: nothing stands under its paths."
            problems = [Problem(where="/paths", why=why)]
        root = self._library.root
        info = root.value.get("info")
        info = info if isinstance(info, dict) else {}
        about: dict[str, Any] = {
            "specification": root.text("openapi") or root.text("swagger") or self._dialect,
            "title": str(info.get("title", ""))[:200],
            "version": str(info.get("version", ""))[:100],
            "servers": list(dict.fromkeys(d.plan["server"] for d in definitions))[:20],
            "securitySchemes": tools.security.schemes,
            "security": tools.security.required,
        }
        return Described(
            definitions=tuple(definitions), problems=tuple(problems[:_PROBLEMS_MAX]), server=about
        )


def convert(
    text: str | bytes,
    *,
    fetch: Fetch | None = None,
    url: str | None = None,
    tools_max: int = TOOLS_MAX,
) -> Described:
    """Raises ValidationFailed for what is no OpenAPI document; all else that is wrong is a problem.

    `fetch` brings what the document refers to elsewhere, and raises CannotFetch; `url` is where
    the document itself comes from, which relative references and servers start from.
    """
    conversion = Conversion(text, url or "")
    while urls := conversion.missing():
        for each in urls:
            if fetch is None:
                conversion.fail(each, "other documents are not fetched here")
                continue
            try:
                conversion.add(each, fetch(each))
            except CannotFetch as error:
                conversion.fail(each, str(error))
    return conversion.described(tools_max=tools_max)
