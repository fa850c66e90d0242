"""`freehold memory` as a person uses it, on the platform that learns."""

import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from learning_ground import SEMANTIC, START, Talks
from learning_model import LearningModel

from fault_ground import FaultyPlatform
from freehold.cli.root import root
from running import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PREFERENCE = {"userPreferenceMemoryStrategy": {"name": "likes"}}
TEAM = {"semanticMemoryStrategy": {"name": "team", "namespaces": ["/team/"]}}
TURNS = {"freehold:turns": "on"}


class Cli:
    """`freehold memory ...` in this process."""

    def __init__(self, platform: FaultyPlatform, folder: Path) -> None:
        self._environment: dict[str, str | None] = {
            "FREEHOLD_ENDPOINT": platform.endpoint,
            "FREEHOLD_STATE": str(folder / "no-state"),
            "FREEHOLD_TOKEN": None,
            "XDG_CONFIG_HOME": str(folder / "config"),
            "AWS_REGION": platform.region,
            "AWS_ACCESS_KEY_ID": platform.access_key_id,
            "AWS_SECRET_ACCESS_KEY": platform.secret_access_key,
            "COLUMNS": "80",
        }

    def run(self, *words: object) -> Result:
        return CliRunner().invoke(root, ["memory", *map(str, words)], env=self._environment)

    def __call__(self, *words: object, code: int = 0) -> str:
        done = self.run(*words)
        assert done.exit_code == code, done.output
        return done.stdout

    def document(self, *words: object) -> Any:
        return json.loads(self(*words, "--json"))

    def said_beside(self, *words: object, code: int = 0) -> str:
        done = self.run(*words)
        assert done.exit_code == code, done.output
        return done.stderr


@pytest.fixture
def cli(learning: FaultyPlatform, tmp_path: Path) -> Cli:
    return Cli(learning, tmp_path)


@pytest.fixture
def talk(learning: FaultyPlatform) -> Callable[..., Talks]:
    return lambda *strategies: Talks(learning, *strategies, tags=TURNS)


def only_id(cli: Cli, memory: str, *words: object) -> str:
    (record,) = cli.document("records", memory, *words)["records"]
    return str(record["recordId"])


def test_a_memory_is_made_shown_and_deleted(cli: Cli) -> None:
    name = f"m{secrets.token_hex(4)}"
    made = cli("create", name, "--strategy", "semantic", "--strategy", "episodic", "--turns")
    id = made.splitlines()[1]
    assert made.startswith(f"{name} is ACTIVE\n{name}-")
    assert id in cli("list")
    text = cli("show", name)
    assert "facts, semantic: facts worth knowing later" in text
    assert "/strategies/facts-" in text
    assert "searchable as it was said, in /turns/" in text
    assert "Nothing was said" in cli.said_beside("actors", id)
    assert "Say --yes" in cli.said_beside("delete", name, code=1)
    cli("delete", name, "--yes")
    until(lambda: id not in cli("list"))
    assert f"No memory called {name}" in cli.said_beside("show", name, code=1)


def test_conversations_are_read_with_their_branches(cli: Cli, talk: Callable[..., Talks]) -> None:
    talks = talk()
    root_event = talks.say("Pizza or sushi?", at_once=False)
    talks.say("Pizza.", at_once=False)
    talks.say("Sushi.", at_once=False, branch={"name": "plan-b", "rootEventId": root_event})
    talks.say("Hello.", actor="bert", session="s2", at_once=False)
    assert cli("actors", talks.id) == "anna\nbert\n"
    assert [row["sessionId"] for row in cli.document("sessions", talks.id, "bert")["sessions"]] == [
        "s2"
    ]
    text = cli("events", talks.id, "anna", "s1")
    assert text.index("Pizza.") < text.index(f"branch plan-b, after {root_event}") < text.index(
        "Sushi."
    )  # fmt: skip
    branch = cli("events", talks.id, "anna", "s1", "--branch", "plan-b")
    assert "Pizza or sushi?" in branch
    assert "Pizza." not in branch
    newest = cli.document("events", talks.id, "anna", "s1", "--limit", 1)
    assert newest["more"]
    assert len(newest["events"]) == 1
    assert "freehold memory actors" in cli.said_beside("events", talks.id, "nobody", "s1")


def test_a_fact_is_followed_to_the_words_it_comes_from(
    cli: Cli, talk: Callable[..., Talks]
) -> None:
    talks = talk(SEMANTIC)
    talks.say("city is Rome")
    talks.learn()
    first = only_id(cli, talks.id)
    event = talks.say("city is Oslo")
    talks.learn()
    now = only_id(cli, talks.id, "--actor", "anna")
    history = cli("records", talks.id, "--history")
    assert first in history
    assert f"in its place {now}" in history
    assert now in cli("search", talks.id, "Which city?", "--top-k", 3)
    assert first in cli("search", talks.id, "Which city?", "--history")
    until(lambda: '"Which city?"' in cli("retrievals", talks.id, "--record", now))
    text = cli("record", talks.id, now)
    assert f"event {event}, message 1" in text
    assert "USER       city is Oslo" in text
    assert "It took the place of\n  city is Rome" in text
    assert '"Which city?"' in text
    assert "Its place was taken by\n  city is Oslo" in cli("record", talks.id, first)
    assert "does not exist" in cli.said_beside("record", talks.id, f"mem-{'0' * 36}", code=1)


def test_a_profile_has_preferences_and_a_record_can_be_forgotten(
    cli: Cli, talk: Callable[..., Talks]
) -> None:
    talks = talk(PREFERENCE)
    assert "no preference" in cli.said_beside("profile", talks.id, "anna")
    talks.say("tone is short")
    talks.learn()
    assert cli("profile", talks.id, "anna").startswith("tone is short\n")
    record = only_id(cli, talks.id)
    assert "Say --yes" in cli.said_beside("forget", talks.id, record, code=1)
    cli("forget", talks.id, record, "--yes")
    assert cli.document("records", talks.id)["records"] == []
    assert "No records" in cli.said_beside("records", talks.id)


def test_what_could_not_be_learned_says_why_and_is_tried_again(
    cli: Cli, talk: Callable[..., Talks], learning_model: LearningModel
) -> None:
    talks, word = talk(SEMANTIC), secrets.token_hex(4)
    learning_model.said[word] = [400]
    talks.say(f"code is {word}")
    talks.learn()
    assert "not today" in cli("jobs", talks.id)
    assert "Started again: 1 job" in cli("jobs", talks.id, "retry", "all")
    talks.learn()
    assert "No extraction" in cli.said_beside("jobs", talks.id)
    assert f"code is {word}" in cli("records", talks.id)


def test_a_person_is_exported_erased_and_the_erasure_proven(
    cli: Cli, talk: Callable[..., Talks], tmp_path: Path
) -> None:
    talks, file = talk(SEMANTIC, TEAM), tmp_path / "anna.jsonl"
    talks.say("lake is deep")
    talks.learn()
    talks.say("lake is cold", actor="bert", session="s2")
    talks.data.batch_create_memory_records(
        memoryId=talks.id,
        records=[
            {
                "requestIdentifier": name, "namespaces": [f"/notes/{name}/"], "timestamp": START,
                "content": {"text": f"a note on {name}"},
            }
            for name in ("anna", "bert")
        ],
    )  # fmt: skip
    talks.learn()
    cli("search", talks.id, "Which lake?", "--path", "/turns/actors/anna/")
    until(lambda: cli.document("retrievals", talks.id, "--actor", "anna")["retrievals"])
    assert " 1  event\n" in cli("erase", talks.id, "anna", "--dry-run")
    assert "Say --yes" in cli.said_beside("erase", talks.id, "anna", code=1)
    done = cli.run("erase", talks.id, "anna", "--yes", "--export", file)
    assert done.exit_code == 0, done.output
    assert "nothing is left" in done.stdout
    assert "anna" not in done.stdout
    assert "exactly what was erased" in done.stderr
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    kinds = [line["kind"] for line in lines]
    assert (kinds[0], kinds[-1]) == ("memory", "end")
    assert {line["actorId"] for line in lines if line["kind"] == "event"} == {"anna"}
    texts = sorted(line["text"] for line in lines if line["kind"] == "record")
    assert texts == ["a note on anna", "lake is deep", "lake is deep"]
    assert lines[-1]["lines"] == {kind: kinds.count(kind) for kind in set(kinds[1:-1])}
    assert lines[-1]["lines"]["turn"] == 12
    assert file.stat().st_mode & 0o077 == 0
    assert cli("actors", talks.id) == "bert\n"
    left = cli.document("records", talks.id, "--history")["records"]
    assert sorted(each["text"] for each in left) == [
        "a note on bert",
        "lake is cold",
        "lake is cold",
    ]
    assert "holds nothing of anna" in cli("erase", talks.id, "anna", "--dry-run")
    (kept,) = cli.document("erasures", talks.id, "--actor", "anna")["erasures"]
    assert kept["erased"]["events"] == 1
    assert kept["digests"] == lines[-1]["digests"]
    assert kept["digest"] in cli("erasures", talks.id)
    assert "only looked" in cli("erasures", talks.id, "--dry-runs")
    assert "anna" not in json.dumps(kept)
