"""The vault of a real platform: the SDK's decorator in a sandbox, and `freehold vault`."""

import hashlib
import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from running import Agent, RunningPlatform, refusal

AGENT = Path(__file__).with_name("keyed_agent.py").read_text()
CANARY = f"sk-canary-{secrets.token_hex(8)}"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def agent(platform: RunningPlatform) -> Agent:
    return platform.deploy({"main.py": AGENT, "requirements.txt": "bedrock-agentcore==1.25.0\n"})


def run(platform: RunningPlatform, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "freehold.cli", *words, "--state", str(platform.state)],
        check=False, capture_output=True, text=True, timeout=120, env={"PATH": os.defpath},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def freehold(platform: RunningPlatform, *words: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(run(platform, *words, "--json"))
    return document


def test_the_sdks_decorator_gets_the_key_in_a_sandbox_and_its_use_is_audited(
    platform: RunningPlatform, agent: Agent
) -> None:
    name = f"p-{secrets.token_hex(4)}"
    control = platform.client("bedrock-agentcore-control")
    control.create_api_key_credential_provider(name=name, apiKey=CANARY)
    digest = hashlib.sha256(CANARY.encode()).hexdigest()
    assert agent.invoke({"provider": name}) == {"digest": digest}
    assert agent.invoke({"provider": "absent"}) == {"error": "ResourceNotFoundException"}
    rotation = freehold(platform, "vault", "rotate", "--platform-key")
    assert rotation["key"]["underOlderVersions"] == 0
    assert agent.invoke({"provider": name}) == {"digest": digest}
    assert freehold(platform, "vault", "status")["key"]["values"]
    shown = run(platform, "vault", "status")
    assert "account" in shown and "platform" in shown and "file" in shown
    assert "seals everything" in run(platform, "vault", "rotate")
    control.delete_api_key_credential_provider(name=name)
    assert CANARY not in platform.log.read_text(errors="replace")
    assert CANARY not in "".join(agent.log())


def test_payment_providers_are_not_here(platform: RunningPlatform) -> None:
    refused = refusal(
        lambda: platform.client("bedrock-agentcore-control").list_payment_credential_providers()
    )
    assert refused.status == 501
