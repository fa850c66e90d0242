"""Agents that fail: each failure is the agent's own error, says what happened, and can be read."""

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ResponseStreamingError

from running import Agent, Refusal, RunningPlatform, events_of, new_session, together, until

pytestmark = pytest.mark.timeout(300)


def assert_client_error(refused: Refusal, *words: str) -> None:
    assert (refused.status, refused.code) == (424, "RuntimeClientError")
    assert refused.kind == "RuntimeClientError"
    for word in words:
        assert word in refused.message


def assert_logged(agent: Agent, session: str, words: str) -> None:
    """Also when the session is over."""
    until(lambda: any(words in line for line in agent.log(session)))


# -- at its start


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("raise RuntimeError('boom at import')\n", ("exit code 1", "RuntimeError: boom at import")),
        ("import no_such_module\n", ("exit code 1", "No module named 'no_such_module'")),
        ("import sys\nprint('out of here')\nsys.exit(7)\n", ("exit code 7", "out of here")),
        ("import os\nos.kill(os.getpid(), 9)\n", ("SIGKILL",)),
        ("def f(:\n", ("exit code 1", "SyntaxError")),
    ],
    ids=["raises", "imports", "exits", "killed", "syntax"],
)
def test_an_agent_that_does_not_start_fails_with_its_last_words(
    platform: RunningPlatform, source: str, words: tuple[str, ...]
) -> None:
    agent, session = platform.deploy({"main.py": source}), new_session()
    assert_client_error(agent.refusal(session=session), "while starting", *words)
    record = platform.session(session)
    assert record["status"] == "ENDED"
    assert words[0] in record["endReason"]
    if len(words) > 1:
        assert_logged(agent, session, words[1])
    # It may do better next time: the session id is not spoilt.
    assert_client_error(agent.refusal(session=session), words[0])
    assert len(platform.own("/sessions", sessionId=session, status="all")["sessions"]) == 2
    agent.delete()


_NO_HTTP = """
import socket
listening = socket.create_server(("0.0.0.0", 8080))
while True:
    connection, _ = listening.accept()
    connection.recv(1000)
    connection.sendall(b"SSH-2.0-not-http\\r\\n")
    connection.close()
"""
_UNHEALTHY = """
import http.server
class Agent(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(503)
http.server.HTTPServer(("0.0.0.0", 8080), Agent).serve_forever()
"""


def test_an_agent_that_never_gets_ready_is_given_up(hasty: RunningPlatform) -> None:
    sources = {
        "hangs": "import time\nprint('still thinking', flush=True)\ntime.sleep(600)\n",
        "speaks no HTTP": _NO_HTTP,
        "is unhealthy": _UNHEALTHY,
    }
    agents = [hasty.deploy({"main.py": source}) for source in sources.values()]
    refusals = together(*[agent.refusal for agent in agents])
    for refused in refusals:
        assert_client_error(refused, "did not answer GET /ping on port 8080 within 6 s")
    assert "still thinking" in refusals[0].message
    assert hasty.own("/sessions")["sessions"] == []


# -- during a call


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (400, '{"error": "no prompt"}', ("HTTP 400", "no prompt")),
        (404, "", ("HTTP 404", "nothing more")),
        (500, "trouble", ("HTTP 500", "trouble")),
        (503, "later", ("HTTP 503", "later")),
    ],
)
def test_an_error_status_of_the_agent(
    plain: Agent, status: int, body: str, words: tuple[str, ...]
) -> None:
    session = new_session()
    refused = plain.refusal({"do": "status", "status": status, "body": body}, session)
    assert_client_error(refused, *words)
    assert plain.invoke(session=session)["pid"]


def test_an_error_without_an_end_is_cut_short(plain: Agent) -> None:
    session = new_session()
    refused = plain.refusal({"do": "endless_error"}, session)
    assert_client_error(refused, "HTTP 500", "no end of trouble")
    assert len(refused.message) < 3000
    assert plain.invoke({"do": "was_closed"}, session) == {"closed": True}


def test_what_is_no_http(plain: Agent) -> None:
    session = new_session()
    refused = plain.refusal({"do": "garbage"}, session)
    assert_client_error(refused, "not HTTP", session)
    assert plain.invoke(session=session)["pid"]


def test_a_header_that_cannot_be_passed_on(plain: Agent) -> None:
    assert_client_error(plain.refusal({"do": "odd_content_type"}), "Content-Type")


def test_a_connection_closed_without_an_answer(plain: Agent) -> None:
    session = new_session()
    refused = plain.refusal({"do": "hang_up"}, session)
    assert_client_error(refused, "without an answer", session)
    assert plain.invoke(session=session)["pid"]


def test_an_agent_that_dies_before_it_answers(plain: Agent) -> None:
    session = new_session()
    refused = plain.refusal({"do": "die", "code": 5}, session)
    assert_client_error(refused, "exit code 5", session)
    assert_logged(plain, session, "last words before the end")
    assert "exit code 5" in plain.platform.ended(session)
    assert plain.invoke(session=session)["pid"]


def test_an_agent_that_answers_less_than_it_promised(plain: Agent) -> None:
    assert_client_error(plain.refusal({"do": "die_short"}), "exit code 3")


def test_a_death_in_the_middle_of_events_is_the_last_event(plain: Agent) -> None:
    session = new_session()
    answer = plain.begin({"do": "die_streaming", "content_type": "text/event-stream"}, session)
    first, last = events_of(answer)
    assert first == {"number": 1}
    assert last["error_type"] == "RuntimeClientError"
    assert "exit code 3" in last["error"]
    assert last["message"]


def test_a_death_in_the_middle_of_anything_else_breaks_the_answer_off(plain: Agent) -> None:
    answer = plain.begin({"do": "die_streaming", "content_type": "application/octet-stream"})
    with pytest.raises(ResponseStreamingError):
        answer["response"].read()


def test_running_out_of_memory_is_named(hasty: RunningPlatform) -> None:
    agent = hasty.deploy({"main.py": _GREEDY})
    session = new_session()
    assert_client_error(agent.refusal(session=session), "memory")
    assert "memory" in hasty.ended(session)


_GREEDY = """
import http.server
class Agent(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def do_POST(self):
        held = []
        while True:
            held.append(b"x" * (64 << 20))
http.server.HTTPServer(("0.0.0.0", 8080), Agent).serve_forever()
"""


@pytest.fixture(autouse=True, scope="module")
def stop_all(plain: Agent) -> Iterator[Any]:
    yield
    for session in plain.platform.own("/sessions", runtimeId=plain.id)["sessions"]:
        if session["endpoint"] == "DEFAULT":
            plain.stop(session["sessionId"])
