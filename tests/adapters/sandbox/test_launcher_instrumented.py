"""`opentelemetry-instrument` as the entry point's first word."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import instrumented_layer
from freehold.adapters.sandbox.launcher import LAUNCHER_FILE

MAIN = """
import dependency, os, sys
print(dependency.App.traced, os.environ["OF_THE_DISTRO"], sys.argv)
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "main.py").write_text(MAIN)
    return tmp_path / "code"


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    (tmp_path / "layer").mkdir()
    instrumented_layer.fill(tmp_path / "layer")
    (tmp_path / "layer" / "dependency.py").write_text(instrumented_layer.DEPENDENCY)
    return tmp_path / "layer"


def command(code: Path, layer: Path, *entry: str) -> list[str]:
    options = ("--code", str(code), "--layer", str(layer))
    return [sys.executable, str(LAUNCHER_FILE), *options, "opentelemetry-instrument", *entry]


def said(code: Path, layer: Path, *entry: str, **environment: str) -> list[str]:
    done = subprocess.run(
        command(code, layer, *entry),
        env={"PATH": os.environ["PATH"], **environment},
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return (done.stdout + done.stderr).splitlines()


@pytest.mark.parametrize("entry", [("main.py", "-x"), ("python", "main.py", "-x")])
def test_instrumentation_starts_before_the_entry_point_in_one_process(
    code: Path, layer: Path, entry: tuple[str, ...]
) -> None:
    distro, configurator, instrumentors, main, flushed = said(code, layer, *entry)
    of_one = {line.split(" in ")[1].split()[0] for line in (distro, configurator, instrumentors)}
    assert len(of_one) == 1
    assert main == f"True set ['{code}/main.py', '-x']"
    assert flushed == "flushed"


def test_an_agent_without_its_packages_runs_and_its_log_says_what_is_missing(
    code: Path, tmp_path: Path
) -> None:
    (tmp_path / "layer").mkdir()
    (code / "main.py").write_text("print('runs')")
    runs, lacks = said(code, tmp_path / "layer", "main.py")
    assert runs == "runs"
    assert "opentelemetry-distro" in lacks
    assert "add them to its requirements" in lacks


def test_an_exporter_that_is_missing_is_named(code: Path, layer: Path) -> None:
    points = layer / "stand_in-1.0.dist-info" / "entry_points.txt"
    points.write_text(points.read_text().partition("[opentelemetry_traces_exporter]")[0])
    (code / "main.py").write_text("print('runs')")
    wanted = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
    runs, lacks = said(code, layer, "main.py", **wanted)
    assert runs == "runs"
    assert "opentelemetry-exporter-otlp-proto-http" in lacks
    assert "opentelemetry-distro" not in lacks


def test_what_was_recorded_is_sent_when_the_session_is_told_to_end(code: Path, layer: Path) -> None:
    (code / "main.py").write_text("import time\nprint('up', flush=True)\ntime.sleep(600)")
    started = subprocess.Popen(command(code, layer, "main.py"), stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    with started.stdout:
        while started.stdout.readline() != "up\n":
            assert started.poll() is None
        started.send_signal(signal.SIGTERM)
        assert started.stdout.read() == "flushed\n"
    assert started.wait(60) == 128 + signal.SIGTERM
