"""Styles and pictures, under addresses that change with their content and so never go stale."""

import hashlib
from pathlib import Path

import msgspec

_FOLDER = Path(__file__).parent / "static"
_TYPES = {".css": "text/css; charset=utf-8", ".svg": "image/svg+xml", ".js": "text/javascript"}
PREFIX = "/console/static/"


class StaticFile(msgspec.Struct, frozen=True):
    body: bytes
    media_type: str


class StaticFiles:
    """Read once, when the worker starts."""

    def __init__(self) -> None:
        self._by_path: dict[str, StaticFile] = {}
        self._paths: dict[str, str] = {}
        for file in sorted(_FOLDER.iterdir()):
            body = file.read_bytes()
            path = f"{PREFIX}{hashlib.sha256(body).hexdigest()[:16]}/{file.name}"
            self._paths[file.name] = path
            self._by_path[path] = StaticFile(body, _TYPES[file.suffix])

    def path(self, name: str) -> str:
        return self._paths[name]

    def find(self, path: str) -> StaticFile | None:
        return self._by_path.get(path)
