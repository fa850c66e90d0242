"""`freehold trace fork` and its neighbours, where the platform's answers are prepared."""

import json
import re
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import click
import pytest
from cli_doubles import Answering, Run
from fork_answers import FORK, SPAN, TRACE, comparison, fork

from freehold.cli.root import root
from freehold.cli.trace import columns
from freehold.cli.trace.changes import in_words

OWN = "/freehold/v1"


@pytest.fixture
def forks(answering: Answering) -> Answering:
    answering.answer("POST", f"{OWN}/forks", fork(status="PENDING"))
    answering.answer("GET", f"{OWN}/forks", {"forks": [fork()], "nextToken": None})
    answering.answer("GET", f"{OWN}/forks/{FORK}", fork())
    answering.answer("GET", f"{OWN}/forks/{FORK}/comparison", comparison())
    answering.answer("DELETE", f"{OWN}/forks/{FORK}", status=204, body=b"")
    return answering


def made(answering: Answering) -> Any:
    """What the last fork was made with."""
    [*_, sent] = [one.body for one in answering.seen if one.method == "POST"]
    return json.loads(sent)


def test_a_fork_is_followed_to_its_end_and_told_in_short(run: Run, forks: Answering) -> None:
    done = run("trace", "fork", TRACE, SPAN, "--model", "gpt-5", "--qualifier", "next")
    assert done.exit_code == 0, done.output
    assert made(forks) == {
        "traceId": TRACE, "spanId": SPAN, "until": "turn", "endpoint": "next",
        "change": {"model": "gpt-5"},
    }  # fmt: skip
    for words in (
        f"{FORK}  completed", "model gpt-5", "2 from the record, 1 live", "version 4",
        "(recorded with 3)", "Turn 1 answers otherwise", "- Nine euros are left.",
        "+ Two euros are left.", f"freehold trace compare {FORK}",
        f"{forks.endpoint}/console/forks/{FORK}",
    ):  # fmt: skip
        assert words in done.stdout
    assert "begins" in done.stderr and "begins" not in done.stdout


def test_what_is_changed_is_said_in_words_or_in_files(
    run: Run, forks: Answering, tmp_path: Path
) -> None:
    text = tmp_path / "system.txt"
    text.write_text("Be brief.\nBe kind.\n")
    result = {"content": [{"type": "text", "text": "9"}], "isError": False}
    answers = [("--tool-answer", json.dumps(result)), ("--tool-answer", "[9]")]
    for option, value in answers:
        assert run("trace", "fork", TRACE, SPAN, "--no-wait", option, value).exit_code == 0
    sent = [json.loads(one.body)["change"] for one in forks.seen if one.method == "POST"]
    assert sent == [{"toolAnswer": result}, {"toolAnswer": "[9]"}]
    done = run(
        "trace", "fork", TRACE, SPAN, "--no-wait", "--until", "session", "--system", f"@{text}",
        "--prompt", "And now?", "--payload", "And then?",
    )  # fmt: skip
    assert done.stdout == f"{FORK}\n"
    assert made(forks)["until"] == "session"
    assert made(forks)["change"] == {
        "system": "Be brief.\nBe kind.\n", "prompt": "And now?", "payload": {"prompt": "And then?"},
    }  # fmt: skip
    assert run("trace", "fork", TRACE, SPAN, "--system", "@/no/such").exit_code == 1


def test_a_policy_engine_is_found_by_its_name(run: Run, forks: Answering) -> None:
    engine = {
        "name": "strict", "policyEngineId": "strict-0123456789", "createdAt": 1, "updatedAt": 1,
        "policyEngineArn": "arn:aws:bedrock-agentcore:us-east-1:123456789012:policy-engine/s",
        "status": "ACTIVE", "statusReasons": [],
    }  # fmt: skip
    forks.answer("GET", "/policy-engines", {"policyEngines": [engine]})
    assert (
        run("trace", "fork", TRACE, SPAN, "--no-wait", "--policy-engine", "strict").exit_code == 0
    )
    assert made(forks)["change"] == {"policyEngineId": "strict-0123456789"}
    lost = run("trace", "fork", TRACE, SPAN, "--policy-engine", "lax")
    assert lost.exit_code == 1 and "There are: strict" in lost.stderr


def test_ids_may_be_shortened(run: Run, forks: Answering) -> None:
    spans = [{"spanId": SPAN}, {"spanId": "a1" * 8}, {"spanId": "a1a1" + "f" * 12}]
    forks.answer("GET", f"{OWN}/traces", {"traces": [{"traceId": TRACE}]})
    forks.answer("GET", f"{OWN}/traces/{TRACE}", {"spans": spans})
    assert run("trace", "fork", "latest", "bbbb", "--no-wait").exit_code == 0
    assert made(forks)["spanId"] == SPAN
    assert "2 spans begin with a1a1" in run("trace", "fork", TRACE, "a1a1").stderr
    assert "begins with cccc" in run("trace", "fork", TRACE, "cccc").stderr
    assert "no span's id" in run("trace", "fork", TRACE, "xyz").stderr
    for wanted in (FORK, "4A59", "fork-4a59", "latest"):
        assert run("trace", "compare", wanted).exit_code == 0, wanted
    assert "freehold trace forks" in run("trace", "compare", "ffff").stderr
    assert "no fork's id" in run("trace", "compare", "spoon").stderr
    other = fork(forkId=FORK[:-1] + "0")
    forks.answer("GET", f"{OWN}/forks", {"forks": [fork(), other], "nextToken": None})
    assert "2 forks begin with 4a59" in run("trace", "unfork", "4a59").stderr


@pytest.mark.parametrize("status", ["FAILED", "DIVERGED", "INTERRUPTED"])
def test_a_fork_that_did_not_end_well_fails_with_its_reason(
    run: Run, forks: Answering, status: str
) -> None:
    ended = fork(status=status, reason="the agent called refund, which the record does not have")
    forks.answer("GET", f"{OWN}/forks/{FORK}", ended)
    done = run("trace", "fork", TRACE, SPAN)
    assert done.exit_code == 1
    assert status in done.stderr and "called refund" in done.stderr
    asked = run("trace", "fork", TRACE, SPAN, "--json")
    assert (asked.exit_code, json.loads(asked.stdout)) == (1, ended)


def test_a_refusal_says_what_the_platform_says(run: Run, forks: Answering) -> None:
    why = "its content was not captured: set the tag freehold:content-capture = on"
    error = {"error": {"code": "ConflictException", "message": why, "requestId": "r-1"}}
    forks.answer("POST", f"{OWN}/forks", error, status=409)
    done = run("trace", "fork", TRACE, SPAN)
    assert done.exit_code == 1 and why in done.stderr


def test_forks_are_listed(run: Run, forks: Answering) -> None:
    forks.has_runtime("shop")
    done = run("trace", "forks", "--trace", TRACE, "--agent", "shop", "--limit", "5")
    assert done.exit_code == 0, done.output
    [head, line] = done.stdout.splitlines()
    assert head.split()[:3] == ["TIME", "FORK", "AGENT"]
    assert FORK in line and "model chat gpt-4o, turn 1" in line and "model gpt-5" in line
    query = parse_qs(urlsplit(forks.seen[-1].path).query)
    assert query == {"traceId": [TRACE], "agentId": ["shop-aaaaaaaaaa"]}
    assert json.loads(run("trace", "forks", "--json").stdout) == {"forks": [fork()], "more": False}
    forks.answer("GET", f"{OWN}/forks", {"forks": [], "nextToken": None})
    assert "freehold trace fork TRACE SPAN" in run("trace", "forks").stderr


def test_a_fork_is_deleted(run: Run, forks: Answering) -> None:
    done = run("trace", "unfork", FORK)
    assert done.stdout == f"Deleted {FORK}\n"
    assert [one.path for one in forks.seen if one.method == "DELETE"] == [f"{OWN}/forks/{FORK}"]
    assert json.loads(run("trace", "unfork", FORK, "--json").stdout) == {"deleted": FORK}


def test_a_comparison_goes_turn_by_turn_and_step_by_step(run: Run, forks: Answering) -> None:
    done = run("trace", "compare", FORK)
    assert done.exit_code == 0, done.output
    order = [
        "model calls", "Turn 1  1.5 s > 900 ms", "payload: same", "answer: differs",
        "- Nine euros are left.", "+ Two euros are left.", "orders___get  same",
        "gpt-4o > gpt-5  differs", "only in the fork", "+ sent",
    ]  # fmt: skip
    at = [done.stdout.index(words) for words in order]
    assert at == sorted(at)
    assert "InvokeAgentRuntime" not in done.stdout, "the turn itself is its heading"
    assert "\x1b" not in done.stdout, "no colours for a pipe, and what was said steers no terminal"
    assert "What is left?" in run("trace", "compare", FORK, "--full").stdout
    assert "Turn 1" not in run("trace", "compare", FORK, "--turn", "2").stdout
    assert json.loads(run("trace", "compare", FORK, "--json").stdout) == comparison()


def test_two_texts_stand_side_by_side_within_the_terminal() -> None:
    recorded = "The fare is 162 euros.\nIt leaves on Friday at noon, from the northern station."
    forked = "The fare is 99 euros.\nIt leaves on Friday at noon, from the northern station."
    found = columns.lines(recorded, forked, width=60)
    plain = [click.unstyle(line) for line in found]
    assert plain[0] == f"{'The fare is 162 euros.':<28} │ The fare is 99 euros."
    assert {len(line.partition(" │ ")[0]) for line in plain} == {28}
    assert all(len(line) <= 60 for line in plain)
    assert click.style("162", fg="red") in found[0], "only what differs has a colour"
    assert click.style("99", fg="green") in found[0]
    assert columns.lines("小さい" * 20, "", width=23)[0].endswith(" │ "), "wide letters fit too"


def test_what_is_the_same_is_left_out_but_for_what_stands_around() -> None:
    recorded = "\n".join(f"line {at}" for at in range(50))
    forked = recorded.replace("line 25", "changed")
    found = [click.unstyle(line) for line in columns.lines(recorded, forked, width=None)]
    assert found == [
        "...", "  line 23", "  line 24", "- line 25", "+ changed", "  line 26", "  line 27", "...",
    ]  # fmt: skip
    assert len(columns.lines(recorded, forked, width=None, full=True)) == 51
    many = columns.lines(recorded, forked.upper(), width=None, lines_max=10)
    assert len(many) == 11 and "--full shows all" in many[-1]


def test_json_is_compared_by_its_parts() -> None:
    texts = columns.readable('{"a":1,"b":[1,2]}'), columns.readable('{"a": 1, "b": [1, 3]}')
    found = [click.unstyle(line) for line in columns.lines(*texts, width=None)]
    assert found == ["...", '    "b": [', "      1,", "-     2", "+     3", "    ]", "  }"]
    assert columns.readable("{cut") == "{cut"


def test_a_change_is_named_in_a_few_words() -> None:
    assert in_words({}) == "nothing"
    said = in_words({"model": "gpt-5", "system": "Be\nbrief, " * 20, "toolAnswer": {"content": []}})
    assert said.startswith('model gpt-5, instructions "Be brief, Be brief,')
    assert said.endswith('...", tool answer "{"content": []}"')


def test_every_command_and_option_of_the_page_on_replay_exists() -> None:
    page = (Path(__file__).parents[2] / "docs" / "replay.md").read_text(encoding="utf-8")
    lines = re.findall(r"^freehold trace .*$", page, re.MULTILINE)
    assert len(lines) > 10
    group = root.commands["trace"]
    assert isinstance(group, click.Group)
    for line in lines:
        [_, _, name, *words] = shlex.split(line, comments=True)
        known = {option for each in group.commands[name].params for option in each.opts}
        assert {word for word in words if word.startswith("--")} <= known, line
