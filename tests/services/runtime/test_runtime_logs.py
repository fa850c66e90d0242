"""What agents write can be read: of one session or all, the end of it, and as it comes."""

import pytest

import agents
from running import Agent, RunningPlatform, new_session, until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def talker(platform: RunningPlatform) -> Agent:
    return platform.deploy(agents.plain())


def say(agent: Agent, session: str, *texts: str) -> None:
    for text in texts:
        agent.invoke({"do": "say", "text": text}, session)


def test_both_streams_of_output_are_kept_with_their_time(talker: Agent) -> None:
    session = new_session()
    say(talker, session, "one")
    talker.invoke({"do": "say_error", "text": "two"}, session)
    until(lambda: "two" in talker.log(session))
    lines = talker.platform.lines(f"/runtimes/{talker.id}/logs", sessionId=session)
    assert [line["line"] for line in lines] == ["the agent is up", "one", "two"]
    assert {line["source"] for line in lines} == {session}
    times = [line["time"] for line in lines]
    assert times == sorted(times)
    assert all(time.endswith("Z") for time in times)


def test_the_end_of_a_log_is_read_also_after_the_session(talker: Agent) -> None:
    session = new_session()
    say(talker, session, *(f"line {n}" for n in range(5)))
    talker.stop(session)
    assert talker.log(session, tail=3) == [
        "line 3", "line 4", "[freehold] session ends: StopRuntimeSession was called",
    ]  # fmt: skip
    assert talker.log(session, tail=0) == []
    assert len(talker.log(session)) == 7


def test_without_a_session_every_one_is_read_oldest_first(talker: Agent) -> None:
    one, other = new_session(), new_session()
    say(talker, one, "from one")
    talker.stop(one)
    say(talker, other, "from other")
    until(lambda: "from other" in talker.log())
    sources = [line["source"] for line in talker.platform.lines(f"/runtimes/{talker.id}/logs")]
    assert list(dict.fromkeys(sources)) == [one, other]


def test_a_session_is_followed_to_its_end(talker: Agent) -> None:
    session = new_session()
    say(talker, session, "before")
    until(lambda: "before" in talker.log(session))
    path = f"/runtimes/{talker.id}/logs"
    with talker.platform.following(path, sessionId=session, follow="true", tail=1) as lines:
        assert next(lines)["line"] == "before"
        say(talker, session, "now")
        assert next(lines)["line"] == "now"
        talker.stop(session)
        assert "session ends" in next(lines)["line"]
        assert list(lines) == []


def test_all_sessions_are_followed_those_that_start_later_too(talker: Agent) -> None:
    ended, one, other, late = (new_session() for _ in range(4))
    say(talker, ended, "long ago")
    talker.stop(ended)
    say(talker, one, "from one")
    say(talker, other, "from other")
    until(lambda: {"from one", "from other"} <= set(talker.log()))
    path = f"/runtimes/{talker.id}/logs"
    with talker.platform.following(path, follow="true") as lines:

        def read(*wanted: tuple[str, str]) -> None:
            """Until each of these lines has come from its session."""
            missing = set(wanted)
            while missing:
                line = next(lines)
                missing.discard((line["source"], line["line"]))

        read((ended, "long ago"))
        read((one, "from one"), (other, "from other"))
        say(talker, one, "more of one")
        read((one, "more of one"))
        say(talker, late, "newly come")
        read((late, "the agent is up"), (late, "newly come"))
        say(talker, other, "more of other")
        read((other, "more of other"))
        talker.stop(one)
        read((one, "[freehold] session ends: StopRuntimeSession was called"))
        say(talker, late, "still there")
        read((late, "still there"))


def test_an_agent_without_sessions_is_followed_until_one_comes(talker: Agent) -> None:
    session = new_session()
    with talker.platform.following(f"/runtimes/{talker.id}/logs", follow="true") as lines:
        say(talker, session, "first")
        assert next(lines)["line"] == "the agent is up"
        assert next(lines) | {"time": ""} == {"time": "", "source": session, "line": "first"}


def test_another_agents_lines_are_not_among_them(talker: Agent, plain: Agent) -> None:
    session, elsewhere = new_session(), new_session()
    with talker.platform.following(f"/runtimes/{talker.id}/logs", follow="true") as lines:
        say(plain, elsewhere, "not for you")
        say(talker, session, "for you")
        assert [next(lines)["line"], next(lines)["line"]] == ["the agent is up", "for you"]
    plain.stop(elsewhere)


def test_a_log_of_nothing(talker: Agent) -> None:
    assert talker.log() == []
    platform = talker.platform
    for path, query in (
        (f"/runtimes/{talker.id}/logs", {"sessionId": new_session()}),
        ("/runtimes/nobody-AAAAAAAAAA/logs", {}),
        ("/runtimes/nobody-AAAAAAAAAA/logs", {"build": "true"}),
        ("/runtimes/nobody-AAAAAAAAAA/logs", {"follow": "true"}),
    ):
        with platform.open("GET", path, **query) as answer:
            assert answer.status == 404, path


def test_the_log_of_the_newest_build(talker: Agent) -> None:
    path = f"/runtimes/{talker.id}/logs"
    lines = talker.platform.lines(path, build="true")
    assert {line["source"] for line in lines} == {"build"}
    assert lines[-1]["line"].endswith("done")
    assert talker.platform.lines(path, build="true", tail=1) == lines[-1:]
    assert talker.platform.lines(path, build="true", tail=0) == []


def test_a_long_line_and_bytes_that_are_no_text_do_no_harm(talker: Agent) -> None:
    session = new_session()
    say(talker, session, "x" * 50_000, "\ufffd\u2028 after")
    until(lambda: any("after" in line for line in talker.log(session)))
    assert max(len(line) for line in talker.log(session)) <= 16384
