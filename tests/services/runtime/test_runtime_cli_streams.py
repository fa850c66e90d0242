"""`freehold exec` and `freehold shell`, as a person or a program runs them."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest

from running import Agent, RunningPlatform, new_session, until

pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]
SECONDS_MAX = 60
PROMPT = r"[$#] "


def words(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "freehold.cli", *arguments]


def surroundings(platform: RunningPlatform) -> dict[str, str]:
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("AWS_", "FREEHOLD_", "SSL_"))}
    return {**kept, "FREEHOLD_STATE": str(platform.state), "TERM": "xterm"}


def freehold(
    platform: RunningPlatform, *arguments: str, stdin: str = ""
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        words(*arguments), env=surroundings(platform), capture_output=True, text=True,
        timeout=SECONDS_MAX, input=stdin, check=False,
    )  # fmt: skip


# -- exec


def test_exec_streams_both_outputs_and_exits_as_the_command_does(plain: Agent) -> None:
    session = new_session()
    done = freehold(
        plain.platform, "exec", plain.id, "--session", session, "--",
        "echo out; echo err >&2; exit 9",
    )  # fmt: skip
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 9)


def test_exec_passes_several_words_on_as_they_are(plain: Agent) -> None:
    done = freehold(
        plain.platform, "exec", plain.id, "--", "printf", "[%s]", "a b", "$HOME", "*", "--json"
    )
    assert done.stdout == "[a b][$HOME][*][--json]"
    assert done.stderr.startswith("session: ")


def test_exec_has_json_for_programs(plain: Agent) -> None:
    session = new_session()
    done = freehold(
        plain.platform, "exec", plain.id, "--session", session, "--json", "--",
        "echo out; echo err >&2; exit 3",
    )  # fmt: skip
    assert json.loads(done.stdout) == {
        "sessionId": session, "exitCode": 3, "status": "COMPLETED",
        "stdout": "out\n", "stderr": "err\n",
    }  # fmt: skip
    assert (done.stderr, done.returncode) == ("", 3)


def test_exec_says_when_it_took_too_long(plain: Agent) -> None:
    done = freehold(plain.platform, "exec", plain.id, "--timeout", "1", "--", "sleep 30")
    assert done.returncode == 124
    assert "too long" in done.stderr


def test_exec_in_no_agent_is_an_error(plain: Agent) -> None:
    done = freehold(plain.platform, "exec", "nobody-here", "--", "true")
    assert done.returncode == 1
    assert done.stderr.startswith("Error:")


# -- shell, from a pipe


def test_what_is_piped_into_a_shell_is_typed_and_its_exit_code_is_ours(plain: Agent) -> None:
    done = freehold(plain.platform, "shell", plain.id, stdin="echo sum-$((6*7))\nexit 6\n")
    assert "sum-42" in done.stdout
    assert done.returncode == 6


def test_the_end_of_the_input_ends_the_shell(plain: Agent) -> None:
    done = freehold(plain.platform, "shell", plain.id, stdin="echo sum-$((6*7))\n")
    assert "sum-42" in done.stdout
    assert done.returncode == 0


# -- shell, on a terminal


class Terminal:
    """`freehold shell` on a pseudo-terminal."""

    def __init__(self, agent: Agent, *arguments: str) -> None:
        self.master, slave = pty.openpty()
        self.resize(30, 100)
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.process = subprocess.Popen(
            words("shell", agent.id, *arguments), env=surroundings(agent.platform),
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        )  # fmt: skip
        self.seen = ""

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(10)
        os.close(self.master)
        os.close(self.slave)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def until(self, pattern: str) -> "re.Match[str]":
        deadline = time.monotonic() + SECONDS_MAX
        while (found := re.search(pattern, self.seen)) is None:
            assert time.monotonic() < deadline, f"{pattern!r} is not in {self.seen!r}"
            if select.select([self.master], [], [], 1)[0]:
                self.seen += os.read(self.master, 65536).decode(errors="replace")
        self.seen = self.seen[found.end() :]
        return found

    def code(self) -> int:
        return self.process.wait(SECONDS_MAX)


def test_a_terminal_is_raw_has_our_size_and_follows_it(plain: Agent) -> None:
    with Terminal(plain) as terminal:
        terminal.until(PROMPT)
        terminal.type("stty size\n")
        terminal.until("30 100")
        terminal.resize(40, 120)
        terminal.process.send_signal(signal.SIGWINCH)
        terminal.type(
            "until test \"$(stty size)\" = '40 120'; do sleep 0.1; done; echo new-si''ze\n"
        )
        terminal.until("new-size")
        # Said by the program itself: before its exec, bash's fork could lose the signal.
        terminal.type("sh -c \"echo at''work; exec sleep 100\"\n")
        terminal.until("atwork")
        terminal.type("\x03")
        terminal.type("echo still-$((6*7)); exit 4\n")
        terminal.until("still-42")
        assert terminal.code() == 4
        assert termios.tcgetattr(terminal.slave) == terminal.before


def test_a_key_leaves_the_shell_running_and_the_hint_leads_back(plain: Agent) -> None:
    with Terminal(plain) as terminal:
        terminal.until(PROMPT)
        terminal.type("mark=kept; echo ready-$((6*7))\n")
        terminal.until("ready-42")
        terminal.type("\x1d")
        hint = terminal.until(r"--session (\S+) --shell (\S+)\s")
        assert terminal.code() == 0
    session, shell = hint.groups()
    done = freehold(
        plain.platform, "shell", plain.id, "--session", session, "--shell", shell,
        stdin="echo [$mark]\nexit\n",
    )  # fmt: skip
    assert "[kept]" in done.stdout


def test_a_connection_that_breaks_is_made_again(plain: Agent, platform: RunningPlatform) -> None:
    with Terminal(plain) as terminal:
        terminal.until(PROMPT)
        terminal.type("mark=kept; echo ready-$((6*7))\n")
        terminal.until("ready-42")
        (worker,) = platform.pids("api")
        os.kill(worker, signal.SIGKILL)
        until(lambda: platform.pids("api") not in ([], [worker]))
        terminal.until("ready-42")  # shown again
        terminal.type("echo [$mark]; exit\n")
        terminal.until(r"\[kept\]")
        assert terminal.code() == 0


def test_one_who_is_taken_over_is_told(plain: Agent) -> None:
    session = new_session()
    with Terminal(plain, "--session", session, "--shell", "one") as terminal:
        terminal.until(PROMPT)
        terminal.type("echo ready-$((6*7))\n")
        terminal.until("ready-42")
        freehold(
            plain.platform, "shell", plain.id, "--session", session, "--shell", "one",
            stdin="exit\n",
        )  # fmt: skip
        terminal.until("Another client")
        assert terminal.code() == 1


def test_a_shell_has_no_json(plain: Agent) -> None:
    done = freehold(plain.platform, "shell", plain.id, "--json")
    assert done.returncode == 2
    assert json.loads(done.stderr)["error"]["code"] == "Usage"
