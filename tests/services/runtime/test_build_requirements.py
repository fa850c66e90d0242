"""What a bundle asks for, and which of it may run code of others while it is installed."""

from pathlib import Path

import pytest

from freehold.services.runtime.build.model import BuildFailed
from freehold.services.runtime.build.requirements import Requirements, read_requirements


def bundle(tmp_path: Path, **files: str) -> Path:
    for name, text in files.items():
        path = tmp_path / name.replace("__", "/").replace("_txt", ".txt").replace("_toml", ".toml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def read(code: Path) -> Requirements:
    found = read_requirements(code)
    assert found is not None
    return found


def test_a_bundle_without_either_file_asks_for_nothing(tmp_path: Path) -> None:
    assert read_requirements(tmp_path) is None


@pytest.mark.parametrize("text", ["", "# nothing\n\n"])
def test_an_empty_file_asks_for_nothing(tmp_path: Path, text: str) -> None:
    assert read_requirements(bundle(tmp_path, requirements_txt=text)) is None


def test_lines_are_read_as_pip_reads_them(tmp_path: Path) -> None:
    found = read(
        bundle(
            tmp_path,
            requirements_txt="\ufeffsix==1.17.0  # pinned\n"
            "# a comment \\\nboto3[crt] >= 1.44, \\\n  <2 ; python_version > '3.9'\n"
            "idna==3.20 --hash=sha256:" + "a" * 64 + "\nattrs\n",
        )
    )
    assert found.requirements == [
        "six==1.17.0",
        "boto3[crt] >= 1.44,    <2 ; python_version > '3.9'",
        "idna==3.20 --hash=sha256:" + "a" * 64,
        "attrs",
    ]
    assert not found.runs_code and not found.bundled


def test_included_files_take_their_place_and_constraints_stay_apart(tmp_path: Path) -> None:
    found = read(
        bundle(
            tmp_path,
            requirements_txt="-r base/main.txt\n--constraint=limits.txt\nlast\n",
            base__main_txt="-r more.txt\nmiddle\n-r ../requirements.txt\n",
            base__more_txt="first\n",
            limits_txt="first<2\n",
        )
    )
    assert found.requirements == ["first", "middle", "last"]
    assert found.constraints == ["first<2"]
    assert not found.runs_code


@pytest.mark.parametrize(
    "line",
    [
        "pkg @ https://example.com/pkg-1.0-py3-none-any.whl",
        "git+https://example.com/repo.git#egg=pkg",
        "./local",
        "-e .",
        "--editable=./local",
        "wheels/pkg-1.0-py3-none-any.whl",
        "file:///etc/passwd",
        "--no-binary=:all:\nsix",
        "six ; ${PIP_INDEX_URL}",
        "six --config-settings=x=y",
    ],
)
def test_what_is_not_a_name_for_the_index_may_run_code(tmp_path: Path, line: str) -> None:
    assert read(bundle(tmp_path, requirements_txt=f"{line}\n")).runs_code


def test_the_operators_index_stands_whatever_the_bundle_says(tmp_path: Path) -> None:
    found = read(
        bundle(
            tmp_path,
            requirements_txt="--index-url https://evil.example/simple\n-i https://x\n"
            "--extra-index-url=https://evil.example\n--trusted-host evil.example\n"
            "-f https://evil.example/links\n--find-links wheels\nsix\n",
        )
    )
    assert found.requirements == ["six"]
    assert found.find_links == ["wheels"]
    assert found.bundled and not found.runs_code
    assert len(found.notes) == 5


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("-r ../other.txt\n", "not in the bundle"),
        ("-r /etc/passwd\n", "not in the bundle"),
        ("-r https://example.com/r.txt\n", "not in the bundle"),
        ("-r missing.txt\n", "has no missing.txt"),
        ("--find-links ../..\n", "not in the bundle"),
        ("--only-binary :all: --no-binary :all:\nsix\n", "not supported"),
        ("--pre --no-binary=:all:\nsix\n", "not supported"),
        ("--install-option=x\n", "not supported"),
        ("---\n", "not supported"),
        ("-\n", "not an option"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(BuildFailed, match=reason):
        read_requirements(bundle(tmp_path, requirements_txt=text))


def test_a_chain_of_includes_has_an_end(tmp_path: Path) -> None:
    for n in range(40):
        (tmp_path / f"r{n}.txt").write_text(f"-r r{n + 1}.txt\n")
    with pytest.raises(BuildFailed, match="more than 32 files"):
        read_requirements(bundle(tmp_path, requirements_txt="-r r0.txt\n"))


def test_a_projects_dependencies_are_read_where_there_is_no_requirements_file(
    tmp_path: Path,
) -> None:
    text = '[project]\nname = "x"\ndependencies = ["six>=1", "idna; python_version>\'3\'"]\n'
    found = read(bundle(tmp_path, pyproject_toml=text))
    assert found.requirements == ["six>=1", "idna; python_version>'3'"]
    assert found.source == "pyproject.toml"
    assert not found.runs_code
    assert read(bundle(tmp_path, requirements_txt="attrs\n")).requirements == ["attrs"]


@pytest.mark.parametrize(
    "text",
    [
        "[project",
        "[project]\ndependencies = 'six'\n",
        "[project]\ndependencies = [1]\n",
        "project = 1\n",
        "[project]\ndependencies = ['--index-url https://evil.example']\n",
        '[project]\ndependencies = ["""six\n-r /etc/passwd"""]\n',
        "x = " + "[" * 5000,
    ],
)
def test_a_project_file_that_cannot_be_read_is_said(tmp_path: Path, text: str) -> None:
    with pytest.raises(BuildFailed, match=r"pyproject\.toml"):
        read_requirements(bundle(tmp_path, pyproject_toml=text))


def test_a_project_without_dependencies_asks_for_nothing(tmp_path: Path) -> None:
    assert read_requirements(bundle(tmp_path, pyproject_toml="[tool.x]\ny = 1\n")) is None


def test_text_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_bytes("café".encode("latin-1"))
    with pytest.raises(BuildFailed, match="not UTF-8"):
        read_requirements(tmp_path)
