"""The program that runs an entry point as `__main__`, whatever Python runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from freehold.adapters.sandbox.launcher import LAUNCHER_FILE, installed_launcher


def launched(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(LAUNCHER_FILE), *arguments],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    folder.mkdir()
    return folder


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    folder = tmp_path / "layer"
    (folder / "bin").mkdir(parents=True)
    return folder


def test_the_entry_point_is_main_with_its_arguments_and_file(code: Path) -> None:
    (code / "main.py").write_text(
        "import sys, json, helper\n"
        "if __name__ == '__main__': print(json.dumps([sys.argv, __file__, helper.X]))"
    )
    (code / "helper.py").write_text("X = 1")
    done = launched("--code", str(code), "main.py", "-x", "--code", cwd=Path("/"))
    entry = str(code / "main.py")
    assert json.loads(done.stdout) == [[entry, "-x", "--code"], entry, 1]


def test_code_comes_before_the_standard_library_and_layers_after(code: Path, layer: Path) -> None:
    (code / "main.py").write_text("import both, json, colorsys; print(both.WHERE, colorsys.MINE)")
    (code / "both.py").write_text("WHERE = 'code'")
    (code / "colorsys.py").write_text("MINE = True")
    (layer / "both.py").write_text("WHERE = 'layer'")
    (layer / "json.py").write_text("raise SystemExit('a layer hid the standard library')")
    done = launched("--code", str(code), "--layer", str(layer), "main.py", cwd=code)
    assert done.stdout.split() == ["code", "True"], done.stderr


def test_what_is_installed_on_the_machine_is_not_seen(code: Path) -> None:
    (code / "main.py").write_text("import msgspec")
    done = launched("--code", str(code), "main.py", cwd=code)
    assert "No module named 'msgspec'" in done.stderr


def test_a_layer_may_have_path_files_and_programs(code: Path, layer: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "linked.py").write_text("X = 'linked'")
    (layer / "link.pth").write_text(str(tmp_path / "elsewhere"))
    (layer / "bin" / "program").write_text(
        "#!/usr/bin/python\nimport linked, subprocess, sys\nprint(linked.X, flush=True)\n"
        "subprocess.run([sys.executable, '-c', 'import inside; print(inside.Y)'], check=True)"
    )
    (code / "inside.py").write_text("Y = 'a child sees the code too'")
    done = launched("--code", str(code), "--layer", str(layer), "program", cwd=code)
    assert done.stdout.splitlines() == ["linked", "a child sees the code too"], done.stderr


def test_a_module_can_be_the_entry_point(code: Path) -> None:
    (code / "package").mkdir()
    (code / "package" / "__main__.py").write_text("import sys; print(__name__, sys.argv[1:])")
    done = launched("--code", str(code), "-m", "package", "a", cwd=code)
    assert done.stdout.strip() == "__main__ ['a']"


def test_an_exit_code_and_a_traceback_come_through(code: Path) -> None:
    (code / "main.py").write_text("def f():\n    raise ValueError('of the agent')\nf()")
    done = launched("--code", str(code), "main.py", cwd=code)
    assert done.returncode == 1
    assert "ValueError: of the agent" in done.stderr
    assert launched("--code", str(code), "nothing.py", cwd=code).returncode != 0
    assert "no entry point" in launched("--code", str(code), cwd=code).stderr


def test_other_ports_of_uvicorn_stay_tcp(code: Path, tmp_path: Path) -> None:
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    (code / "main.py").write_text(
        "import os, json, uvicorn\n"
        "configs = [uvicorn.Config('a:b', port=8080), uvicorn.Config('a:b', port=9999),\n"
        "           uvicorn.Config('a:b', port=8080, uds='/mine')]\n"
        "print(json.dumps([[c.uds for c in configs], 'FREEHOLD_AGENT_SOCKETS' in os.environ]))"
    )
    done = launched(
        "--code",
        str(code),
        "--layer",
        packages,
        "main.py",
        cwd=code,
        FREEHOLD_AGENT_SOCKETS="8080,8000=/box",
    )
    assert json.loads(done.stdout) == [["/box/port-8080.sock", None, "/mine"], False], done.stderr


def test_a_copy_is_made_once_and_readable_to_all(tmp_path: Path) -> None:
    first = installed_launcher(tmp_path)
    assert installed_launcher(tmp_path) == first
    assert first.read_bytes() == LAUNCHER_FILE.read_bytes()
    assert first.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [first]
