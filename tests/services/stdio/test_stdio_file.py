"""The operator's file."""

import io
import zipfile
from pathlib import Path

import pytest

from freehold.services.stdio import bundle
from freehold.services.stdio.model import StdioFileError, read_servers

GOOD = {"directory": '"{0}"', "runtime": '"PYTHON_3_12"', "command": '["s.py"]'}


def written(path: Path, name: str = "notes", **members: str) -> Path:
    lines = [f"{key} = {value.format(path)}" for key, value in (GOOD | members).items()]
    file = path / "stdio.toml"
    file.write_text("\n".join([f"[servers.{name}]", *lines]))
    return file


def test_a_server_is_for_those_whom_it_names(tmp_path: Path) -> None:
    nobody = read_servers(written(tmp_path))["notes"]
    assert not nobody.is_for("123456789012")
    one = read_servers(written(tmp_path, tenants='["123456789012"]'))["notes"]
    assert one.is_for("123456789012")
    assert not one.is_for("999900001111")
    assert read_servers(written(tmp_path, tenants='["*"]'))["notes"].is_for("999900001111")


def test_what_it_may_reach_and_use_are_the_tags_of_its_runtime(tmp_path: Path) -> None:
    more = {"egress-hosts": '["a.example", "b.example:8443"]', "tier": '"vm"', "memory-mib": "64"}
    server = read_servers(written(tmp_path, **more))["notes"]
    assert server.tags("notes") == {
        "freehold-stdio": "notes",
        "freehold:egress-hosts": "a.example b.example:8443",
        "freehold:tier": "vm",
        "freehold:memory-mib": "64",
    }


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"directory": '"/nowhere/at/all"'}, "no directory of this machine"),
        ({"directory": '"relative"'}, "by its whole path"),
        ({"runtime": '"BASH"'}, "runtime"),
        ({"command": "[]"}, "command"),
        ({"tenants": '["everybody"]'}, "12 digits"),
        ({"shell": '"rm"'}, "unknown field `shell`"),
        ({"name": "Up"}, "name is up to 32"),
        ({"command": "["}, "TOML|Invalid|value"),
    ],
)
def test_what_is_wrong_with_it_is_said(tmp_path: Path, members: dict[str, str], words: str) -> None:
    members = dict(members)
    name = members.pop("name", "notes")
    with pytest.raises(StdioFileError, match=words):
        read_servers(written(tmp_path, name, **members))


def test_the_same_files_are_the_same_bundle_wherever_they_are(tmp_path: Path) -> None:
    digests = set()
    for place in ("one", "two", "other"):
        directory = tmp_path / place
        (directory / "bin").mkdir(parents=True)
        (directory / "bin" / "run").write_text("#!/bin/sh\n")
        (directory / "bin" / "run").chmod(0o755)
        (directory / "s.py").write_text("other" if place == "other" else "same")
        server = read_servers(written(directory))["notes"]
        (directory / "stdio.toml").unlink()
        file, digest = bundle.bundled(server)
        with file:
            archive = zipfile.ZipFile(io.BytesIO(file.read() if not file.seek(0) else b""))
        assert set(archive.namelist()) == {"bin/run", "s.py", "_freehold_stdio.py"}
        assert archive.getinfo("bin/run").external_attr >> 16 == 0o100755
        digests.add(digest)
    assert len(digests) == 2
