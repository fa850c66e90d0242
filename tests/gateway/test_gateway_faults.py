"""Clients' sessions outlive workers and restarts, are one at every worker, and end everywhere."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from urllib3.exceptions import HTTPError

from gateway_ground import Answered, Gateway, client_of
from gateway_upstreams import Loop, McpUpstream, Tool
from running import RunningPlatform, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LEGACY = "2025-11-25"
ECHO = "there___echo"


@pytest.fixture(scope="module")
def frail(open_directory: Path) -> Iterator[RunningPlatform]:
    """A platform of two workers, which are killed."""
    running = RunningPlatform(
        open_directory / "frail",
        workers=2,
        outbound_private_hosts="127.0.0.1",
    )  # fmt: skip
    with running:
        yield running


@pytest.fixture
def gateway(frail: RunningPlatform, mcp_upstream: McpUpstream) -> Iterator[Gateway]:
    gateway = Gateway(frail)
    gateway.add_mcp_server("there", mcp_upstream.endpoint)
    yield gateway


class Session:
    """A client of the era with sessions, each of whose requests has a connection of its own."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        params = {
            "protocolVersion": LEGACY,
            "capabilities": {},
            "clientInfo": {"name": "t", "version": "1"},
        }
        begun = self._send("initialize", params)
        self.id = begun.headers["mcp-session-id"]
        self.send("notifications/initialized", id=None)

    def _send(
        self, method: str, params: Any = None, *, id: int | None = 1, **headers: str
    ) -> Answered:
        body = {"jsonrpc": "2.0", "method": method, "params": params or {}}
        return self._gateway.post(body if id is None else body | {"id": id}, headers)

    def send(self, method: str, params: Any = None, *, id: int | None = 1) -> Answered:
        headers = {"mcp-session-id": self.id, "mcp-protocol-version": LEGACY}
        return self._send(method, params, id=id, **headers)

    def call(self) -> Answered:
        return self.send("tools/call", {"name": ECHO, "arguments": {"a": 1}})

    def works(self) -> bool:
        answer = self.call()
        return answer.status == 200 and answer.text == '{"a": 1}'

    def end(self) -> int:
        headers = {"mcp-session-id": self.id, "mcp-protocol-version": LEGACY, "connection": "close"}
        return int(self._gateway.pool.request("DELETE", self._gateway.url, headers=headers).status)


def test_two_workers_serve_one_session(gateway: Gateway) -> None:
    session = Session(gateway)
    assert all(session.works() for _ in range(12))


def test_a_session_that_was_ended_is_over_at_every_worker(gateway: Gateway) -> None:
    session, other = Session(gateway), Session(gateway)
    assert all(session.works() for _ in range(6))
    assert session.end() == 204
    assert {session.call().status for _ in range(8)} == {404}
    assert other.works()


def test_a_session_outlives_the_worker_that_is_killed(
    gateway: Gateway, frail: RunningPlatform
) -> None:
    session = Session(gateway)
    assert session.works()
    for pid in frail.pids("api"):
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid: pid not in frail.pids("api"))
        until(lambda: works_by_now(session), seconds_max=30)
    until(lambda: len(frail.pids("api")) == 2)
    assert all(session.works() for _ in range(8))


async def test_the_official_client_goes_on_after_a_worker_was_killed(
    gateway: Gateway, frail: RunningPlatform
) -> None:
    async with client_of(gateway, mode="legacy") as client:
        assert not (await client.call_tool(ECHO, {"a": 1})).is_error
        for pid in frail.pids("api"):
            os.kill(pid, signal.SIGKILL)
        until(lambda: begins_by_now(gateway), seconds_max=30)
        assert not (await client.call_tool(ECHO, {"a": 2})).is_error


def test_a_session_outlives_a_restart_of_the_platform(served: Loop, open_directory: Path) -> None:
    state = open_directory / "restarted"
    with McpUpstream(served, Tool("echo")) as server:
        running = RunningPlatform(state, outbound_private_hosts="127.0.0.1")
        with running:
            gateway = Gateway(running)
            gateway.add_mcp_server("there", server.endpoint)
            session = Session(gateway)
            assert session.works()
        before = server.count()
        with running:
            gateway.url = f"{running.endpoint}/gateway/{gateway.id}/mcp"
            assert session.works()
            # The catalog is kept: nobody was asked again what there is.
            assert server.count() == before + 1


def begins_by_now(gateway: Gateway) -> bool:
    try:
        return Session(gateway).works()
    except HTTPError:
        return False


def works_by_now(session: Session) -> bool:
    """While no worker listens, a connection is refused or reset."""
    try:
        return session.works()
    except HTTPError:
        return False
