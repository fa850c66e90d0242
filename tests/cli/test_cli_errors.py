"""Every failure is one clear line, an exit status and, with --json, one object; no traceback."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from cli_doubles import ACCESS_KEY_ID, Answering, Run

from freehold.cli import runtimes

SESSIONS = "/freehold/v1/sessions"


def test_an_aws_error_shows_its_message(run: Run, answering: Answering) -> None:
    answering.answer(
        "POST",
        "/runtimes/",
        {"message": "too many requests at once"},
        status=400,
        headers={"x-amzn-ErrorType": "ValidationException", "x-amzn-RequestId": "r-1"},
    )
    result = run("list")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: too many requests at once\n"
    shown = json.loads(run("list", "--json").stderr)
    assert shown == {
        "error": {
            "code": "ValidationException",
            "message": "too many requests at once",
            "requestId": "r-1",
        }
    }


def test_an_error_of_our_own_api_shows_its_message(run: Run, answering: Answering) -> None:
    answering.answer(
        "GET",
        SESSIONS,
        {"error": {"code": "ThrottlingException", "message": "slow down", "requestId": "r-2"}},
        status=429,
    )
    assert run("sessions").stderr == "Error: slow down\n"
    shown = json.loads(run("sessions", "--json").stderr)["error"]
    assert shown == {"code": "ThrottlingException", "message": "slow down", "requestId": "r-2"}


def test_a_refused_key_says_which_it_was_and_whence(run: Run, answering: Answering) -> None:
    answering.answer(
        "GET",
        SESSIONS,
        {"error": {"code": "AccessDeniedException", "message": "unknown access key"}},
        status=403,
    )
    result = run("sessions")
    assert f"Signed with access key {ACCESS_KEY_ID}, from the environment." in result.stderr
    assert "a-secret" not in result.output


@pytest.mark.parametrize(
    ("status", "body"),
    [(502, b"<html>Bad gateway</html>"), (500, b""), (400, b"[]"), (404, b'{"error": "no"}')],
)
def test_an_answer_that_is_not_ours_is_called_so(
    run: Run, answering: Answering, status: int, body: bytes
) -> None:
    answering.answer("GET", SESSIONS, status=status, body=body)
    result = run("sessions")
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {answering.endpoint} answered {status}, and not as Freehold does.\n"
    )


def test_a_success_that_is_not_json_is_called_so(run: Run, answering: Answering) -> None:
    answering.answer("GET", SESSIONS, body=b"<html>Welcome</html>")
    assert "not as Freehold does" in run("sessions").stderr


@pytest.mark.parametrize("command", [["list"], ["sessions"], ["deploy"], ["logs", "greeter"]])
def test_when_nothing_listens_the_way_to_start_it_is_told(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    free_port: int,
    command: list[str],
    folder: Path,
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FREEHOLD_ENDPOINT", f"http://127.0.0.1:{free_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    line = f"No Freehold at http://127.0.0.1:{free_port}. Start one with: freehold up"
    result = run(*command)
    assert result.exit_code == 1
    assert result.stderr.endswith(f"Error: {line}\n")
    shown = json.loads(run(*command, "--json").stderr)
    assert shown == {"error": {"code": "NoPlatform", "message": line}}


def test_a_log_that_breaks_off_is_an_error_after_what_came(run: Run, answering: Answering) -> None:
    answering.has_runtime()
    line = {"time": "2026-09-01T00:00:00Z", "source": "s", "line": "the last words"}
    answering.answer(
        "GET",
        "/freehold/v1/runtimes/greeter-aaaaaaaaaa/logs",
        body=json.dumps(line).encode() + b"\n",
        breaks_off=True,
    )
    result = run("logs", "greeter")
    assert "the last words" in result.stdout
    assert result.exit_code == 1
    assert "broke off" in result.stderr


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deployable agent."""
    folder = tmp_path_factory.mktemp("agent")
    (folder / "freehold.toml").write_text('name = "greeter"')
    (folder / "main.py").write_text("")
    return folder


def test_an_s3_error_behind_an_upload_is_told_as_it_is(
    run: Run, answering: Answering, folder: Path
) -> None:
    answering.answer("POST", "/runtimes/", {"agentRuntimes": []})
    answering.answer("GET", "/freehold/v1/health", {"account": "123456789012"})
    answering.answer("HEAD", "/_s3/freehold-code", body=b"")
    answering.answer(
        "PUT",
        "/_s3/freehold-code/*",
        status=507,
        body=b"<Error><Code>DiskFull</Code><Message>no room left</Message></Error>",
        headers={"Content-Type": "application/xml"},
    )
    result = run("deploy", folder)
    assert result.exit_code == 1
    assert result.stderr.endswith("Error: no room left\n")


def test_a_build_that_fails_shows_its_log_and_the_reason(
    run: Run, answering: Answering, folder: Path
) -> None:
    runtime = {
        "agentRuntimeName": "greeter",
        "agentRuntimeId": "greeter-aaaaaaaaaa",
        "agentRuntimeArn": answering.has_runtime(),
        "agentRuntimeVersion": "1",
        "createdAt": "2026-09-01T00:00:00Z",
        "lastUpdatedAt": "2026-09-01T00:00:00Z",
        "status": "CREATE_FAILED",
        "failureReason": "rose==7 is nowhere to be had",
    }
    answering.answer("POST", "/runtimes/", {"agentRuntimes": []})
    answering.answer("GET", "/freehold/v1/health", {"account": "123456789012"})
    answering.answer("HEAD", "/_s3/freehold-code/greeter/*", body=b"")
    answering.answer("PUT", "/runtimes/", {**runtime, "status": "CREATING"}, status=202)
    answering.answer("GET", "/runtimes/greeter-aaaaaaaaaa/", runtime)
    answering.answer(
        "GET",
        "/freehold/v1/runtimes/greeter-aaaaaaaaaa/logs",
        {"time": "", "source": "build", "line": "collecting rose==7"},
    )
    result = run("deploy", folder)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-3:] == [
        "collecting rose==7",
        "Error: greeter could not be built: rose==7 is nowhere to be had",
        "The whole build log: freehold logs greeter --build",
    ]
    assert json.loads(run("deploy", folder, "--json").stderr)["error"]["code"] == "CREATE_FAILED"
    sent = next(seen for seen in answering.seen if seen.path == "/runtimes/" and seen.body)
    configuration = json.loads(sent.body)
    assert configuration["roleArn"] == "arn:aws:iam::123456789012:role/freehold"
    code = configuration["agentRuntimeArtifact"]["codeConfiguration"]
    assert code["code"]["s3"]["prefix"].startswith("greeter/")


def test_an_unknown_agent_lists_those_there_are(run: Run, answering: Answering) -> None:
    answering.has_runtime("greeter")
    result = run("status", "greetr")
    assert result.exit_code == 1
    assert result.stderr == "Error: No agent called greetr.\nThere are: greeter\n"


def test_what_nobody_foresaw_is_one_line_too(
    run: Run, answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of cheese")

    monkeypatch.setattr(runtimes, "list_all", fail)
    result = run("list")
    assert result.exit_code == 1
    assert "Error: Something unforeseen went wrong: RuntimeError: out of cheese" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("since", ["yesterday", "24", "0h", "1w", "-1h"])
def test_a_time_span_that_makes_no_sense_is_refused_here(
    run: Run, answering: Answering, since: str
) -> None:
    result = run("costs", f"--since={since}")
    assert result.exit_code == 2
    assert "such as 24h or 7d" in result.stderr
    assert answering.seen == []


def test_ctrl_c_ends_quietly_with_130(answering: Answering) -> None:
    """A server that takes the connection and never answers holds the command where it is."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        command = subprocess.Popen(
            [sys.executable, "-m", "freehold.cli", "list"],
            env={**os.environ, "FREEHOLD_ENDPOINT": f"http://127.0.0.1:{port}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        silent.settimeout(30)
        connection, _ = silent.accept()
        command.send_signal(signal.SIGINT)
        out, err = command.communicate(timeout=30)
        connection.close()
    assert command.returncode == 130
    assert (out, err.strip()) == ("", "")


def test_costs_with_nothing_measured_show_dashes_and_never_zero(
    run: Run, answering: Answering
) -> None:
    row = {
        "key": "greeter-aaaaaaaaaa",
        "name": "greeter",
        "sessions": 2,
        "invocations": 3,
        "cpuSeconds": None,
        "memoryGbSeconds": None,
        "cost": None,
    }
    answering.answer(
        "GET",
        "/freehold/v1/costs",
        {"currency": "USD", "since": "2026-09-01T00:00:00Z", "rows": [row], "total": 0.0},
    )
    line = next(line for line in run("costs").stdout.splitlines() if line.startswith("greeter"))
    assert line.split() == ["greeter", "2", "3", "-", "-", "-"]
    assert "by=agent&since=24h" in answering.seen[-1].path
