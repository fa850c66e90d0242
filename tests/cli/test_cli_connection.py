"""Which platform a command talks to, and with which key."""

import json
from pathlib import Path
from typing import Any

import pytest
from cli_doubles import Answering, Run

from freehold.cli.connection import Connection, resolve
from freehold.cli.failure import CliError

KEYS = {"AWS_ACCESS_KEY_ID": "FHIAENVIRONMENT", "AWS_SECRET_ACCESS_KEY": "secret-of-environment"}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    directory = tmp_path / "state"
    directory.mkdir()
    save(directory)
    return directory


def save(directory: Path, *, mode: int = 0o600, **changes: Any) -> Path:
    document = {
        "endpoint": "http://127.0.0.1:8400",
        "region": "eu-west-1",
        "account": "123456789012",
        "access_key_id": "FHIASTATE",
        "secret_access_key": "secret-of-state",
        **changes,
    }
    path = directory / "connection.json"
    path.write_text(json.dumps(document))
    path.chmod(mode)
    return path


def test_the_state_directory_is_used_when_nothing_else_is_said(state: Path) -> None:
    found = resolve(endpoint=None, state=None, environment={"FREEHOLD_STATE": str(state)})
    assert (found.endpoint, found.region) == ("http://127.0.0.1:8400", "eu-west-1")
    assert (found.account, found.access_key_id) == ("123456789012", "FHIASTATE")


def test_the_environment_comes_before_the_state(state: Path) -> None:
    environment = {"FREEHOLD_STATE": str(state), "FREEHOLD_ENDPOINT": "http://far:1/", **KEYS}
    found = resolve(endpoint=None, state=None, environment=environment)
    assert found == Connection(
        endpoint="http://far:1",
        region="us-east-1",
        account=None,
        access_key_id="FHIAENVIRONMENT",
        secret_access_key="secret-of-environment",
        source="the environment",
    )


def test_a_state_flag_comes_before_the_environment(state: Path) -> None:
    found = resolve(
        endpoint=None, state=state, environment={"FREEHOLD_ENDPOINT": "http://far:1", **KEYS}
    )
    assert found.access_key_id == "FHIASTATE"


def test_keys_of_another_cloud_in_the_environment_do_not_hide_the_state(state: Path) -> None:
    environment = {"FREEHOLD_STATE": str(state), **KEYS}
    assert resolve(endpoint=None, state=None, environment=environment).access_key_id == "FHIASTATE"


def test_an_endpoint_flag_takes_the_keys_of_that_platforms_state(state: Path) -> None:
    environment = {"FREEHOLD_STATE": str(state), **KEYS}
    here = resolve(endpoint="http://127.0.0.1:8400/", state=None, environment=environment)
    elsewhere = resolve(endpoint="http://far:1", state=None, environment=environment)
    assert here.access_key_id == "FHIASTATE"
    assert elsewhere.access_key_id == "FHIAENVIRONMENT"


def test_the_secret_of_one_platform_is_not_taken_to_another(state: Path) -> None:
    with pytest.raises(CliError, match="No access key for http://far:1") as caught:
        resolve(endpoint="http://far:1", state=None, environment={"FREEHOLD_STATE": str(state)})
    assert caught.value.code == "NoCredentials"


def test_without_anything_the_way_to_start_one_is_told(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="Start one with: freehold up"):
        resolve(endpoint=None, state=None, environment={"FREEHOLD_STATE": str(tmp_path)})


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_a_secret_that_others_may_read_is_refused(state: Path, mode: int) -> None:
    save(state, mode=mode)
    with pytest.raises(CliError) as caught:
        resolve(endpoint=None, state=state, environment={})
    assert caught.value.code == "UnsafeConnectionFile"
    assert "chmod 600" in (caught.value.hint or "")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"endpoint": 1}', "\x00"])
def test_a_damaged_file_is_named(state: Path, text: str) -> None:
    (state / "connection.json").write_text(text)
    with pytest.raises(CliError, match=r"connection\.json is not a connection file"):
        resolve(endpoint=None, state=state, environment={})


def test_an_endpoint_without_a_scheme_is_refused() -> None:
    with pytest.raises(CliError, match="expected http://host:port"):
        resolve(endpoint="localhost:8400", state=None, environment=KEYS)


def test_no_secret_is_shown_by_accident(state: Path) -> None:
    assert "secret-of-state" not in repr(resolve(endpoint=None, state=state, environment={}))


def test_the_users_aws_profile_and_proxy_change_nothing(
    run: Run, answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering.has_runtime()
    monkeypatch.setenv("AWS_PROFILE", "one-that-does-not-exist")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert "greeter" in run("list").stdout
