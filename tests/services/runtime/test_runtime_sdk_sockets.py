"""The SDK's own WebSocket helpers, through TLS: they insist on https and a host of AWS's."""

import asyncio
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
import websockets

import agents
from running import Agent, RunningPlatform, new_session, until

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of pydantic, about the SDK's models
    from bedrock_agentcore._utils import endpoints
    from bedrock_agentcore.runtime import AgentCoreRuntimeClient
    from bedrock_agentcore.runtime.shell import PresignedAuth, ReconnectConfig, ShellChannel

pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]
ALIAS = "freehold.api.aws"
SECONDS_MAX = 60


@pytest.fixture(scope="module")
def secure(open_directory: Path, platform: RunningPlatform) -> Iterator[RunningPlatform]:
    """A platform that serves https. It shares the other's builds: they take seconds."""
    state = open_directory / "secure"
    state.mkdir()
    (state / "builds").symlink_to(platform.state / "builds")
    running = RunningPlatform(state, "--tls-name", ALIAS)
    with pytest.MonkeyPatch.context() as patch, running:
        patch.setenv("AWS_CA_BUNDLE", str(state / "tls" / "bundle.pem"))
        patch.setenv("SSL_CERT_FILE", str(state / "tls" / "bundle.pem"))
        yield running


@pytest.fixture(scope="module")
def talking_securely(secure: RunningPlatform) -> Agent:
    return secure.deploy(agents.talking(), name="secure")


@pytest.fixture
def client(secure: RunningPlatform, monkeypatch: pytest.MonkeyPatch) -> AgentCoreRuntimeClient:
    """Pointed here as its documentation says, with the alias that /etc/hosts would have."""
    port = urlsplit(secure.endpoint).port
    monkeypatch.setattr(endpoints, "DP_ENDPOINT_OVERRIDE", f"https://{ALIAS}:{port}")
    resolve = socket.getaddrinfo

    def with_alias(host: Any, *more: Any, **options: Any) -> Any:
        return resolve("127.0.0.1" if host == ALIAS else host, *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", with_alias)
    session = boto3.Session(
        aws_access_key_id=secure.access_key_id,
        aws_secret_access_key=secure.secret_access_key,
        region_name=secure.region,
    )
    return AgentCoreRuntimeClient(region=secure.region, session=session)


def test_everything_else_is_https_too(secure: RunningPlatform, talking_securely: Agent) -> None:
    assert secure.endpoint.startswith("https://127.0.0.1:")
    assert "pid" in talking_securely.invoke()


def test_the_command_line_trusts_its_own_platform_and_tells_others_how(
    secure: RunningPlatform,
) -> None:
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("AWS_", "FREEHOLD_", "SSL_"))}

    def freehold(*arguments: str, **more: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "freehold.cli", *arguments, "--json"],
            env={**kept, **more}, capture_output=True, text=True, timeout=SECONDS_MAX, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    state = str(secure.state)
    ours = {agent["name"] for agent in freehold("list", FREEHOLD_STATE=state)["agents"]}
    exports = freehold("env", "--state", state)
    told = freehold("tls", "--state", state)
    assert {"localhost", "127.0.0.1", "::1", ALIAS} <= set(told["names"])
    assert exports["AWS_CA_BUNDLE"] == exports["SSL_CERT_FILE"] == told["bundle"]
    assert exports["NODE_EXTRA_CA_CERTS"] == told["ca"]
    by_environment = freehold("list", **exports)["agents"]
    without_bundle = {n: v for n, v in exports.items() if n.startswith(("AWS_A", "AWS_S", "FREE"))}
    by_state = freehold("list", FREEHOLD_STATE=state, **without_bundle)["agents"]
    assert ours == {a["name"] for a in by_environment} == {a["name"] for a in by_state}


def test_a_client_that_trusts_nobody_of_ours_is_not_served(secure: RunningPlatform) -> None:
    host, port = "127.0.0.1", urlsplit(secure.endpoint).port
    strict = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with (
        socket.create_connection((host, port), timeout=SECONDS_MAX) as plain,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        strict.wrap_socket(plain, server_hostname=host)


async def test_generate_ws_connection(
    client: AgentCoreRuntimeClient, talking_securely: Agent
) -> None:
    url, headers = client.generate_ws_connection(talking_securely.arn, session_id=new_session())
    async with websockets.connect(url, additional_headers=headers) as connection:
        await connection.send("hello")
        assert await connection.recv() == "hello"


async def test_generate_presigned_url(
    client: AgentCoreRuntimeClient, talking_securely: Agent
) -> None:
    session = new_session()
    url = client.generate_presigned_url(
        talking_securely.arn, session_id=session, endpoint_name="DEFAULT"
    )
    async with websockets.connect(url) as connection:
        await connection.send("headers")
        assert session in await connection.recv()


@pytest.mark.parametrize("auth", ["sigv4", PresignedAuth(expires=60)], ids=["signed", "presigned"])
async def test_open_shell(
    client: AgentCoreRuntimeClient, talking_securely: Agent, auth: Any
) -> None:
    async with client.open_shell(talking_securely.arn, auth=auth) as shell:
        await shell.resize(111, 22)
        await shell.send("stty size; exit 5\n")
        seen = b""
        async for frame in shell:
            if frame.channel is ShellChannel.STDOUT:
                seen += frame.payload
    assert b"22 111" in seen
    assert shell.exit_code == 5


async def test_a_shell_reconnects_when_the_worker_is_replaced(
    client: AgentCoreRuntimeClient, talking_securely: Agent, secure: RunningPlatform
) -> None:

    again = asyncio.Event()
    config = ReconnectConfig(base_delay=0.2, on_reconnect=again.set)
    async with client.open_shell(talking_securely.arn, reconnect_config=config) as shell:
        await shell.send("mark=kept; echo ready-$((6*7))\n")
        await said(shell, "ready-42")
        (worker,) = secure.pids("api")
        os.kill(worker, signal.SIGTERM)
        await asyncio.to_thread(until, lambda: secure.pids("api") not in ([], [worker]))
        reading = asyncio.create_task(said(shell, "[kept]"))
        await asyncio.wait_for(again.wait(), SECONDS_MAX)
        await shell.send("echo [$mark]\n")
        await asyncio.wait_for(reading, SECONDS_MAX)


async def said(shell: Any, words: str) -> None:
    seen = ""
    async with asyncio.timeout(SECONDS_MAX):
        async for frame in shell:
            if frame.channel is ShellChannel.STDOUT:
                seen += frame.text
                if words in seen:
                    return
    raise AssertionError(f"the shell ended: {seen!r}")
