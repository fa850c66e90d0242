"""`freehold gateway check`: a report on a document, with no platform anywhere."""

import json
from pathlib import Path
from typing import Any

from cli_doubles import Run
from gateway_bench import EXAMPLE

SMITHY: dict[str, Any] = {
    "smithy": "2.0",
    "shapes": {
        "com.example#Weather": {
            "type": "service",
            "version": "2026-01-01",
            "operations": [{"target": "com.example#GetForecast"}],
            "traits": {"aws.protocols#restJson1": {}},
        },
        "com.example#GetForecast": {
            "type": "operation",
            "input": {"target": "com.example#Input"},
            "traits": {"smithy.api#http": {"method": "GET", "uri": "/forecast/{city}"}},
        },
        "com.example#Input": {
            "type": "structure",
            "members": {
                "city": {
                    "target": "smithy.api#String",
                    "traits": {"smithy.api#required": {}, "smithy.api#httpLabel": {}},
                }
            },
        },
    },
}


def test_the_report_names_tools_arguments_and_what_is_not_wholly_taken_over(run: Run) -> None:
    done = run("gateway", "check", EXAMPLE / "library.yaml")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("Library (openapi): 4 tools, 0 not converted\n")
    assert "lendBook    id reader [days]" in done.stdout
    assert "in part" in done.stdout
    assert "loans.yaml" in done.stdout


def test_for_programs_the_report_has_the_tools_as_agents_get_them(run: Run) -> None:
    done = run("gateway", "check", EXAMPLE / "library.yaml", "--json")
    report = json.loads(done.stdout)
    tools = {tool["name"]: tool for tool in report["tools"]}
    assert tools["getBook"]["inputSchema"]["required"] == ["id"]
    assert [problem["skipped"] for problem in report["problems"]] == [False]


def test_a_smithy_model_is_known_by_its_root(run: Run, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(json.dumps(SMITHY))
    done = run("gateway", "check", tmp_path / "model.json")
    assert done.exit_code == 0, done.output
    assert "(smithy): 1 tool, 0 not converted" in done.stdout
    assert "GetForecast  city" in done.stdout


def test_nothing_converted_is_exit_status_1_with_the_reason(run: Run, tmp_path: Path) -> None:
    paths: dict[str, Any] = {}
    document = {"openapi": "3.1.0", "info": {"title": "Empty", "version": "1"}, "paths": paths}
    (tmp_path / "empty.json").write_text(json.dumps(document))
    done = run("gateway", "check", tmp_path / "empty.json")
    assert done.exit_code == 1
    assert "Empty (openapi): 0 tools, 1 not converted" in done.stdout
    assert "has no operations" in done.stdout


def test_what_is_no_document_is_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("milk, bread")
    done = run("gateway", "check", tmp_path / "notes.txt")
    assert done.exit_code == 1
    assert done.stderr.startswith(f"Error: {tmp_path / 'notes.txt'}: ")
    assert run("gateway", "check", tmp_path / "nowhere.yaml").exit_code == 1
    (tmp_path / "model.smithy").write_text("$version: '2'")
    assert "smithy ast" in run("gateway", "check", tmp_path / "model.smithy").stderr
