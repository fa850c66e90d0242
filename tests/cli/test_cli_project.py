"""freehold.toml: what it may say, and how a mistake in it is told."""

from pathlib import Path

import pytest

from freehold.cli import project
from freehold.cli.failure import CliError
from freehold.cli.project import Project


def write(directory: Path, text: str) -> Path:
    (directory / "freehold.toml").write_text(text)
    (directory / "main.py").write_text("")
    return directory


def test_a_name_is_enough(tmp_path: Path) -> None:
    assert project.load(write(tmp_path, 'name = "greeter"')) == Project(name="greeter")


def test_all_keys_are_read(tmp_path: Path) -> None:
    read = project.load(
        write(
            tmp_path,
            """
            name = "greeter"
            entry_point = ["opentelemetry-instrument", "main.py"]
            runtime = "PYTHON_3_13"
            protocol = "MCP"
            description = "Greets"
            idle_timeout_seconds = 60
            lifetime_seconds = 3600
            exclude = ["data/"]
            [environment]
            GREETING = ""
            [tags]
            team = "support"
            [authorizer]
            discovery_url = "https://id.test/.well-known/openid-configuration"
            audience = ["agents"]
            """,
        )
    )
    assert read == Project(
        name="greeter",
        entry_point=("opentelemetry-instrument", "main.py"),
        runtime="PYTHON_3_13",
        protocol="MCP",
        description="Greets",
        idle_timeout_seconds=60,
        lifetime_seconds=3600,
        exclude=("data/",),
        environment={"GREETING": ""},
        tags={"team": "support"},
        authorizer={
            "discoveryUrl": "https://id.test/.well-known/openid-configuration",
            "allowedAudience": ["agents"],
        },
    )


def test_an_authorizer_can_be_taken_away(tmp_path: Path) -> None:
    assert project.load(write(tmp_path, 'name = "greeter"\nauthorizer = false')).authorizer == {}
    assert project.load(write(tmp_path, 'name = "greeter"')).authorizer is None


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('nmae = "x"', "nmae: no such key"),
        ("authorizer = true", "authorizer: expected a table, or false for none"),
        ('[authorizer]\naudience = ["a"]', "authorizer: expected text"),
        ('[authorizer]\ndiscovery_url = "https://x"', "authorizer: one of audience, clients"),
        ('[authorizer]\nissuer = "x"', "authorizer: issuer: no such key"),
        ('runtime = "PYTHON_2_7"', "runtime: expected one of PYTHON_3_10"),
        ('protocol = "http"', "protocol: expected one of HTTP"),
        ("idle_timeout_seconds = 59", "idle_timeout_seconds: expected 60 to 1209600 seconds"),
        ("lifetime_seconds = true", "lifetime_seconds: expected 60 to 1209600 seconds"),
        ("lifetime_seconds = 1209601", "lifetime_seconds: expected"),
        ("entry_point = []", "entry_point: expected a file, or a launcher and a file"),
        ('entry_point = "absent.py"', "entry_point: there is no absent.py"),
        ("entry_point = 3", "entry_point: expected a list of texts"),
        ('exclude = "data"', "exclude: expected a list of texts"),
        ('description = ""', "description: expected text"),
        ("environment = 1", "environment: expected a table"),
        ("[environment]\nPORT = 80", "environment: PORT: expected text, in quotes"),
        ('[environment]\n"A B" = ""', "environment: 'A B' cannot be the name of a variable"),
        ("= 1", "Invalid statement"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, line: str, told: str) -> None:
    write(tmp_path, f'name = "greeter"\n{line}')
    with pytest.raises(CliError) as caught:
        project.load(tmp_path)
    assert told in caught.value.message
    assert "freehold.toml" in caught.value.message


def test_a_folder_without_the_file_says_how_to_make_an_agent(tmp_path: Path) -> None:
    with pytest.raises(CliError, match=r"There is no freehold\.toml") as caught:
        project.load(tmp_path)
    assert "freehold create" in (caught.value.hint or "")


def test_a_missing_name_is_named(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="name: missing"):
        project.load(write(tmp_path, 'runtime = "PYTHON_3_11"'))


@pytest.mark.parametrize(
    ("name", "better"), [("my-agent", "my_agent"), ("2fast", "fast"), ("a b", "a_b")]
)
def test_a_name_that_agentcore_refuses_is_refused_with_one_that_would_do(
    tmp_path: Path, name: str, better: str
) -> None:
    with pytest.raises(CliError, match="cannot be an agent's name") as caught:
        project.load(write(tmp_path, f'name = "{name}"'))
    assert caught.value.hint == f"Try: {better}"
