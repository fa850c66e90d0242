"""The whole way with the real command, in processes of its own, against a real platform."""

import json
import queue
import re
import secrets
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from cli_doubles import Command, Finished

from freehold.cli.create import rendered

pytestmark = pytest.mark.timeout(300)


class Agent:
    """One deployed agent that all tests here share, since a build takes seconds."""

    def __init__(self, freehold: Command, folder: Path, name: str) -> None:
        self._freehold = freehold
        self.folder = folder
        self.name = name

    def invoke(self, prompt: str, *words: object) -> Finished:
        return self._freehold("invoke", self.name, prompt, *words)

    def new_session(self) -> str:
        """A session that has had one call."""
        document = self.invoke("first", "--json").document
        return str(document["sessionId"])


@pytest.fixture(scope="module")
def agent(freehold: Command, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    name = f"greeter_{secrets.token_hex(4)}"
    folder = tmp_path_factory.mktemp("agents") / name
    assert freehold("create", name, "--dir", folder).code == 0
    deployed = freehold("deploy", folder)
    assert deployed.code == 0, deployed.err
    assert f"{name} version 1 is ready." in deployed.out
    assert re.search(
        rf"^arn:aws:bedrock-agentcore:\S+:runtime/{name}-\w{{10}}$", deployed.out, re.M
    )
    assert f"freehold invoke {name}" in deployed.err
    yield Agent(freehold, folder, name)
    assert freehold("destroy", name, "--yes").code == 0
    assert freehold("status", name).code == 1


def test_it_answers_a_prompt_and_shows_the_session(agent: Agent) -> None:
    done = agent.invoke("a rose")
    assert (done.code, done.out) == (0, "Hello! You said: a rose (turn 1)\n"), done.err
    assert re.fullmatch(r"session: [0-9a-f-]{36}\n", done.err)


def test_a_session_goes_on_and_another_knows_nothing_of_it(agent: Agent) -> None:
    session = agent.new_session()
    assert "(turn 2)" in agent.invoke("again", "--session", session).out
    assert "(turn 1)" in agent.invoke("again", "--session", "new").out


def test_for_programs_the_answer_is_one_object(agent: Agent) -> None:
    streamed = agent.invoke("x", "--json").document
    assert "".join(streamed["events"]) == "Hello! You said: x (turn 1)"
    whole = agent.invoke('{"prompt": "x", "stream": false}', "--json").document
    assert whole["response"]["turn"] == 1
    raw = agent.invoke("x", "--raw")
    assert raw.out.startswith('data: "Hello!"\n\n')


def test_it_is_listed_by_name_and_known_by_id_and_arn(agent: Agent, freehold: Command) -> None:
    rows = freehold("list", "--json").document["agents"]
    row = next(row for row in rows if row["name"] == agent.name)
    assert row["status"] == "READY"
    for name in (agent.name, row["id"], row["arn"]):
        assert freehold("status", name, "--json").document["arn"] == row["arn"]
    assert agent.name in freehold("list").out


def test_its_status_shows_endpoints_versions_and_live_sessions(
    agent: Agent, freehold: Command
) -> None:
    session = agent.new_session()
    document = freehold("status", agent.name, "--json").document
    assert document["idleTimeoutSeconds"] == 900
    assert [e["name"] for e in document["endpoints"]] == ["DEFAULT"]
    assert session in [s["sessionId"] for s in document["sessions"]]
    shown = freehold("status", agent.name).out
    assert session in shown
    assert "DEFAULT" in shown


def test_sessions_are_listed_stopped_and_kept_in_the_record(
    agent: Agent, freehold: Command
) -> None:
    session = agent.new_session()
    live = freehold("sessions", agent.name, "--json").document["sessions"]
    mine = next(row for row in live if row["sessionId"] == session)
    assert (mine["runtimeName"], mine["endpoint"]) == (agent.name, "DEFAULT")
    assert session in freehold("sessions").out
    assert freehold("stop", agent.name, session).code == 0
    live = freehold("sessions", agent.name, "--json").document["sessions"]
    assert session not in [row["sessionId"] for row in live]
    ended = freehold("sessions", agent.name, "--all", "--json").document["sessions"]
    mine = next(row for row in ended if row["sessionId"] == session)
    assert (mine["status"], mine["invocations"]) == ("ENDED", 1)
    assert mine["endReason"]


def test_all_sessions_of_an_agent_are_stopped_at_once(agent: Agent, freehold: Command) -> None:
    wanted = {agent.new_session() for _ in range(3)}
    stopped = freehold("stop", agent.name, "--all", "--json").document["stopped"]
    assert wanted <= set(stopped)
    assert freehold("sessions", agent.name, "--json").document["sessions"] == []


def test_its_log_is_shown_by_session_and_followed(agent: Agent, freehold: Command) -> None:
    session = agent.new_session()
    done = freehold("logs", agent.name, "--session", session, "--json")
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert {line["source"] for line in lines} == {session}
    assert any("Invocation" in line["line"] or "streaming" in line["line"] for line in lines)


def test_following_a_log_shows_new_lines_and_ends_with_ctrl_c(
    agent: Agent, freehold: Command
) -> None:
    session = agent.new_session()
    before = freehold("logs", agent.name, "--session", session, "--json").out.splitlines()
    assert before
    came: queue.Queue[str] = queue.Queue()
    with freehold.started("logs", agent.name, "--session", session, "-f", "--json") as follower:
        try:
            assert follower.stdout is not None
            reader = threading.Thread(target=_pass_on, args=(follower.stdout, came), daemon=True)
            reader.start()
            assert [came.get(timeout=30).rstrip() for _ in before] == before
            assert agent.invoke("more", "--session", session).code == 0
            assert json.loads(came.get(timeout=30))["source"] == session
            follower.send_signal(signal.SIGINT)
            assert follower.wait(30) == 130
            reader.join(30)
        finally:
            follower.kill()


def _pass_on(stream: IO[str], came: "queue.Queue[str]") -> None:
    for line in stream:
        came.put(line)


def test_what_did_not_change_is_not_deployed_again(agent: Agent, freehold: Command) -> None:
    before = freehold("deploy", agent.folder, "--json").document
    assert before["changed"] is False
    assert "is unchanged" in freehold("deploy", agent.folder).out


def test_a_changed_setting_makes_a_new_version_with_it(agent: Agent, freehold: Command) -> None:
    first = freehold("deploy", agent.folder, "--json").document
    toml = agent.folder / "freehold.toml"
    original = toml.read_text()
    toml.write_text(original.replace("# GREETING", "GREETING"))
    changed = freehold("deploy", agent.folder, "--json").document
    assert int(changed["version"]) == int(first["version"]) + 1
    assert changed["changed"] is True
    assert agent.invoke("x").out.startswith("Good morning! ")
    toml.write_text(original)
    back = freehold("deploy", agent.folder, "--json").document
    assert int(back["version"]) == int(first["version"]) + 2
    assert agent.invoke("x").out.startswith("Hello! ")


def test_costs_count_its_sessions(agent: Agent, freehold: Command) -> None:
    session = agent.new_session()
    assert freehold("stop", agent.name, session).code == 0
    report = freehold("costs", "--json").document
    row = next(row for row in report["rows"] if row["name"] == agent.name)
    assert row["sessions"] >= 1
    by_session = freehold("costs", "--by", "session", "--json").document
    assert session in [row["name"] for row in by_session["rows"]]
    assert "Total " in freehold("costs").out


def test_an_agent_that_fails_shows_its_error_and_its_log(freehold: Command, tmp_path: Path) -> None:
    name = f"failing_{secrets.token_hex(4)}"
    for path, text in rendered("plain", name).items():
        (tmp_path / path).write_text(text)
    (tmp_path / "main.py").write_text(
        "from bedrock_agentcore import BedrockAgentCoreApp\n"
        "app = BedrockAgentCoreApp()\n"
        "@app.entrypoint\n"
        "def answer(payload):\n"
        "    raise ValueError('no such flower')\n"
        "app.run()\n"
    )
    assert freehold("deploy", tmp_path).code == 0
    done = freehold("invoke", name, "Hi")
    assert done.code == 1
    assert "The agent failed:" in done.err
    assert "no such flower" in done.err
    hint = re.search(r"freehold (logs \S+ --session \S+)", done.err)
    assert hint is not None
    assert "no such flower" in freehold(*hint.group(1).split()).out
    assert freehold("destroy", name, "--yes").code == 0


def test_a_build_that_fails_shows_the_reason_and_exits_1(freehold: Command, tmp_path: Path) -> None:
    name = f"broken_{secrets.token_hex(4)}"
    for path, text in rendered("plain", name).items():
        (tmp_path / path).write_text(text)
    (tmp_path / "requirements.txt").write_text("this is no requirement\n")
    done = freehold("deploy", tmp_path)
    assert done.code == 1
    assert f"{name} could not be built:" in done.err
    assert f"freehold logs {name} --build" in done.err
    assert "this is no requirement" in freehold("logs", name, "--build").out
    failed = json.loads(freehold("deploy", tmp_path, "--json").err)["error"]
    assert failed["code"] in {"CREATE_FAILED", "UPDATE_FAILED"}
    (tmp_path / "requirements.txt").write_text("bedrock-agentcore==1.25.0\n")
    assert freehold("deploy", tmp_path).code == 0
    assert freehold("destroy", name, "--yes").code == 0


def test_keys_are_made_disabled_enabled_and_deleted(freehold: Command) -> None:
    made = freehold("keys", "create", "--description", "pipeline", "--json").document
    theirs = {
        "AWS_ACCESS_KEY_ID": made["accessKeyId"],
        "AWS_SECRET_ACCESS_KEY": made["secretAccessKey"],
    }
    assert freehold("list", **theirs).code == 0
    listed = freehold("keys", "list")
    assert made["accessKeyId"] in listed.out
    assert "pipeline" in listed.out
    assert made["secretAccessKey"] not in listed.out
    assert freehold("keys", "disable", made["accessKeyId"]).code == 0
    refused = freehold("list", **theirs)
    assert refused.code == 1
    assert f"Signed with access key {made['accessKeyId']}" in refused.err
    assert freehold("keys", "enable", made["accessKeyId"]).code == 0
    assert freehold("list", **theirs).code == 0
    assert freehold("keys", "delete", made["accessKeyId"]).code == 1, "deleted without --yes"
    assert freehold("keys", "delete", made["accessKeyId"], "--yes").code == 0
    assert freehold("list", **theirs).code == 1


def test_an_endpoint_is_made_moved_split_and_deleted(agent: Agent, freehold: Command) -> None:
    newest = str(freehold("status", agent.name, "--json").document["version"])
    made = freehold("endpoints", "set", agent.name, "stable", "--json").document
    assert (made["before"], made["after"]["version"]) == (None, newest)
    absent = freehold("endpoints", "set", agent.name, "stable", "--split", "99:10")
    assert absent.code == 1
    assert f"{agent.name} has no version 99" in absent.err
    for wrong in (
        ("--split", "1:200"),
        ("--version", "99"),
        ("--split", "1:10", "--version", "99"),
    ):
        assert freehold("endpoints", "set", agent.name, "fresh", *wrong).code == 1
        assert freehold("endpoints", "set", agent.name, "stable", *wrong).code == 1
    rows = freehold("endpoints", "list", agent.name, "--json").document["endpoints"]
    assert [(r["name"], r["split"]) for r in rows] == [("DEFAULT", None), ("stable", None)]
    moved = freehold("endpoints", "set", agent.name, "stable", "--version", "1", "--split", "1:10")
    assert moved.out == f"stable of {agent.name} is at version 1, split 1:10.\n", moved.err
    if newest != "1":
        assert f"freehold endpoints set {agent.name} stable --version {newest}" in moved.err
    rows = freehold("endpoints", "list", agent.name, "--json").document["endpoints"]
    assert [(r["name"], r["version"], r["split"]) for r in rows] == [
        ("DEFAULT", newest, None),
        ("stable", "1", "1:10"),
    ]
    again = freehold("endpoints", "set", agent.name, "stable", "--no-split", "--json").document
    assert again["after"]["split"] is None
    assert freehold("endpoints", "delete", agent.name, "stable").code == 1, "without --yes"
    assert freehold("endpoints", "delete", agent.name, "stable", "--yes").code == 0
    assert freehold("invoke", agent.name, "Hi", "--qualifier", "stable").code != 0


def test_destroying_without_a_terminal_needs_yes(agent: Agent, freehold: Command) -> None:
    done = freehold("destroy", agent.name)
    assert done.code == 1
    assert "--yes" in done.err
    assert freehold("status", agent.name).code == 0
