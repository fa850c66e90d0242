"""How the command line speaks MCP, where an answer is not what a real gateway gives every day."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_doubles import ACCESS_KEY_ID, Answering, Run

ID = "tools-aaaaaaaaaa"
MCP = f"/gateway/{ID}/mcp"
PAGE = "https://id.example.com/agree"


@pytest.fixture(autouse=True)
def a_gateway(answering: Answering) -> None:
    row = {
        "gatewayId": ID, "name": "tools", "status": "READY", "authorizerType": "AWS_IAM",
        "protocolType": "MCP", "createdAt": "2026-09-01T00:00:00Z",
        "updatedAt": "2026-09-01T00:00:00Z",
    }  # fmt: skip
    answering.answer("GET", "/gateways/", {"items": [row]})
    answering.answer("GET", "/freehold/v1/health", {"account": "123456789012"})


def result(document: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "result": document}


def text(said: str) -> dict[str, Any]:
    return result({"content": [{"type": "text", "text": said}]})


def test_a_request_says_all_of_itself_in_its_headers_and_is_signed(
    run: Run, answering: Answering
) -> None:
    answering.answer("POST", MCP, text("done"))
    done = run("gateway", "call", "tools", "pets___größe", "--json-args", '{"id": 7}')
    assert (done.exit_code, done.stdout) == (0, "done\n"), done.output
    seen = answering.seen[-1]
    headers = {name.lower(): value for name, value in seen.headers.items()}
    assert headers["mcp-protocol-version"] == "2026-07-28"
    assert headers["mcp-method"] == "tools/call"
    assert headers["mcp-name"].startswith("=?base64?"), "a header has no umlauts"
    assert "bedrock-agentcore/aws4_request" in headers["authorization"]
    params = json.loads(seen.body)["params"]
    assert (params["name"], params["arguments"]) == ("pets___größe", {"id": 7})
    capabilities = params["_meta"]["io.modelcontextprotocol/clientCapabilities"]
    assert capabilities == {"elicitation": {"url": {}}}


def test_a_token_goes_in_place_of_a_signature_and_into_no_error(
    run: Run, answering: Answering
) -> None:
    error = {"code": -32002, "message": "Not for you.", "data": {"requestId": "r-1"}}
    answering.answer("POST", MCP, {"jsonrpc": "2.0", "id": 1, "error": error}, status=403)
    done = run("gateway", "call", "tools", "ping", "--token", "canary-token", "--json")
    assert answering.seen[-1].headers["Authorization"] == "Bearer canary-token"
    shown = json.loads(done.stderr)["error"]
    assert (shown["code"], shown["message"]) == ("AccessDeniedException", "Not for you.")
    assert shown["requestId"] == "r-1"
    assert "canary" not in done.output


def test_what_is_said_on_the_way_goes_to_standard_error(run: Run, answering: Answering) -> None:
    params = {"progressToken": 1, "progress": 1, "total": 2, "message": "reading"}
    told = {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
    events = "".join(f"event: message\ndata: {json.dumps(each)}\n\n" for each in (told, text("ok")))
    answering.answer(
        "POST", MCP, body=events.encode(), headers={"Content-Type": "text/event-stream"}
    )
    done = run("gateway", "call", "tools", "ping")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "ok\n", "reading 1 of 2\n")


def test_somebody_who_has_to_agree_gets_the_page(run: Run, answering: Answering) -> None:
    asked = {"mode": "url", "message": "calendar is used with an account of yours.", "url": PAGE}
    request = {"method": "elicitation/create", "params": asked}
    waiting = {"resultType": "input_required", "inputRequests": {"consent": request}}
    answering.answer("POST", MCP, result(waiting))
    done = run("gateway", "call", "tools", "calendar___meetings")
    assert done.exit_code == 1
    assert "an account of yours" in done.stderr
    assert f"Open {PAGE} and agree; then call again." in done.stderr


def test_who_sits_at_a_terminal_agrees_and_the_call_is_made_again(
    answering: Answering, tmp_path: Path
) -> None:
    asked = {"mode": "url", "message": "calendar is used with an account of yours.", "url": PAGE}
    request = {"method": "elicitation/create", "params": asked}
    waiting = {"resultType": "input_required", "inputRequests": {"consent": request}}
    answering.answer("POST", MCP, result(waiting))
    terminal, theirs = os.openpty()
    environment = {
        "FREEHOLD_ENDPOINT": answering.endpoint, "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": "secret", "FREEHOLD_STATE": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
    }  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "freehold.cli", "gateway", "call", "tools", "calendar___meetings"],
        env={**os.environ, **environment}, stdin=theirs, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        assert process.stderr.readline().startswith("calendar is used")
        assert process.stderr.readline().strip() == PAGE
        answering.answer("POST", MCP, {**text("nothing today"), "id": 2})
        os.write(terminal, b"\n")
        out, _ = process.communicate(timeout=30)
    os.close(terminal)
    os.close(theirs)
    assert (process.returncode, out) == (0, "nothing today\n")


def test_a_stream_that_breaks_off_is_no_answer(run: Run, answering: Answering) -> None:
    events = {"Content-Type": "text/event-stream"}
    answering.answer("POST", MCP, body=b": still here\n\n", headers=events)
    done = run("gateway", "call", "tools", "ping")
    assert done.exit_code == 1
    assert "The answer broke off" in done.stderr


@pytest.mark.parametrize("body", [b"<html>a proxy</html>", b'{"ok": true}', b"[]"])
def test_something_else_on_that_port_is_named(run: Run, answering: Answering, body: bytes) -> None:
    answering.answer("POST", MCP, body=body, status=502)
    done = run("gateway", "call", "tools", "ping")
    assert done.exit_code == 1
    assert "answered 502, and not as a gateway does" in done.stderr


def test_who_may_call_gateways_and_not_list_them_names_one_by_its_id(
    run: Run, answering: Answering
) -> None:
    refusal = {"x-amzn-ErrorType": "AccessDeniedException", "Content-Type": "application/json"}
    answering.answer("GET", "/gateways/", {"message": "No."}, status=403, headers=refusal)
    answering.answer("POST", MCP, text("done"))
    assert run("gateway", "call", ID, "ping").stdout == "done\n"
    arn = f"arn:aws:bedrock-agentcore:us-east-1:123456789012:gateway/{ID}"
    assert run("gateway", "call", arn, "ping").stdout == "done\n"
    assert "No." in run("gateway", "call", "tools", "ping").stderr


def test_tools_are_listed_by_their_first_line(run: Run, answering: Answering) -> None:
    tools = [{"name": "one", "description": "A first line.\nAnd more."}]
    answering.answer("POST", MCP, result({"tools": tools}))
    done = run("gateway", "tools", "tools", "--as-seen")
    assert done.exit_code == 0, done.output
    assert "one   A first line." in done.stdout
    assert "And more" not in done.stdout
