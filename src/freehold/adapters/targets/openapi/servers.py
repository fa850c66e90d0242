"""Where an API is: the servers of a document, with their variables."""

import re
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import msgspec

from freehold.adapters.targets.openapi.references import Library, Node, Unconvertible
from freehold.adapters.targets.openapi.versions import Dialect

_VARIABLE = re.compile(r"\{([^{}]*)\}")
_CHOICES_MAX = 100


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """A variable that a caller may choose a value of."""

    name: str
    default: str
    choices: tuple[str, ...]
    description: str


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """`url` is absolute and without a slash at its end; {names} are left for `choices` only."""

    url: str
    choices: tuple[Choice, ...] = ()


class Servers:
    """The first one counts, as it does for AgentCore. Raises Unconvertible for what is none."""

    def __init__(self, library: Library, dialect: Dialect, url: str) -> None:
        self._root, self._dialect, self._url = library.root, dialect, url
        self._default: Server | Unconvertible | None = None

    def of(self, own: tuple[Node, ...]) -> Server:
        if own:
            return self._server(own[0])
        if self._default is None:
            try:
                self._default = self._shared()
            except Unconvertible as error:
                self._default = error
        if isinstance(self._default, Unconvertible):
            raise self._default
        return self._default

    def _shared(self) -> Server:
        if self._dialect == "2.0":
            return self._swagger()
        for node in self._root.elements("servers"):
            return self._server(node)
        return self._absolute("/", ())

    def _swagger(self) -> Server:
        root = self._root
        schemes = [n.value for n in root.elements("schemes")]
        web = urlsplit(self._url).scheme
        scheme = next((s for s in ("https", "http") if s in schemes), web or "https")
        host = root.text("host")
        if _VARIABLE.search(host):
            raise Unconvertible('"host" has variables in it, which Swagger 2.0 does not know.')
        path = "/" + root.text("basePath").strip("/")
        return self._absolute(f"{scheme}://{host}{path}" if host else path, ())

    def _server(self, node: Node) -> Server:
        if not isinstance(node.value, dict):
            raise Unconvertible("The server is not an object with a url.")
        url, choices = node.text("url") or "/", []
        variables = dict(node.members("variables"))
        for name in dict.fromkeys(_VARIABLE.findall(url)):
            choice = _choice(name, variables.get(name))
            if len(choice.choices) > 1:
                choices.append(choice)
            else:
                url = url.replace("{" + name + "}", choice.default)
        return self._absolute(url, tuple(choices))

    def _absolute(self, url: str, choices: tuple[Choice, ...]) -> Server:
        base = self._root.text("$self") or self._url
        try:
            whole = urljoin(base, url) if not _VARIABLE.match(url) else url
            probe = whole
            for choice in choices:
                probe = probe.replace("{" + choice.name + "}", choice.default)
            parts = urlsplit(probe)
        except ValueError:
            raise Unconvertible(f"The server's url {url[:200]!r} is none.") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Unconvertible(
                f"The server's url {url[:200]!r} does not say which host is meant. Write a whole"
                ' https:// URL into "servers"' + (' ("host")' if self._dialect == "2.0" else "")
                + " of the document."
            )  # fmt: skip
        if parts.query or parts.fragment or parts.username is not None:
            raise Unconvertible(
                f"The server's url {url[:200]!r} has more than scheme, host and path."
            )
        if not parts.hostname.isascii():
            whole = _in_ascii(whole, parts.hostname)
        whole = quote(whole, safe="/:@%{}[]!$&'()*+,;=~-._")
        return Server(url=whole.rstrip("/"), choices=choices)


def _in_ascii(url: str, host: str) -> str:
    try:
        return url.replace(host, host.encode("idna").decode("ascii"), 1)
    except UnicodeError:
        raise Unconvertible(f"The server's host {host[:200]!r} is no name.") from None


def _choice(name: str, node: Node | None) -> Choice:
    value: dict[str, Any] = node.value if node is not None and isinstance(node.value, dict) else {}
    several = value.get("enum")
    choices = tuple(str(e) for e in several) if isinstance(several, list) else ()
    default = value.get("default", choices[0] if choices else "")
    default = "" if default is None else str(default)
    if "default" not in value and not choices:
        raise Unconvertible(
            f'The server\'s variable "{name}" has neither a default nor an enum: write its value'
            " into the url."
        )
    if choices and default not in choices:
        choices = (default, *choices)
    if len(choices) > _CHOICES_MAX:
        raise Unconvertible(f'The server\'s variable "{name}" has more than {_CHOICES_MAX} values.')
    text = node.text("description") if node is not None else ""
    return Choice(name=name, default=default, choices=choices, description=text)
