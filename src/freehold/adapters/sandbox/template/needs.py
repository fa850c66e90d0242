"""Which modules an agent's code will import, found without running a line of it.

Runs in the template's sandbox, beside `inside.py`: what is parsed here may be hostile. Any Python
from 3.10 on, standard library only.
"""
# ruff: noqa: PTH110, PTH112, PTH113, PTH118, PTH123, PTH202, PTH208

from __future__ import annotations

import ast
import os

import launcher  # type: ignore[import-not-found]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_FILES_MAX = 2000
_FILE_BYTES_MAX = 2 << 20

_COMPANIONS = {
    # What a module imports only when it is first used.
    "uvicorn": (
        "uvicorn.main", "uvicorn.logging", "uvicorn.lifespan.on", "uvicorn.lifespan.off",
        "uvicorn.loops.auto", "uvicorn.loops.asyncio", "uvicorn.loops.uvloop",
        "uvicorn.protocols.http.auto", "uvicorn.protocols.http.h11_impl",
        "uvicorn.protocols.http.httptools_impl", "uvicorn.protocols.websockets.auto",
        "uvicorn.middleware.proxy_headers", "uvicorn.supervisors",
    ),
    "anyio": ("anyio._backends._asyncio", "anyio.from_thread", "anyio.to_thread"),
    "asyncio": ("asyncio.unix_events", "concurrent.futures.thread"),
    "bedrock_agentcore": ("bedrock_agentcore.runtime", "uvicorn"),
    "fastapi": ("uvicorn",),
    "httpx": ("httpcore", "httpx._transports.default"),
    "logging": ("logging.config",),
    "socket": ("encodings.idna",),
    "starlette": ("starlette.middleware.errors", "starlette.websockets"),
    "strands": ("strands.agent._agent_delegation",),
}  # fmt: skip


def of_entry(launched: list[str] | None) -> list[tuple[str, ...]]:
    """For `__import__`: a module, then names that are taken from it; in the order of the code."""
    if launched is None:
        return []
    code, _, entry = launcher.parsed(launched)
    entry = launcher.instrumented(entry)
    search = _Search(code)
    for root in _roots(launched, code, entry):
        search.file(*root)
    if entry[0] == "-m" and not search.owns(entry[1]):
        search.found[(entry[1],)] = None
    return list(search.found)


def companions(loaded: Mapping[str, object]) -> Iterator[str]:
    """Goes on as long as there are new ones: `loaded` grows meanwhile."""
    waiting = dict(_COMPANIONS)
    while ready := [module for module in waiting if module in loaded]:
        for module in ready:
            yield from waiting.pop(module)


def shadowed(launched: list[str] | None, loaded: Mapping[str, object]) -> list[str]:
    """Modules of the agent's own that would have come before one that is loaded by now."""
    if launched is None:
        return []
    code = launcher.parsed(launched)[0]
    try:
        names = os.listdir(code)
    except OSError:
        return []
    own = {name.partition(".")[0] for name in names if _is_module(code, name)}
    own |= _below(code)
    return sorted(own & {name.partition(".")[0] for name in loaded})


def _below(code: str) -> set[str]:
    """Modules in folders of the code, if it changes the path itself: then they may come first."""
    found: set[str] = set()
    changes_path, files = False, 0
    for folder, folders, names in os.walk(code):
        if folder != code and "__init__.py" not in names:  # a package is hardly on the path
            every = (*folders, *names)
            found |= {name.partition(".")[0] for name in every if _is_module(folder, name)}
        for name in names:
            files += 1
            if not changes_path and name.endswith(".py") and files <= _FILES_MAX:
                changes_path = _mentions_path(os.path.join(folder, name))
    return found if changes_path else set()


def _mentions_path(file: str) -> bool:
    try:
        with open(file, "rb") as opened:
            text = opened.read(_FILE_BYTES_MAX)
    except OSError:
        return False
    return b"sys.path" in text or b"addsitedir" in text


def _is_module(code: str, name: str) -> bool:
    if name.endswith((".py", ".so", ".pyc")):
        return True
    return os.path.exists(os.path.join(code, name, "__init__.py"))


def _roots(launched: list[str], code: str, entry: list[str]) -> Iterator[tuple[str, str]]:
    """Files that will run as `__main__` or are named to a server ("main:app"), with package."""
    if entry[0] != "-m":
        yield launcher.script(entry[0], code, launcher.parsed(launched)[1]), ""
    for word in entry:
        name = word.partition(":")[0]
        if name.replace(".", "").isidentifier():
            yield from _files_of(code, name)


def _files_of(code: str, name: str) -> Iterator[tuple[str, str]]:
    """The files that importing `name` would run, where they are in the code; with package."""
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        base = os.path.join(code, *parts[:count])
        if os.path.isfile(os.path.join(base, "__init__.py")):
            yield os.path.join(base, "__init__.py"), ".".join(parts[:count])
        elif os.path.isfile(base + ".py"):
            yield base + ".py", ".".join(parts[: count - 1])


class _Search:
    def __init__(self, code: str) -> None:
        self.found: dict[tuple[str, ...], None] = {}
        self._code = code
        self._seen: set[str] = set()

    def owns(self, name: str) -> bool:
        """A module of the code itself: analysed, never imported."""
        base = os.path.join(self._code, name.partition(".")[0])
        return os.path.isdir(base) or os.path.isfile(base + ".py")

    def file(self, path: str, package: str) -> None:
        if path in self._seen or len(self._seen) >= _FILES_MAX:
            return
        self._seen.add(path)
        try:
            if os.path.getsize(path) > _FILE_BYTES_MAX:
                return
            with open(path, "rb") as file:
                tree = ast.parse(file.read())
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            return  # what is wrong with it, the session will say
        for node in _imports(tree):
            self._node(node, package)

    def _node(self, node: ast.Import | ast.ImportFrom, package: str) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                self._module(alias.name, ())
            return
        name = node.module or ""
        if node.level:
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            name = ".".join([*filter(None, parents), *([name] if name else [])])
        self._module(name, tuple(alias.name for alias in node.names if alias.name != "*"))

    def _module(self, name: str, members: tuple[str, ...]) -> None:
        if not name or not self.owns(name):
            if name:
                self.found[(name, *members)] = None
            return
        for each in (name, *(f"{name}.{member}" for member in members)):
            for path, package in _files_of(self._code, each):
                self.file(path, package)


def _imports(tree: ast.Module) -> Iterator[ast.Import | ast.ImportFrom]:
    """All that is imported, inside functions as well, in the order of the text."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif isinstance(node, ast.If) and _is_type_checking(node.test):
            waiting.extend(reversed(node.orelse))
        else:
            waiting.extend(reversed(list(ast.iter_child_nodes(node))))


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", None)
    return name == "TYPE_CHECKING"
