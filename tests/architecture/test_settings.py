"""Settings: each is documented, used, reachable by a variable; what cannot be is said clearly."""

import re
from dataclasses import fields
from pathlib import Path

import click
import pytest

from freehold.cli.up import up
from freehold.settings import (
    Settings,
    SettingsError,
    environment_of,
    load,
    unknown_variables,
    variable,
)

ROOT = Path(__file__).parent.parent.parent
NAMES = [f.name for f in fields(Settings)]
# Read by the adapters of models from the environment, as providers' own variables are.
READ_AS_VARIABLES = {"model", "bedrock_region"}
FLAG_OF = {"sandbox_tier": "tier"}


@pytest.mark.parametrize("name", NAMES)
def test_a_setting_stands_on_its_page(name: str) -> None:
    assert f"| `{variable(name)}` |" in (ROOT / "docs" / "settings.md").read_text()


@pytest.mark.parametrize("name", sorted(set(NAMES) - READ_AS_VARIABLES))
def test_a_setting_does_something(name: str) -> None:
    used = re.compile(rf"settings\.{name}\b|self\.{name}\b")
    sources = (ROOT / "src" / "freehold").rglob("*.py")
    assert any(used.search(path.read_text()) for path in sources), f"nobody reads {name}"


def test_the_page_names_no_other_variable() -> None:
    text = (ROOT / "docs" / "settings.md").read_text()
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.M)) == {variable(name) for name in NAMES}


def test_every_flag_of_up_is_a_setting() -> None:
    flags = {
        option.name for option in up.params if isinstance(option, click.Option)
    } - {"as_json"}  # fmt: skip
    assert flags <= {FLAG_OF.get(name, name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_settings_come_through_the_environment_as_they_are(name: str) -> None:
    """The supervisor hands them to its processes so."""
    given = load({"FREEHOLD_STATE": "/somewhere", "FREEHOLD_DATABASE_URL": "postgresql://x/y"})
    assert getattr(load(environment_of(given)), name) == getattr(given, name)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("port", "many", "FREEHOLD_PORT='many': expected a whole number"),
        ("port", "70000", "FREEHOLD_PORT=70000: expected at most 65535"),
        ("port", "-1", "FREEHOLD_PORT=-1: must not be negative"),
        ("workers", "0", "FREEHOLD_WORKERS=0: expected at least 1"),
        ("metering_seconds", "soon", "FREEHOLD_METERING_SECONDS='soon': expected a number"),
        ("metering_seconds", "nan", "FREEHOLD_METERING_SECONDS='nan': expected a number"),
        ("allow_process_tier", "perhaps", "expected true or false"),
        ("log_level", "loud", "expected one of debug, info, warning, error"),
        ("sandbox_tier", "vault", "expected one of auto, container"),
        ("account", "12", "FREEHOLD_ACCOUNT: expected 12 digits"),
        ("s3_bucket", "blobs", "s3_endpoint and s3_bucket go together"),
        ("session_idle_seconds", "99999", "must not exceed FREEHOLD_SESSION_LIFETIME_SECONDS"),
        ("session_memory_mib_max", "0", "FREEHOLD_SESSION_MEMORY_MIB_MAX=0: expected at least 1"),
    ],
)
def test_a_value_that_cannot_be_is_said_in_one_line(name: str, text: str, said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load({variable(name): text})
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_process_tier_asks_for_a_permission_of_its_own() -> None:
    with pytest.raises(SettingsError, match="isolates nothing"):
        load({"FREEHOLD_SANDBOX_TIER": "process"})
    permitted = {"FREEHOLD_SANDBOX_TIER": "process", "FREEHOLD_ALLOW_PROCESS_TIER": "yes"}
    assert load(permitted).sandbox_tier == "process"


def test_a_flag_comes_before_a_variable_and_that_before_the_default() -> None:
    assert load({}).port == 8400
    assert load({"FREEHOLD_PORT": "1"}).port == 1
    assert load({"FREEHOLD_PORT": "1"}, port=2).port == 2
    assert load({"FREEHOLD_PORT": ""}).port == 8400, "empty is as if it were not there"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("FREEHOLD_WORKER", "did you mean FREEHOLD_WORKERS?"),
        ("FREEHOLD_DATABSE_URL", "did you mean FREEHOLD_DATABASE_URL?"),
        ("FREEHOLD_ZZZ", "docs/settings.md has them all"),
    ],
)
def test_an_unknown_variable_is_named_with_the_nearest_known_one(name: str, said: str) -> None:
    (remark,) = unknown_variables({name: "x", "FREEHOLD_PORT": "1", "HOME": "/"})
    assert remark.startswith(f"{name} is not a setting")
    assert said in remark


def test_variables_of_the_command_line_are_known() -> None:
    assert unknown_variables({"FREEHOLD_ENDPOINT": "http://x", "FREEHOLD_DEBUG": "1"}) == []


def test_secrets_are_not_shown() -> None:
    settings = load({"FREEHOLD_DATABASE_URL": "postgresql://u:hidden@h/d"})
    assert "hidden" not in repr(settings)
