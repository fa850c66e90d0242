"""`freehold memory` where the platform's answers are prepared: what is said, and what is asked."""

import json
import re
from pathlib import Path
from typing import Any

import click
import pytest
from cli_doubles import Answering, Run

from freehold.cli.memory import places, shown
from freehold.cli.output import when

ARN = "arn:aws:bedrock-agentcore:us-east-1:100000000001:memory/"
MEMORY, OWN = "support-0123456789", "/freehold/v1/memories/support-0123456789"
FACTS = "facts-0123456789"
STRATEGY = {
    "strategyId": FACTS, "name": "facts", "type": "SEMANTIC", "status": "ACTIVE",
    "namespaces": ["/strategies/{memoryStrategyId}/actors/{actorId}/"],
}  # fmt: skip
AT = "2026-03-02T12:00:00Z"
RECORD = "mem-00000000-0000-4000-8000-00000000000"
NOTHING = {"events": 0, "sessions": 0, "records": 0, "turns": 0, "failedJobs": 0}


def memory(id: str, status: str = "ACTIVE") -> dict[str, Any]:
    return {"id": id, "arn": ARN + id, "status": status, "createdAt": 1.0, "updatedAt": 1.0}


def view(number: int, text: str, **more: Any) -> dict[str, Any]:
    return {
        "recordId": f"{RECORD}{number}", "text": text, "strategyId": FACTS, "at": AT,
        "namespaces": [f"/strategies/{FACTS}/actors/anna/"], "createdAt": AT, "updatedAt": None,
        "metadata": {}, **more,
    }  # fmt: skip


def erasure(**more: Any) -> dict[str, Any]:
    return {
        "erasureId": "e-1", "state": "DONE", "dryRun": False, "actorDigest": "a" * 64,
        "startedAt": AT, "endedAt": AT, "by": "somebody", "digest": "d" * 64,
        "erased": {**NOTHING, "events": 12, "records": 3}, "left": NOTHING, **more,
    }  # fmt: skip


@pytest.fixture
def support(answering: Answering) -> Answering:
    """A platform with the memory support, and one that is called like it and goes."""
    rows = [memory("support-9999999999", "DELETING"), memory(MEMORY), memory("notes-0123456789")]
    answering.answer("POST", "/memories/", {"memories": rows})
    return answering


def asked(platform: Answering, method: str, path: str) -> list[Any]:
    return [
        json.loads(seen.body)
        for seen in platform.seen
        if seen.method == method and seen.path.partition("?")[0] == path
    ]


# -- which memory


@pytest.mark.parametrize("wanted", ["support", MEMORY, ARN + MEMORY])
def test_a_memory_is_known_by_its_name_its_id_and_its_arn(
    run: Run, support: Answering, wanted: str
) -> None:
    support.answer("POST", f"/memories/{MEMORY}/actors", {"actorSummaries": [{"actorId": "anna"}]})
    assert run("memory", "actors", wanted).stdout == "anna\n"


def test_an_unknown_memory_is_told_those_that_there_are(run: Run, support: Answering) -> None:
    done = run("memory", "show", "suport")
    assert done.exit_code == 1
    assert done.stderr == "Error: No memory called suport.\nThere are: notes, support\n"


def test_without_memories_it_says_how_to_make_one(run: Run, answering: Answering) -> None:
    answering.answer("POST", "/memories/", {"memories": []})
    assert "freehold memory create NAME" in run("memory", "list").stderr
    assert "freehold memory create NAME" in run("memory", "actors", "support").stderr


def test_an_arn_of_something_else_is_refused(run: Run, support: Answering) -> None:
    done = run("memory", "show", ARN.replace("memory/", "runtime/") + MEMORY)
    assert "is not the ARN of a memory" in done.stderr


def test_who_may_not_list_memories_names_one_by_its_id(run: Run, answering: Answering) -> None:
    denied = {"message": "not you"}
    answering.answer(
        "POST", "/memories/", denied, status=403,
        headers={"x-amzn-errortype": "AccessDeniedException", "Content-Type": "application/json"},
    )  # fmt: skip
    answering.answer("POST", f"/memories/{MEMORY}/actors", {"actorSummaries": []})
    assert "Nothing was said in support yet" in run("memory", "actors", MEMORY).stderr
    assert "not you" in run("memory", "actors", "support").stderr


def test_a_memory_says_what_waits_and_for_what(run: Run, support: Answering) -> None:
    document = {**memory(MEMORY), "name": "support", "eventExpiryDuration": 7}
    support.answer(
        "GET", f"/memories/{MEMORY}/details", {"memory": {**document, "strategies": [STRATEGY]}}
    )
    support.answer("GET", "/tags/*", {"tags": {"team": "blue"}})
    support.answer("GET", f"{OWN}/status", {
        "turns": False, "waiting": ["the strategy facts waits for a model"],
        "strategies": [{"strategyId": FACTS, "learns": "SEMANTIC"}],
    })  # fmt: skip
    text = run("memory", "show", "support").stdout
    assert f"{FACTS}\n  /strategies/{FACTS}/actors/{{actorId}}/\n" in text
    assert "kept for 7 days" in text
    assert "team = blue" in text
    assert text.endswith("Waits: the strategy facts waits for a model\n")


# -- records


def test_records_are_what_still_holds_and_with_history_the_rest(
    run: Run, support: Answering
) -> None:
    old = view(1, "Anna lives in Rome.", validUntil=AT, supersededBy=f"{RECORD}2")
    support.answer("GET", f"{OWN}/history", {"records": [view(2, "Anna lives in Oslo."), old]})
    assert "Rome" not in run("memory", "records", "support").stdout
    text = run("memory", "records", "support", "--history").stdout
    assert "Anna lives in Rome." in text
    assert f"not so any more since {when(AT)}; in its place {RECORD}2" in text
    document = json.loads(run("memory", "records", "support", "--json").stdout)
    assert [row["text"] for row in document["records"]] == ["Anna lives in Oslo."]


def test_records_of_an_actor_are_looked_for_where_strategies_write_them(
    run: Run, support: Answering
) -> None:
    document = {**memory(MEMORY), "name": "support", "eventExpiryDuration": 7}
    support.answer(
        "GET", f"/memories/{MEMORY}/details", {"memory": {**document, "strategies": [STRATEGY]}}
    )
    support.answer("GET", f"{OWN}/history", {"records": [view(1, "Anna lives in Rome.")]})
    assert "Rome" in run("memory", "records", "support", "--actor", "anna").stdout
    (seen,) = [each.path for each in support.seen if "/history" in each.path]
    assert f"namespacePath=%2Fstrategies%2F{FACTS}%2Factors%2Fanna%2F" in seen
    assert "No records" in run("memory", "records", "support", "--actor", "bert").stderr


def test_a_namespace_and_a_path_at_once_are_refused(run: Run, support: Answering) -> None:
    done = run("memory", "records", "support", "--namespace", "/a/", "--path", "/")
    assert done.exit_code == 2
    assert "not both" in done.stderr


def test_nothing_found_is_told_with_the_reason(run: Run, support: Answering) -> None:
    support.answer(
        "POST", f"/memories/{MEMORY}/retrieve", {"memoryRecordSummaries": []},
        headers={"Content-Type": "application/json",
                 "x-freehold-notice": "nothing is stored in namespace /nope/"},
    )  # fmt: skip
    done = run("memory", "search", "support", "pets", "--namespace", "/nope/")
    assert done.exit_code == 0
    assert "Nothing was found.\nNothing is stored in namespace /nope/.\n" in done.stderr
    assert json.loads(run(
        "memory", "search", "support", "pets", "--namespace", "/nope/", "--json").stdout
    ) == {"records": [], "notice": "nothing is stored in namespace /nope/"}  # fmt: skip


def test_a_record_shows_what_it_comes_from_and_who_found_it(run: Run, support: Answering) -> None:
    source = {"eventId": "001#a", "index": 2, "actorId": "anna", "sessionId": "s1", "gone": False}
    found = {
        "retrievalId": "r-1", "at": AT, "by": "an-agent", "operation": "RetrieveMemoryRecords",
        "namespace": "/", "query": "her home", "sessionId": "run-1",
        "records": [{"recordId": f"{RECORD}1", "score": 0.5}],
    }  # fmt: skip
    support.answer("GET", f"{OWN}/records/{RECORD}1/provenance", {
        "record": view(1, "Anna lives in Oslo.", metadata={"city": {"stringValue": "Oslo"}}),
        "sources": [
            {**source, "at": AT, "role": "USER", "text": "I moved to Oslo."},
            {**source, "index": 4, "gone": True},
        ],
        "supersedes": [view(0, "Anna lives in Rome.", validUntil=AT)],
        "supersededBy": None, "retrievals": [found],
    })  # fmt: skip
    text = run("memory", "record", "support", f"{RECORD}1").stdout
    for part in (
        "Anna lives in Oslo.", "city = Oslo", "event 001#a, message 3",
        "USER       I moved to Oslo.",
        "gone: it has expired", "It took the place of\n  Anna lives in Rome.", '"her home"',
        "by an-agent", "score 0.500",
    ):  # fmt: skip
        assert part in text, text


# -- erasing


def test_an_erasure_asks_first_and_without_a_terminal_wants_yes(
    run: Run, support: Answering
) -> None:
    support.answer("POST", f"{OWN}/erasures", erasure(dryRun=True))
    done = run("memory", "erase", "support", "anna")
    assert done.exit_code == 1
    assert "12  events" in done.stdout
    assert "Say --yes" in done.stderr
    bodies = asked(support, "POST", f"{OWN}/erasures")
    assert bodies == [{"actorId": "anna", "dryRun": True}]


def test_an_erasure_ends_with_its_proof(run: Run, support: Answering) -> None:
    running = erasure(state="RUNNING", erased=NOTHING, endedAt=None, digest=None)
    support.answer("POST", f"{OWN}/erasures", running)
    support.answer("GET", f"{OWN}/erasures/e-1", erasure())
    done = run("memory", "erase", "support", "anna", "--yes")
    assert done.exit_code == 0, done.output
    assert "nothing is left" in done.stdout
    assert "d" * 64 in done.stdout
    assert asked(support, "POST", f"{OWN}/erasures")[-1] == {"actorId": "anna", "dryRun": False}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"left": {**NOTHING, "failedJobs": 1}}, "STILL THERE:\n  1  failed extraction job"),
        ({"state": "FAILED", "error": "the disk is full"}, "the disk is full"),
    ],
)
def test_an_erasure_that_left_something_exits_with_1(
    run: Run, support: Answering, more: dict[str, Any], said: str
) -> None:
    support.answer("POST", f"{OWN}/erasures", erasure(**more))
    done = run("memory", "erase", "support", "anna", "--yes")
    assert done.exit_code == 1
    assert said in done.stdout
    assert run("memory", "erase", "support", "anna", "--yes", "--json").exit_code == 1
    assert run("memory", "erase", "support", "anna", "--dry-run").exit_code == 0


def test_what_cannot_be_exported_is_not_erased(
    run: Run, support: Answering, tmp_path: Path
) -> None:
    support.answer("POST", f"{OWN}/erasures", erasure(dryRun=True))
    file = tmp_path / "no such folder" / "anna.jsonl"
    done = run("memory", "erase", "support", "anna", "--yes", "--export", file)
    assert done.exit_code == 1
    assert "No such file or directory" in done.stderr
    assert asked(support, "POST", f"{OWN}/erasures") == []


# -- how it looks


def test_what_was_said_steers_no_terminal() -> None:
    assert shown.safe("a\x1b[2Jb\rc\u202ed\te\r\nf") == "a\ufffd[2Jb\ufffdc\ufffdd\te\nf"


def test_a_long_text_is_cut_and_says_so() -> None:
    text = shown.cut("long " * 200, full=False)
    assert len(text) < 500
    assert text.endswith("(1,000 characters; --full shows all)")
    assert shown.cut("long " * 200, full=True) == "long " * 200


def test_an_actors_places_are_read_from_the_templates() -> None:
    strategies: list[dict[str, Any]] = [
        {"strategyId": "a-1", "namespaces": ["/s/{memoryStrategyId}/actors/{actorId}/"]},
        {"strategyId": "b-2", "namespaces": ["/s/{team}/{actorId}/sessions/{sessionId}"]},
        {"strategyId": "c-3", "namespaces": ["/everybody/"]},
        {
            "strategyId": "d-4", "namespaces": ["/e/{actorId}/"],
            "configuration": {"reflection": {"x": {"namespaces": ["/lessons/{actorId}/"]}}},
        },
    ]  # fmt: skip
    found = places.of_actor(strategies, "an.na")
    assert found.paths == ("/e/an.na/", "/lessons/an.na/", "/s/")
    assert found.hold(["/s/red/an.na/sessions/1/"])
    assert found.hold(["/s/a-1/actors/an.na"])
    assert not found.hold(["/s/a-1/actors/anna/", "/everybody/", "/s/a-1/actors/an.na/more/"])
    for strategy, namespace, may in (
        ("c-3", "/everybody/", True), ("a-1", "/s/a-1/actors/anna/", False),
        ("a-1", "/moved/since/", True), ("none", "/notes/", False), ("none", "/an.na", True),
    ):  # fmt: skip
        assert found.may_hold({"strategyId": strategy, "namespaces": [namespace]}) is may


def test_jobs_say_why_they_failed_and_are_started_again(run: Run, support: Answering) -> None:
    job = {
        "jobID": "j-1", "status": "FAILED", "failureReason": "the answer holds no JSON",
        "strategyId": FACTS, "actorId": "anna", "sessionId": "s1",
        "messages": {"messagesList": [{"eventId": "001#a", "messageIndex": 0}]},
    }  # fmt: skip
    support.answer("POST", f"/memories/{MEMORY}/extractionJobs", {"jobs": [job]})
    support.answer("POST", f"/memories/{MEMORY}/extractionJobs/start", {"jobId": "j-1"})
    text = run("memory", "jobs", "support").stdout
    assert re.search(
        r"j-1\n  the answer holds no JSON\n  facts  anna, session s1  1 message\n", text
    )
    assert run("memory", "jobs", "support", "retry", "all").stdout == "Started again: 1 job.\n"
    assert run("memory", "jobs", "support", "retry").exit_code == 2
    (sent,) = asked(support, "POST", f"/memories/{MEMORY}/extractionJobs/start")
    assert sent["extractionJob"] == {"jobId": "j-1"}


def test_a_narrow_terminal_keeps_words_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    output: Any = type("Lines", (), {"say": lambda _, text: lines.append(click.unstyle(text))})()
    shown.record(output, view(1, "Anna lives in Rome with her dog Bella. " * 5))
    assert max(map(len, lines)) <= 60
    assert " ".join(line.strip() for line in lines[:4]).startswith("Anna lives in Rome with")
