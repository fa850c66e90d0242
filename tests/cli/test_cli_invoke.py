"""`freehold invoke`: what is sent, what is shown, and what a failing agent looks like."""

import json
from pathlib import Path
from urllib.parse import quote

import pytest
from cli_doubles import Answering, Run

SESSION = "s" * 33


@pytest.fixture
def path(answering: Answering) -> str:
    arn = answering.has_runtime()
    path = f"/runtimes/{quote(arn, safe='')}/invocations"
    answering.answer("POST", path, {"ok": True})
    return path


@pytest.mark.parametrize(
    ("payload", "sent"),
    [
        ([], {}),
        (["Good morning"], {"prompt": "Good morning"}),
        (['{"prompt": "x", "n": 1}'], {"prompt": "x", "n": 1}),
        (["[1]"], [1]),
        (["{broken"], {"prompt": "{broken"}),
        (["naïve"], {"prompt": "naïve"}),
    ],
)
def test_what_is_not_json_becomes_a_prompt(
    run: Run, answering: Answering, path: str, payload: list[str], sent: object
) -> None:
    result = run("invoke", "greeter", *payload)
    assert result.exit_code == 0, result.stderr
    assert json.loads(answering.seen[-1].body) == sent
    assert answering.seen[-1].headers["Content-Type"] == "application/json"


def test_a_file_and_standard_input_are_sent(
    run: Run, answering: Answering, path: str, tmp_path: Path
) -> None:
    (tmp_path / "order.xml").write_bytes(b"<a>\xff</a>")
    run("invoke", "greeter", f"@{tmp_path}/order.xml", "--content-type", "application/xml")
    assert answering.seen[-1].body == b"<a>\xff</a>"
    assert answering.seen[-1].headers["Content-Type"] == "application/xml"
    run("invoke", "greeter", "-", stdin="Hi")
    assert json.loads(answering.seen[-1].body) == {"prompt": "Hi"}


def test_bytes_without_a_content_type_are_not_sent(
    run: Run, answering: Answering, path: str, tmp_path: Path
) -> None:
    (tmp_path / "x").write_bytes(b"\xff")
    result = run("invoke", "greeter", f"@{tmp_path}/x")
    assert "say what it is with --content-type" in result.stderr
    assert answering.seen == []


def test_a_file_that_is_not_there_is_named(run: Run, path: str) -> None:
    result = run("invoke", "greeter", "@absent.json")
    assert result.exit_code == 1
    assert "absent.json" in result.stderr


def test_the_session_is_shown_beside_the_answer(run: Run, answering: Answering, path: str) -> None:
    result = run("invoke", "greeter", "Hi", "--session", SESSION, "--user", "ann")
    headers = answering.seen[-1].headers
    assert headers["X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"] == SESSION
    assert headers["X-Amzn-Bedrock-AgentCore-Runtime-User-Id"] == "ann"
    assert result.stderr == f"session: {SESSION}\n"
    assert json.loads(result.stdout) == {"ok": True}


@pytest.mark.parametrize("flags", [[], ["--session", "new"]])
def test_a_new_session_has_a_new_id(run: Run, path: str, flags: list[str]) -> None:
    ids = {run("invoke", "greeter", "Hi", *flags).stderr for _ in range(2)}
    assert len(ids) == 2
    assert all(len(line.removeprefix("session: ").strip()) >= 33 for line in ids)


@pytest.mark.parametrize("session", ["short", "s" * 32, "s" * 257])
def test_a_session_id_that_agentcore_refuses_is_refused_here(
    run: Run, answering: Answering, path: str, session: str
) -> None:
    result = run("invoke", "greeter", "Hi", "--session", session)
    assert result.exit_code == 2
    assert f"has {len(session)} characters" in result.stderr
    assert "--session new" in result.stderr
    assert answering.seen == []


def test_the_qualifier_names_the_endpoint(run: Run, answering: Answering, path: str) -> None:
    run("invoke", "greeter", "Hi", "--qualifier", "stable")
    assert answering.seen[-1].path.endswith("?qualifier=stable")


def test_an_arn_and_an_id_are_names_too(run: Run, answering: Answering, path: str) -> None:
    arn = answering.has_runtime()
    for name in (arn, "greeter-aaaaaaaaaa"):
        assert run("invoke", name, "Hi").exit_code == 0
        assert answering.seen[-1].path == path


def test_the_arn_of_something_else_is_refused(run: Run, answering: Answering) -> None:
    result = run("invoke", "arn:aws:s3:::bucket", "Hi")
    assert result.exit_code == 1
    assert "is not the ARN of a runtime" in result.stderr


def test_a_failing_agent_shows_its_error_and_the_way_to_its_log(
    run: Run, answering: Answering, path: str
) -> None:
    answering.answer(
        "POST",
        path,
        {"message": "ValueError: no such flower"},
        status=424,
        headers={"x-amzn-ErrorType": "RuntimeClientError"},
    )
    result = run("invoke", "greeter", "Hi", "--session", SESSION)
    assert result.exit_code == 1
    assert "The agent failed: ValueError: no such flower" in result.stderr
    assert f"freehold logs greeter --session {SESSION}" in result.stderr
    assert len([seen for seen in answering.seen if seen.path == path]) == 1, "asked twice"


@pytest.mark.parametrize("chunked", [True, False])
def test_an_answer_that_breaks_off_shows_what_came(
    run: Run, answering: Answering, path: str, chunked: bool
) -> None:
    answering.answer(
        "POST",
        path,
        body=b'data: "half"\n\n',
        headers={"Content-Type": "text/event-stream"},
        breaks_off=True,
        chunked=chunked,
    )
    result = run("invoke", "greeter", "Hi", "--session", SESSION)
    assert result.exit_code == 1
    assert result.stdout.startswith("half")
    assert "broke off" in result.stderr
    assert f"freehold logs greeter --session {SESSION}" in result.stderr


def test_raw_passes_bytes_on_and_without_it_they_are_refused(
    run: Run, answering: Answering, path: str
) -> None:
    answering.answer("POST", path, body=b"\x89PNG\xff", headers={"Content-Type": "image/png"})
    assert run("invoke", "greeter", "Hi", "--raw").stdout_bytes == b"\x89PNG\xff"
    result = run("invoke", "greeter", "Hi")
    assert result.exit_code == 1
    assert "--raw > FILE" in result.stderr


def test_for_programs_the_answer_is_one_object(run: Run, answering: Answering, path: str) -> None:
    answering.answer(
        "POST",
        path,
        body=b'data: "a"\n\ndata: {"b": 1}\n\n',
        headers={"Content-Type": "text/event-stream"},
    )
    result = run("invoke", "greeter", "Hi", "--session", SESSION, "--json")
    assert result.stderr == ""
    assert json.loads(result.stdout) == {
        "sessionId": SESSION,
        "statusCode": 200,
        "contentType": "text/event-stream",
        "events": ["a", {"b": 1}],
    }


def test_raw_and_json_exclude_each_other(run: Run, path: str) -> None:
    assert run("invoke", "greeter", "Hi", "--raw", "--json").exit_code == 2
