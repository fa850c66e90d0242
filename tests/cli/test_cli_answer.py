"""An agent's answer on the terminal, however its bytes are cut."""

import json
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.cli.answer import NotText, events, pieces, show_answer
from freehold.cli.failure import CliError

SSE = "text/event-stream; charset=utf-8"
Shown = Callable[[], str]


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Shown:
    return lambda: capsys.readouterr().out


def test_pieces_of_text_run_together(shown: Shown) -> None:
    show_answer(SSE, [b'data: "Good"\n\n', b'data: " morning"\n\n'])
    assert shown() == "Good morning\n"


def test_objects_have_a_line_each(shown: Shown) -> None:
    show_answer(SSE, [b'data: "Well"\n\ndata: {"tool": "add"}\n\ndata: [1]\n\ndata: "done\\n"\n\n'])
    assert shown() == 'Well\n{"tool": "add"}\n[1]\ndone\n'


def test_data_that_is_not_json_is_shown_as_it_is(shown: Shown) -> None:
    show_answer(SSE, [b"data: [DONE]\n\n"])
    assert shown() == "[DONE]\n"


def test_a_failure_in_mid_stream_is_an_error_after_what_came(shown: Shown) -> None:
    failure = json.dumps({"error": "boom", "error_type": "ValueError", "message": "m"})
    with pytest.raises(CliError, match="ValueError: boom") as caught:
        show_answer(SSE, [b'data: "Go"\n\n', f"data: {failure}\n\n".encode()])
    assert shown() == "Go\n"
    assert caught.value.code == "AgentFailed"
    with pytest.raises(CliError, match="boom"):
        pieces(SSE, [f"data: {failure}\n\n".encode()])


def test_json_is_shown_for_people(shown: Shown) -> None:
    show_answer("application/json", [b'{"a": ', '"é"}'.encode()])
    assert shown() == '{\n  "a": "é"\n}\n'
    show_answer("application/json", [b'"just text"'])
    assert shown() == "just text\n"


def test_text_is_shown_and_bytes_are_refused(shown: Shown) -> None:
    show_answer("text/plain", [b"one ", b"two"])
    assert shown() == "one two\n"
    with pytest.raises(NotText):
        show_answer("image/png", [b"\x89PNG\xff"])
    with pytest.raises(NotText):
        show_answer("text/plain", ["é".encode()[:1]])


def test_for_programs_a_stream_is_a_list_of_events() -> None:
    assert pieces(SSE, [b'data: "a"\n\ndata: {"b": 1}\n\n']) == {"events": ["a", {"b": 1}]}
    assert pieces("application/json", [b'{"a": 1}']) == {"response": {"a": 1}}


STREAM = (
    'data: "é…😀"\n\n: a comment\r\nid: 7\ndata: {"a":\ndata: 1}\r\n\r\n'
    "data\n\ndata:x\r\revent: end\ndata: last"
)
EXPECTED = ['"é…😀"', '{"a":\n1}', "", "x", "last"]


@given(st.lists(st.integers(0, len(STREAM.encode())), max_size=8))
def test_events_are_the_same_wherever_the_bytes_are_cut(cuts: list[int]) -> None:
    data = STREAM.encode()
    edges = [0, *sorted(cuts), len(data)]
    chunks = [data[a:b] for a, b in pairwise(edges)]
    assert list(events(chunks)) == EXPECTED


def test_events_come_before_the_stream_ends() -> None:
    def stream() -> object:
        yield b"data: 1\n\n"
        raise AssertionError("the first event waited for more")

    assert next(events(stream())) == "1"  # type: ignore[arg-type]
