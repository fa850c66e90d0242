"""`freehold function` and the API behind it, on a real platform."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from running import RunningPlatform

SECONDS_MAX = 120
CODE = """
import os


def handler(event, context):
    if "fail" in event:
        raise LookupError(event["fail"])
    custom = context.client_context.custom
    return {"got": event, "colour": os.environ.get("COLOUR"), "custom": custom}
"""


class Commands:
    def __init__(self, platform: RunningPlatform) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "FREEHOLD_"))}
        self._environment = {**kept, "FREEHOLD_STATE": str(platform.state)}

    def run(self, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "freehold.cli", "function", *words, "--json"],
            env=self._environment, input=given, capture_output=True, text=True, check=False,
            timeout=SECONDS_MAX,
        )  # fmt: skip

    def document(self, *words: str, given: str = "") -> Any:
        done = self.run(*words, given=given)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def commands(platform: RunningPlatform) -> Commands:
    if platform.facts["tier"] != "container":
        pytest.skip("a server of its own needs the container tier")
    return Commands(platform)


def test_a_folder_becomes_a_function_and_goes_again(
    commands: Commands, platform: RunningPlatform, tmp_path: Path
) -> None:
    (tmp_path / "main.py").write_text(CODE)
    made = commands.document(
        "create", "greet", str(tmp_path), "--env", "COLOUR=red", "--timeout", "7"
    )
    assert made["status"] == "READY"
    assert made["arn"] == f"arn:aws:lambda:{platform.region}:{platform.account}:function:greet"
    assert (made["timeoutSeconds"], made["environment"]) == (7, {"COLOUR": "red"})
    assert commands.document("invoke", "greet", "-", given='{"a": 1}') == {
        "got": {"a": 1}, "colour": "red", "custom": {},
    }  # fmt: skip
    taken = commands.run("create", "greet", str(tmp_path))
    assert "there is a function 'greet' already" in taken.stderr + taken.stdout

    (tmp_path / "main.py").write_text(CODE.replace('"got"', '"told"'))
    changed = commands.document("update", "greet", str(tmp_path), "--timeout", "9")
    assert (changed["timeoutSeconds"], changed["environment"]) == (9, {"COLOUR": "red"})
    assert commands.document("invoke", "greet", '{"a": 2}')["told"] == {"a": 2}

    failed = commands.run("invoke", "greet", '{"fail": "no such city"}')
    assert failed.returncode == 1
    assert "no such city" in failed.stderr + failed.stdout
    told = platform.own(
        "/functions/greet/invocations", method="POST",
        body={"event": {}, "context": {"tool": "t___x"}},
    )  # fmt: skip
    assert told["result"]["custom"] == {"tool": "t___x"}

    assert "greet" in [each["name"] for each in commands.document("list")["functions"]]
    commands.document("delete", "greet")
    assert "greet" not in [each["name"] for each in commands.document("list")["functions"]]
    gone = commands.run("show", "greet")
    assert gone.returncode == 1
    assert "does not exist" in gone.stderr + gone.stdout


def test_another_account_sees_none_of_it(
    commands: Commands, platform: RunningPlatform, tmp_path: Path
) -> None:
    (tmp_path / "main.py").write_text(CODE)
    commands.document("create", "own", str(tmp_path))
    other = platform.as_tenant("200000000007")
    assert other.own("/functions")["functions"] == []
    with pytest.raises(AssertionError, match="ResourceNotFoundException"):
        other.own("/functions/own/invocations", method="POST", body={"event": {}})
    commands.document("delete", "own")
