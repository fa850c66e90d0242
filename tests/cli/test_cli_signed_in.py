"""Whose credentials a command takes, and the port that a browser brings a code to."""

import hashlib
import json
import stat
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import pytest
import urllib3

from freehold.cli import signed_in
from freehold.cli.connection import endpoint_to_sign_in, resolve
from freehold.cli.failure import CliError
from freehold.cli.loopback import Loopback
from freehold.cli.signed_in import SignedIn

HERE = "http://127.0.0.1:8400"


def person(endpoint: str = HERE, *, hours: float = 1) -> SignedIn:
    return SignedIn(
        endpoint=endpoint, region="us-east-1", account="123456789012", user="ada",
        access_key_id="FHSAADA", secret_access_key="secret-of-ada", session_token="token-of-ada",
        expiration=(datetime.now(UTC) + timedelta(hours=hours)).isoformat(),
    )  # fmt: skip


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Of a machine whose own platform is at HERE, with its key in the state directory."""
    state = tmp_path / "state"
    state.mkdir()
    file = state / "connection.json"
    document = {
        "endpoint": HERE, "region": "us-east-1", "account": "123456789012",
        "access_key_id": "FHIASTATE", "secret_access_key": "secret-of-state",
    }  # fmt: skip
    file.write_text(json.dumps(document))
    file.chmod(0o600)
    return {"FREEHOLD_STATE": str(state), "XDG_CONFIG_HOME": str(tmp_path / "config")}


@pytest.fixture
def path(environment: dict[str, str]) -> Path:
    return signed_in.file_path(environment)


def taken(environment: dict[str, str], *, endpoint: str | None = None) -> str:
    return resolve(endpoint=endpoint, state=None, environment=environment).access_key_id


def test_who_signed_in_to_this_platform_acts_as_themselves(
    environment: dict[str, str], path: Path
) -> None:
    assert taken(environment) == "FHIASTATE"
    signed_in.save(person(), path)
    found = resolve(endpoint=None, state=None, environment=environment)
    assert (found.access_key_id, found.session_token) == ("FHSAADA", "token-of-ada")
    assert taken(environment, endpoint=HERE) == "FHSAADA"
    assert "of-ada" not in repr(found) + repr(person())


def test_a_sign_in_elsewhere_is_not_taken_here(environment: dict[str, str], path: Path) -> None:
    signed_in.save(person("http://far:1"), path)
    assert taken(environment) == "FHIASTATE"
    assert taken(environment, endpoint="http://far:1/") == "FHSAADA"


def test_a_state_directory_that_is_named_means_its_own_key(
    environment: dict[str, str], path: Path
) -> None:
    signed_in.save(person(), path)
    state = Path(environment["FREEHOLD_STATE"])
    assert resolve(endpoint=None, state=state, environment=environment).session_token is None


def test_keys_of_the_environment_come_first_and_a_foreign_token_stays_out(
    environment: dict[str, str], path: Path
) -> None:
    signed_in.save(person(), path)
    environment |= {
        "FREEHOLD_ENDPOINT": HERE, "AWS_SECRET_ACCESS_KEY": "x", "AWS_SESSION_TOKEN": "t",
    }  # fmt: skip
    for key, token in (("FHIAENVIRONMENT", None), ("FHSAENVIRONMENT", "t")):
        environment["AWS_ACCESS_KEY_ID"] = key
        found = resolve(endpoint=None, state=None, environment=environment)
        assert (found.access_key_id, found.session_token) == (key, token)


def test_an_expired_sign_in_never_becomes_another_key_by_itself(
    environment: dict[str, str], path: Path
) -> None:
    signed_in.save(person(hours=-1), path)
    with pytest.raises(CliError, match="has expired") as caught:
        taken(environment)
    assert caught.value.code == "SignInExpired"
    signed_in.forget(HERE, path)
    assert taken(environment) == "FHIASTATE"


def test_a_machine_without_a_platform_takes_the_last_sign_in(
    environment: dict[str, str], path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment["FREEHOLD_STATE"] = str(tmp_path / "nothing")
    signed_in.save(person("http://far:1"), path)
    signed_in.save(person("http://farther:1"), path)
    found = resolve(endpoint=None, state=None, environment=environment)
    assert found.endpoint == "http://farther:1"
    for name in ("FREEHOLD_STATE", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, environment[name])
    monkeypatch.delenv("FREEHOLD_ENDPOINT", raising=False)
    assert endpoint_to_sign_in(endpoint=None, state=None) == "http://farther:1"


def test_the_file_is_its_owners_alone(path: Path) -> None:
    signed_in.save(person(), path)
    signed_in.save(person("http://far:1"), path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [p.name for p in path.parent.iterdir()] == ["login.json"]
    path.chmod(0o640)
    with pytest.raises(CliError, match="may be read by others"):
        signed_in.of_endpoint(HERE, path)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"last": 1, "logins": {}}', '{"last": "x", "logins": {"x": {}}}']
)
def test_a_damaged_file_is_named_and_replaced_by_the_next_sign_in(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(CliError) as caught:
        signed_in.of_endpoint(None, path)
    assert caught.value.code == "BadLoginFile"
    signed_in.save(person(), path)
    found = signed_in.of_endpoint(None, path)
    assert found is not None
    assert found.user == "ada"


def _brought(loopback: Loopback, path: str = "/signed-in", host: str = "", **query: str) -> int:
    url = f"http://127.0.0.1:{loopback.port}{path}?{urlencode(query)}"
    headers = {"Host": host} if host else None
    return urllib3.request("GET", url, headers=headers, retries=False, timeout=10).status


def test_only_the_answer_that_was_asked_for_is_taken() -> None:
    with Loopback() as loopback:
        state = str(loopback.request()["state"])
        assert _brought(loopback, code="c", state="another") == 404
        assert _brought(loopback, code="c") == 404
        assert _brought(loopback, state=state) == 404
        assert _brought(loopback, path="/", code="c", state=state) == 404
        assert _brought(loopback, host="evil.example", code="c", state=state) == 404
        assert loopback.wait(0.01) is None
        assert _brought(loopback, code="the-code", state=state) == 200
        assert loopback.wait(10) == "the-code"


def test_the_challenge_is_that_of_the_verifier() -> None:
    with Loopback() as one, Loopback() as other:
        digest = hashlib.sha256(one.verifier.encode()).digest()
        assert one.request()["codeChallenge"] == urlsafe_b64encode(digest).decode().rstrip("=")
        assert 43 <= len(one.verifier) <= 128
        assert one.verifier != other.verifier
