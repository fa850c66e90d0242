"""The conformance suite of the Model Context Protocol, run against a URL."""

import re
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from npm_packages import NpmPackages, node_root

SUITE = NpmPackages(Path(__file__).with_name("suite"))
_PROGRAM = Path("node_modules/@modelcontextprotocol/conformance/dist/index.js")
_SECONDS_MAX = 400
_LINE = re.compile(r"^(\S+) ([a-z0-9-]+): (\d+) passed, (\d+) failed", re.MULTILINE)
_NOT_SCORED = re.compile(r"^  \S+ ([a-z0-9-]+) \([a-z-]+\)$", re.MULTILINE)


class Score(NamedTuple):
    """`scenarios`: how many checks of each passed and failed, of those that count. `text` is all
    that the suite said."""

    scenarios: dict[str, tuple[int, int]]
    exit_code: int
    text: str

    @property
    def passed(self) -> set[str]:
        return {name for name, (_, failed) in self.scenarios.items() if not failed}


def run(url: str, revision: str) -> Score:
    """All scenarios of servers that the frozen set of this revision requires."""
    root = node_root()
    assert root is not None
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(
            [root / "bin" / "node", SUITE.installed / _PROGRAM, "server", "--url", url,
             "--requirements", revision],
            cwd=scratch, capture_output=True, text=True, timeout=_SECONDS_MAX, check=False,
        )  # fmt: skip
    text = done.stdout + done.stderr
    beyond = set(_NOT_SCORED.findall(text.partition("Not scored for ")[2]))
    scenarios = {
        name: (int(passed), int(failed))
        for _, name, passed, failed in _LINE.findall(text)
        if name not in beyond
    }
    return Score(scenarios, done.returncode, text)
