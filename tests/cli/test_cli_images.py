"""`freehold deploy` of a container image: nothing is packed, and the image is what is asked for."""

import json
from pathlib import Path

import pytest
from cli_doubles import Answering, Run

IMAGE = "ghcr.io/team/agent:1.4"


@pytest.mark.parametrize("where", ["option", "file"])
def test_an_image_is_deployed_in_place_of_code(
    run: Run, answering: Answering, tmp_path: Path, where: str
) -> None:
    text = 'name = "greeter"\n' + (f'image = "{IMAGE}"\n' if where == "file" else "")
    (tmp_path / "freehold.toml").write_text(text)
    runtime = {
        "agentRuntimeName": "greeter",
        "agentRuntimeId": "greeter-aaaaaaaaaa",
        "agentRuntimeArn": "arn:aws:bedrock-agentcore:us-east-1:1:runtime/greeter-aaaaaaaaaa",
        "agentRuntimeVersion": "1",
        "createdAt": "2026-09-01T00:00:00Z",
        "lastUpdatedAt": "2026-09-01T00:00:00Z",
        "status": "READY",
    }
    answering.answer("POST", "/runtimes/", {"agentRuntimes": []})
    answering.answer("GET", "/freehold/v1/health", {"account": "123456789012"})
    answering.answer("PUT", "/runtimes/", {**runtime, "status": "CREATING"}, status=202)
    answering.answer("GET", "/runtimes/greeter-aaaaaaaaaa/", runtime)
    answering.answer("GET", "/freehold/v1/runtimes/greeter-aaaaaaaaaa/logs", body=b"")
    option = ("--image", IMAGE) if where == "option" else ()
    result = run("deploy", str(tmp_path), *option, "--json")
    assert result.exit_code == 0, result.stderr
    assert "codeSha256" not in json.loads(result.stdout)
    sent = next(seen for seen in answering.seen if seen.path == "/runtimes/" and seen.body)
    artifact = json.loads(sent.body)["agentRuntimeArtifact"]
    assert artifact == {"containerConfiguration": {"containerUri": IMAGE}}
    assert not [seen for seen in answering.seen if "_s3" in seen.path], "something was uploaded"


def test_dev_runs_no_image_and_says_what_does(run: Run, tmp_path: Path) -> None:
    (tmp_path / "freehold.toml").write_text(f'name = "greeter"\nimage = "{IMAGE}"\n')
    result = run("dev", str(tmp_path))
    assert result.exit_code == 1
    assert f"docker run --rm -p 8080:8080 {IMAGE}" in result.stderr
