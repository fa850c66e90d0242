"""Which files stay out of a bundle: patterns as in .gitignore, without nested files.

Supported: comments, `!`, a trailing `/` for folders, `/` at the start or inside to anchor,
`*`, `?`, `[...]` and `**`. The last pattern that matches decides; a file in a folder that is
left out cannot be taken back in.
"""

import re
from collections.abc import Iterable

# Never deployed, whatever the other patterns say of them first: not the agent's code, or secret.
ALWAYS = (
    ".git/",
    ".hg/",
    ".svn/",
    ".venv/",
    "venv/",
    "__pycache__/",
    "*.pyc",
    ".mypy_cache/",
    ".pytest_cache/",
    ".ruff_cache/",
    ".tox/",
    ".nox/",
    ".idea/",
    ".vscode/",
    "node_modules/",
    "*.egg-info/",
    ".DS_Store",
    ".env",
    ".env.*",
    ".gitignore",
    ".freeholdignore",
)


class Ignore:
    def __init__(self, lines: Iterable[str]) -> None:
        self._patterns = [pattern for line in lines if (pattern := _Pattern.of(line))]

    def matches(self, path: str, *, folder: bool) -> bool:
        """`path` is relative, with `/`; its parents are known to be taken."""
        ignored = False
        for pattern in self._patterns:
            if (folder or not pattern.folders_only) and pattern.regex.fullmatch(path):
                ignored = not pattern.negated
        return ignored


class _Pattern:
    def __init__(self, regex: re.Pattern[str], *, negated: bool, folders_only: bool) -> None:
        self.regex = regex
        self.negated = negated
        self.folders_only = folders_only

    @classmethod
    def of(cls, line: str) -> "_Pattern | None":
        line = line.rstrip("\r\n")
        if not line.endswith("\\ "):
            line = line.rstrip(" ")
        if not line or line.startswith("#"):
            return None
        negated = line.startswith("!")
        line = line.removeprefix("!")
        if line.startswith(("\\#", "\\!")):
            line = line[1:]
        folders_only = line.endswith("/")
        line = line.rstrip("/")
        anchored = "/" in line
        line = line.lstrip("/")
        if not line:
            return None
        prefix = "" if anchored else "(?:.*/)?"
        return cls(
            re.compile(prefix + _translated(line), re.DOTALL),
            negated=negated,
            folders_only=folders_only,
        )


def _translated(pattern: str) -> str:
    """A regular expression for one pattern; `*` stops at a slash, `**` does not."""
    out, at = "", 0
    while at < len(pattern):
        if pattern.startswith("**/", at):
            out, at = out + "(?:.*/)?", at + 3
        elif pattern.startswith("**", at):
            out, at = out + ".*", at + 2
        elif pattern[at] == "*":
            out, at = out + "[^/]*", at + 1
        elif pattern[at] == "?":
            out, at = out + "[^/]", at + 1
        elif pattern[at] == "[" and (end := pattern.find("]", at + 2)) > 0:
            inside = pattern[at + 1 : end].replace("\\", "\\\\")
            if inside.startswith(("!", "^")):
                inside = "^/" + inside[1:]
            out, at = out + f"[{inside}]", end + 1
        elif pattern[at] == "\\" and at + 1 < len(pattern):
            out, at = out + re.escape(pattern[at + 1]), at + 2
        else:
            out, at = out + re.escape(pattern[at]), at + 1
    return out
