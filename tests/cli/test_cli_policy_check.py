"""`freehold policy check` and `diff` with --tools: proofs with no platform anywhere."""

import json
from pathlib import Path

import pytest
from cli_doubles import Answering, Run

EXAMPLE = Path(__file__).parents[2] / "examples" / "policy"
BANK, TOOLS = EXAMPLE / "bank.cedar", EXAMPLE / "tools.json"
MOVES = (
    'principal, action == AgentCore::Action::"accounts___transfer", '
    'resource == AgentCore::Gateway::"bank"'
)


@pytest.fixture
def lax(tmp_path: Path) -> Path:
    """The bank's policies, with a limit of 5000 in place of 1000."""
    path = tmp_path / "lax.cedar"
    path.write_text(BANK.read_text().replace("> 1000", "> 5000"))
    return path


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "some.cedar"
    path.write_text(text)
    return path


def test_the_example_has_nothing_to_put_right(run: Run) -> None:
    done = run("policy", "check", BANK, "--tools", TOOLS)
    assert done.exit_code == 0, done.output
    assert done.stdout == "3 policies at 2 actions of bank: nothing to put right\n"


def test_a_finding_fails_and_is_shown_as_a_request(run: Run, tmp_path: Path) -> None:
    path = written(
        tmp_path, f'@id("tenfold") forbid ({MOVES}) when {{ context.input.amount * 10 > 99 }};'
    )
    done = run("policy", "check", path, "--tools", TOOLS)
    assert done.exit_code == 1, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == "1 policy at 2 actions of bank: 1 finding to put right, 2 noted"
    start = lines.index("MAY_ERROR  tenfold")
    assert lines[start + 1] == "  Its condition fails for some requests."
    assert lines[start + 2].startswith("  who        OAuthUser ")
    labels = [line[2:13].strip() for line in lines[start + 2 : start + 7]]
    assert labels == ["who", "tool", "arguments", "", ""]
    amount = lines[start + 6].partition("amount = ")[2]
    assert abs(int(amount) * 10) > 2**63


def test_for_programs_there_is_all_of_it(run: Run, tmp_path: Path) -> None:
    path = written(tmp_path, f"permit ({MOVES});")
    done = run("policy", "check", path, "--tools", TOOLS, "--json")
    assert done.exit_code == 1
    document = json.loads(done.stdout)
    assert (document["fails"], document["failing"]) == (True, 1)
    (finding,) = [f for f in document["gateways"][0]["findings"] if f["counts"]]
    assert (finding["property"], finding["policy"]) == ("ALLOW_ALL", "policy0")


def test_what_fails_can_be_said(run: Run, tmp_path: Path) -> None:
    path = written(tmp_path, f"permit ({MOVES});")
    assert run("policy", "check", path, "--tools", TOOLS, "--allow", "ALLOW_ALL").exit_code == 0
    twice = written(tmp_path, f"permit ({MOVES});\n" * 2)
    allowed = ("policy", "check", twice, "--tools", TOOLS, "--allow", "ALLOW_ALL")
    assert run(*allowed).exit_code == 0, "what is redundant is only noted"
    done = run(*allowed, "--fail-on", "REDUNDANT", "--fail-on", "SHADOWED")
    assert done.exit_code == 1, done.output


def test_an_optional_argument_is_to_be_asked_for_first(run: Run, tmp_path: Path) -> None:
    path = written(tmp_path, f'permit ({MOVES}) when {{ context.input.memo == "gift" }};')
    done = run("policy", "check", path, "--tools", TOOLS)
    assert done.exit_code == 1
    assert "Ask first whether it is there: context.input has memo" in done.stdout


def test_several_files_are_one_set_and_what_cannot_be_read_is_said_by_file_and_line(
    run: Run, tmp_path: Path
) -> None:
    forbid = written(tmp_path, f'@id("none") forbid ({MOVES}) when {{ true }};')
    done = run("policy", "check", BANK, forbid, "--tools", TOOLS)
    assert done.stdout.startswith("4 policies at 2 actions")
    bad = tmp_path / "bad.cedar"
    bad.write_text(f"permit ({MOVES});\n\nforbid (;")
    done = run("policy", "check", forbid, bad, "--tools", TOOLS)
    assert done.exit_code == 1
    assert f"{bad}, line 3: " in done.stderr


def test_the_tools_may_be_a_bare_list_and_say_who_comes_in(run: Run, tmp_path: Path) -> None:
    bare = tmp_path / "bare.json"
    bare.write_text(json.dumps(json.loads(TOOLS.read_text())["tools"]))
    assert run("policy", "check", BANK, "--tools", bare).exit_code == 0
    done = run("policy", "check", BANK, "--tools", bare, "--auth", "iam")
    assert done.exit_code == 1, "no OAuthUser comes in"
    for text in ("nothing", '{"tools": [{"inputSchema": {}}]}', "7"):
        bare.write_text(text)
        done = run("policy", "check", BANK, "--tools", bare, "--json")
        assert json.loads(done.stderr)["error"]["code"] == "BadFile"
        assert "tools/list" in json.loads(done.stderr)["error"]["hint"]


def test_what_no_policy_can_speak_of_is_listed(run: Run, tmp_path: Path) -> None:
    tools = json.loads(TOOLS.read_text())
    tools["tools"][1]["inputSchema"]["properties"]["extra"] = {}
    path = tmp_path / "tools.json"
    path.write_text(json.dumps(tools))
    done = run("policy", "check", BANK, "--tools", path)
    assert "No policy can speak of:\n  accounts___transfer input.extra: " in done.stdout


# -- diff


def test_a_loosening_fails_with_the_call_that_goes_through_now(run: Run, lax: Path) -> None:
    done = run("policy", "diff", BANK, lax, "--tools", TOOLS)
    assert done.exit_code == 1, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == "bank: newly allowed for 1 tool, newly denied for 0 tools"
    assert lines[2] == "newly allowed, by transfers"
    assert '  claims     role = "clerk"' in lines
    assert "  tool       accounts___transfer" in lines
    amount = int(lines[-1].partition("amount = ")[2])
    assert 1000 < amount <= 5000
    assert not any("time" in line for line in lines), "no policy looks at it"
    assert run("policy", "diff", BANK, lax, "--tools", TOOLS, "--allow-loosening").exit_code == 0


def test_a_tightening_passes(run: Run, lax: Path) -> None:
    done = run("policy", "diff", lax, BANK, "--tools", TOOLS, "--json")
    assert done.exit_code == 0
    document = json.loads(done.stdout)
    assert (document["equivalent"], document["loosens"]) == (False, False)


def test_the_time_is_shown_where_policies_look_at_it(run: Run, tmp_path: Path) -> None:
    night = BANK.read_text() + (
        f'forbid ({MOVES}) when {{ context.time < datetime("2026-01-01T00:00:00Z") }};'
    )
    done = run("policy", "diff", written(tmp_path, night), BANK, "--tools", TOOLS)
    (shown,) = [line for line in done.stdout.splitlines() if line.startswith("  time ")]
    assert shown.split()[1] < "2026-01-01", "this is the difference"


def test_the_same_in_other_words_is_said_to_be_so(run: Run, tmp_path: Path) -> None:
    words = BANK.read_text().replace("context.input.amount > 1000", "1000 < context.input.amount")
    done = run("policy", "diff", BANK, written(tmp_path, words), "--tools", TOOLS)
    assert (done.exit_code, done.stdout) == (0, "bank: the same decision for every request\n")


# -- misuse


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("check",), "FILES, or an --engine"),
        (("check", BANK), "--gateway NAME, --tools FILE or --engine NAME"),
        (("check", BANK, "--tools", TOOLS, "--gateway", "bank"), "Choose one"),
        (("check", BANK, "--gateway", "bank", "--auth", "iam"), "go with --tools"),
        (("diff", BANK, "--tools", TOOLS), "Name OLD and NEW"),
        (("diff", BANK, BANK, "--engine", "bank"), "Name NEW"),
        (("diff", BANK, BANK, "--tools", TOOLS, "--add"), "go with --engine"),
        (("diff", BANK, "--engine", "bank", "--add", "--policy", "a"), "Choose one"),
        (("try", "--engine", "bank"), "Name a FILE"),
        (("attach", "bank", "bank"), "--log-only or --enforce"),
        (("mode", "bank", "transfers"), "--active or --log-only"),
        (("explain",), "Name a DECISION, or a --gateway"),
        (("explain", "--gateway", "bank"), "Name a --tool"),
    ],
    ids=lambda each: " ".join(map(str, each))[:40] if isinstance(each, tuple) else "",
)
def test_a_command_that_makes_no_sense_is_refused_before_anything_is_asked(
    run: Run, answering: Answering, words: tuple[object, ...], why: str
) -> None:
    done = run("policy", *words)
    assert done.exit_code == 2, done.output
    assert why in done.stderr
    assert answering.seen == []


def test_a_file_that_is_not_there_is_said(run: Run, tmp_path: Path) -> None:
    done = run("policy", "check", tmp_path / "none.cedar", "--tools", TOOLS)
    assert (done.exit_code, "No such file" in done.stderr) == (1, True)
