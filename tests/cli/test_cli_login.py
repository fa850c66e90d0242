"""`freehold login` at a real platform with its real console, and boto3 with the result."""

import json
import re
import stat
from pathlib import Path
from typing import Any

import pytest
import urllib3
from botocore.exceptions import ClientError
from cli_doubles import Command
from login_ground import SECONDS_MAX, Person

from running import RunningPlatform, refusal, until


@pytest.fixture(scope="session")
def admin_password(platform: RunningPlatform) -> tuple[str, str]:
    name, password = (platform.state / "admin-password").read_text().split()
    return name, password


@pytest.fixture
def person(platform: RunningPlatform, admin_password: tuple[str, str], tmp_path: Path) -> Person:
    person = Person(platform, tmp_path)
    person.browser.sign_in(*admin_password)
    return person


def test_the_first_password_is_its_owners_alone(platform: RunningPlatform) -> None:
    mode = (platform.state / "admin-password").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


def test_a_browser_here_signs_the_command_line_in(person: Person) -> None:
    done = person.log_in()
    assert done.code == 0, done.err
    assert f"Signed in to {person.platform.endpoint} as admin" in done.out
    assert stat.S_IMODE(person.file.stat().st_mode) == 0o600
    who = person.command("whoami", "--json").document
    assert (who["kind"], who["user"], who["roles"]) == ("person", "admin", ["admin"])
    assert who["source"] == "the sign-in of admin"
    for secret in ("secret_access_key", "session_token"):
        assert person.kept[secret] not in done.out + done.err


def test_a_code_signs_in_a_machine_without_a_browser(person: Person) -> None:
    with person.logging_in("--no-browser", "--json") as process:
        assert process.stderr is not None
        said = process.stderr.readline() + process.stderr.readline()
        code = re.search(r"type  (\S+)", said)
        assert code is not None, said
        assert code[1] not in said.partition("type")[0]  # the link does not hold it
        assert "Signed in" in _main(person.browser.type_code(code[1]))
        out, err = process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == 0, err
    assert json.loads(out)["user"] == "admin"
    assert person.command("whoami").code == 0


def test_a_refusal_in_the_browser_ends_the_command(person: Person) -> None:
    with person.logging_in("--json") as process:
        person.browser.answer_device(person.url_opened(), "deny")
        _, err = process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == 1
    assert json.loads(err[err.index("{") :])["error"]["code"] == "Refused"
    assert not person.file.exists()


def test_boto3_takes_the_credentials_as_they_are(person: Person) -> None:
    assert person.log_in().code == 0
    control = person.client("bedrock-agentcore-control")
    assert "agentRuntimes" in control.list_agent_runtimes()
    s3 = person.client("s3", config={"signature_version": "s3v4"})
    s3.create_bucket(Bucket="of-a-person")
    s3.put_object(Bucket="of-a-person", Key="k", Body=b"some bytes")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": "of-a-person", "Key": "k"})
    answer = urllib3.request("GET", url, retries=False)
    assert (answer.status, answer.data) == (200, b"some bytes")
    assert urllib3.request("GET", url.replace("X-Amz-Security-Token=", "X-Amz-Security-Token=x"),
                           retries=False).status == 403  # fmt: skip


@pytest.mark.parametrize(
    "token", [None, "", "x", "x" * 43], ids=["none", "empty", "short", "of the right length"]
)
def test_without_the_right_session_token_they_open_nothing(
    person: Person, token: str | None
) -> None:
    assert person.log_in().code == 0
    client = person.client("bedrock-agentcore-control", aws_session_token=token)
    assert refusal(client.list_agent_runtimes).status == 403


def test_a_permanent_key_with_a_session_token_is_refused(platform: RunningPlatform) -> None:
    client = platform.client("bedrock-agentcore-control", aws_session_token="any")
    found = refusal(client.list_agent_runtimes)
    assert (found.status, found.code) == (403, "UnrecognizedClientException")


def test_after_logout_they_are_good_for_nothing(person: Person) -> None:
    assert person.log_in().code == 0
    client = person.client("bedrock-agentcore-control")
    assert person.command("logout").code == 0

    def refused() -> bool:
        try:
            client.list_agent_runtimes()
        except ClientError as error:
            return bool(error.response["ResponseMetadata"]["HTTPStatusCode"] == 403)
        return False

    until(refused, seconds_max=5)
    done = person.command("whoami", "--json")
    assert json.loads(done.err)["error"]["code"] == "NoPlatform"


def test_an_expired_sign_in_says_how_to_go_on(person: Person) -> None:
    assert person.log_in().code == 0
    document = json.loads(person.file.read_text())
    document["logins"][person.platform.endpoint]["expiration"] = "2020-01-01T00:00:00Z"
    person.file.write_text(json.dumps(document))
    done = person.command("list")
    assert done.code == 1
    assert "has expired" in done.err
    assert "freehold login" in done.err


def test_a_login_file_that_others_may_read_is_refused(person: Person) -> None:
    assert person.log_in().code == 0
    person.file.chmod(0o644)
    done = person.command("whoami", "--json")
    assert json.loads(done.err)["error"]["code"] == "UnsafeLoginFile"


def test_the_environment_of_a_person_has_the_token_too(person: Person) -> None:
    assert person.log_in().code == 0
    variables = person.command("env", "--json").document
    assert variables["AWS_SESSION_TOKEN"] == person.kept["session_token"]
    elsewhere = Command(
        **{k: v for k, v in variables.items() if k.startswith(("AWS_", "FREEHOLD_"))},
        XDG_CONFIG_HOME=str(person.home / "nothing"),
        FREEHOLD_STATE=str(person.home / "no-state"),
    )
    assert elsewhere("whoami", "--json").document["user"] == "admin"


def test_people_are_added_given_roles_and_taken_out(person: Person, tmp_path: Path) -> None:
    assert person.log_in().code == 0
    name = f"dev-{tmp_path.name[-20:].replace('_', '-')}"[:40]
    made = person.command("people", "add", name, "--role", "invoker", "--json").document
    other = Person(person.platform, _folder(tmp_path / "other"))
    other.browser.sign_in(name, made["password"])
    assert other.log_in().code == 0
    assert other.command("whoami", "--json").document["roles"] == ["invoker"]
    refused = other.command("people", "add", "friend", "--role", "admin", "--json")
    assert json.loads(refused.err)["error"]["code"] == "AccessDeniedException"
    denied = refusal(other.client("bedrock-agentcore-control").list_agent_runtimes)
    assert denied.status == 403
    assert person.command("people", "roles", name, "developer").code == 0
    until(lambda: other.command("list", "--json").code == 0, seconds_max=30)
    assert person.command("people", "remove", name, "--yes").code == 0
    until(lambda: other.command("whoami").code == 1, seconds_max=30)
    last = person.command("people", "remove", "admin", "--yes", "--json")
    assert json.loads(last.err)["error"]["code"] == "ConflictException"


def test_a_tenant_is_made_used_and_disabled(person: Person) -> None:
    assert person.log_in().code == 0
    made = person.command("tenants", "create", "Second", "--json").document
    keys = {
        "aws_access_key_id": made["accessKeyId"],
        "aws_secret_access_key": made["secretAccessKey"],
    }
    theirs = person.platform.client("bedrock-agentcore-control", **keys)
    assert theirs.list_agent_runtimes()["agentRuntimes"] == []
    of_theirs = Command(
        FREEHOLD_ENDPOINT=person.platform.endpoint,
        AWS_ACCESS_KEY_ID=made["accessKeyId"],
        AWS_SECRET_ACCESS_KEY=made["secretAccessKey"],
        XDG_CONFIG_HOME=str(person.home / "nothing"),
    )
    refused = of_theirs("tenants", "list", "--json")
    assert json.loads(refused.err)["error"]["code"] == "AccessDeniedException"
    assert made["account"] in person.command("tenants", "list").out
    assert person.command("tenants", "disable", made["account"], "--yes").code == 0
    until(lambda: _refused(theirs), seconds_max=5)
    assert person.command("tenants", "enable", made["account"]).code == 0
    until(lambda: not _refused(theirs), seconds_max=5)


def _main(page: str) -> str:
    return page.partition("<main")[2].partition("</main>")[0]


def _refused(client: Any) -> bool:
    try:
        client.list_agent_runtimes()
    except ClientError:
        return True
    return False


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
