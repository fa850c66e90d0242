"""`freehold create` makes an agent that can be deployed, and overwrites nothing."""

import json
from pathlib import Path

import pytest
from cli_doubles import Run

from freehold.cli import project
from freehold.cli.create import TEMPLATES, rendered


@pytest.mark.parametrize("template", TEMPLATES)
def test_each_template_is_a_whole_agent(run: Run, tmp_path: Path, template: str) -> None:
    target = tmp_path / "agent"
    result = run("create", "greeter", "--template", template, "--dir", target, "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    files = [".gitignore", "README.md", "freehold.toml", "main.py", "requirements.txt"]
    assert document["files"] == files
    assert sorted(path.name for path in target.iterdir()) == files
    agent = project.load(target)
    assert (agent.name, agent.entry_point) == ("greeter", ("main.py",))
    assert agent.runtime == project.runtime_here()
    assert "BedrockAgentCoreApp" in (target / "main.py").read_text()


@pytest.mark.parametrize("template", TEMPLATES)
def test_nothing_is_left_to_fill_in_and_versions_are_pinned(template: str) -> None:
    files = rendered(template, "greeter")
    assert not [path for path, text in files.items() if "{{" in text]
    compile(files["main.py"], "main.py", "exec")
    for requirement in files["requirements.txt"].splitlines():
        assert "==" in requirement


def test_the_folder_is_called_as_the_agent(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("create", "greeter")
    assert (tmp_path / "greeter" / "main.py").is_file()
    assert "freehold deploy greeter" in result.stderr


def test_nothing_is_overwritten_and_nothing_is_half_written(run: Run, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("mine")
    result = run("create", "greeter", "--dir", tmp_path)
    assert result.exit_code == 1
    assert "has main.py already; nothing was written" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["main.py"]
    assert (tmp_path / "main.py").read_text() == "mine"


def test_a_name_with_a_hyphen_is_refused_before_anything_is_written(
    run: Run, tmp_path: Path
) -> None:
    result = run("create", "my-agent", "--dir", tmp_path / "x", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stderr)["error"]["hint"] == "Try: my_agent"
    assert not (tmp_path / "x").exists()
