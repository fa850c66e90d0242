"""What a bundle asks for: `requirements.txt`, else `[project].dependencies`, else nothing.

A bundle of AgentCore's direct code deployment may carry its dependencies in the zip; then it has
neither file, and nothing is installed.
"""

import posixpath
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from freehold.services.runtime.build.model import BuildFailed

_BYTES_MAX = 1 << 20
_FILES_MAX = 32
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,200})"
# A name, extras, versions, a marker, hashes: what pip finds in the index and nowhere else.
_PLAIN = re.compile(
    rf"{_NAME}\s*(?:\[[A-Za-z0-9,._\s-]*\])?\s*(?:\(?[<>=!~][A-Za-z0-9.*+!,<>=~_()\s-]*)?(?:;[^@/\\$]*)?"
)
_FORMATS = re.compile(r"[A-Za-z0-9:._,-]+")
_OPTION = re.compile(r"(--[a-z-]+|-[a-z])(?:\s*=\s*|\s+|(?<=-[a-z]))?(.*)", re.DOTALL)
_HASH = re.compile(r"\s--hash[=\s]\S+")
_COMMENT = re.compile(r"(?:^|\s)#.*")
_INCLUDES = {"-r": "requirements", "--requirement": "requirements"} | {
    "-c": "constraints",
    "--constraint": "constraints",
}
_FLAGS = {"--pre", "--prefer-binary", "--require-hashes"}
_OF_THE_PLATFORM = {"-i", "--index-url", "--extra-index-url", "--no-index", "--trusted-host"}


class Requirements(msgspec.Struct, kw_only=True):
    """Lines for pip, with every included file in its place.

    `bundled`: they mean the bundle's own files too. `runs_code`: they may name more than wheels of
    the index. `find_links` are directories of the bundle.
    """

    source: str
    requirements: list[str] = []
    constraints: list[str] = []
    find_links: list[str] = []
    bundled: bool = False
    runs_code: bool = False
    notes: list[str] = []


def read_requirements(code: Path) -> Requirements | None:
    """None when nothing is asked for. Raises BuildFailed."""
    if (code / "requirements.txt").is_file():
        found = Requirements(source="requirements.txt")
        _read_file(code, "requirements.txt", "requirements", found, seen=[])
    elif (code / "pyproject.toml").is_file():
        found = Requirements(source="pyproject.toml")
        for line in _project_dependencies(code):
            _add(line, "requirements", found)
    else:
        return None
    return found if found.requirements else None


def _project_dependencies(code: Path) -> list[str]:
    text = _text(code, "pyproject.toml")
    try:
        project = tomllib.loads(text).get("project", {})
        dependencies = msgspec.convert(project, dict[str, object]).get("dependencies", [])
        lines = msgspec.convert(dependencies, list[str])
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, RecursionError) as error:
        raise BuildFailed(f"pyproject.toml cannot be read: {error}") from error
    if any(line.lstrip().startswith("-") or "\n" in line for line in lines):
        raise BuildFailed("pyproject.toml: a dependency is not a requirement")
    return lines


def _read_file(code: Path, name: str, kind: str, found: Requirements, *, seen: list[str]) -> None:
    seen.append(f"{kind} {name}")
    if len(seen) > _FILES_MAX:
        raise BuildFailed(f"{found.source} includes more than {_FILES_MAX} files")
    for line in _logical_lines(_text(code, name)):
        if not line.startswith("-"):
            _add(line, kind, found)
            continue
        option, value = _option(name, line)
        included = _INCLUDES.get(option)
        if included is not None:
            path = _inside(posixpath.join(posixpath.dirname(name), value), name)
            included = "constraints" if kind == "constraints" else included
            if f"{included} {path}" not in seen:
                _read_file(code, path, included, found, seen=seen)
        else:
            _apply_option(name, option, value, found)


def _apply_option(name: str, option: str, value: str, found: Requirements) -> None:
    if option in _FLAGS and not value:
        found.requirements.insert(0, option)
    elif option in _OF_THE_PLATFORM or (option in ("-f", "--find-links") and "://" in value):
        found.notes.append(f"{name}: {option} is left out: the platform says where packages are")
    elif option in ("-f", "--find-links"):
        found.find_links.append(_inside(value, name))
        found.bundled = True
    elif option in ("--only-binary", "--no-binary") and _FORMATS.fullmatch(value):
        found.requirements.insert(0, f"{option}={value}")
        found.runs_code |= option == "--no-binary"
    elif option in ("-e", "--editable"):
        # Nothing is edited in a deployed bundle; a link into a build directory would lead nowhere.
        _add(value, "requirements", found)
    else:
        raise BuildFailed(f"{name}: {option} {value[:100]} is not supported here")


def _option(name: str, line: str) -> tuple[str, str]:
    match = _OPTION.fullmatch(line)
    if match is None:
        raise BuildFailed(f"{name}: {line[:100]!r} is not an option of a requirements file")
    return match[1], match[2].strip().strip("\"'")


def _add(line: str, kind: str, found: Requirements) -> None:
    line = line.strip()
    if not line:
        return
    named = _HASH.sub("", line).strip()
    if not _PLAIN.fullmatch(named) or " -" in named:
        found.bundled = found.runs_code = True
    (found.constraints if kind == "constraints" else found.requirements).append(line)


def _logical_lines(text: str) -> Iterator[str]:
    """Comments and blank lines gone, continued lines joined, as pip does it."""
    pending = ""
    for physical in text.splitlines():
        line = pending + physical
        if line.endswith("\\") and not _COMMENT.match(physical):
            pending = line[:-1] + " "
            continue
        pending = ""
        line = _COMMENT.sub("", line).strip()
        if line:
            yield line
    if pending.strip():
        yield pending.strip()


def _inside(path: str, name: str) -> str:
    """A path of the bundle, normalised."""
    normal = posixpath.normpath(path)
    if "://" in path or normal.startswith(("/", "..")):
        raise BuildFailed(f"{name}: {path!r} is not in the bundle")
    return normal


def _text(code: Path, name: str) -> str:
    path = code / name
    if not path.is_file():
        raise BuildFailed(f"the bundle has no {name}, which its requirements include")
    if path.stat().st_size > _BYTES_MAX:
        raise BuildFailed(f"{name} is larger than {_BYTES_MAX >> 10} KiB")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BuildFailed(f"{name} is not UTF-8 text") from error
