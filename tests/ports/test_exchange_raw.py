"""A body that stands in a span as a text can be had from it again."""

import json

import pytest

from freehold.ports.content_capture import CONTENT_BYTES_MAX
from freehold.ports.exchanges import contents, raw_contents, recorded, recorded_bytes

EVENTS = "application/vnd.amazon.eventstream"


@pytest.mark.parametrize(
    ("raw", "content_type"),
    [
        (b'{"said": "gr\xc3\xbc\xc3\x9f dich"}', "application/json"),
        (b'data: {"choices": []}\n\ndata: [DONE]\n\n', "text/event-stream; charset=utf-8"),
        (b"plain words", EVENTS),
        (bytes(range(256)), EVENTS),
        (bytes(range(256)), "text/plain"),
        (b"a\0b", "text/plain"),
        (b"\xff{", "application/json"),
        (b"data:text/plain;base64,aGk=", "text/plain"),
        (b"data:;base64,", "no type, at all"),
        (b"", ""),
    ],
)
def test_it_is_the_same_again(raw: bytes, content_type: str) -> None:
    text, cut = recorded(raw, content_type)
    assert recorded_bytes(text) == raw
    assert not cut


def test_a_text_is_kept_as_it_is_and_the_rest_says_what_it_was() -> None:
    assert recorded(b"hello", "text/plain") == ("hello", False)
    assert recorded(b"\x00", "image/png; q=1") == ("data:image/png;base64,AA==", False)
    assert recorded(b"\x00", 'a,b "c') == ("data:application/octet-stream;base64,AA==", False)


def test_what_is_too_long_is_cut_between_characters_and_says_so() -> None:
    text, cut = recorded(b"a" + "ü".encode() * CONTENT_BYTES_MAX, "text/plain")
    assert cut
    assert set(text[1:]) == {"ü"}
    assert CONTENT_BYTES_MAX - 2 < len(text.encode()) <= CONTENT_BYTES_MAX


@pytest.mark.parametrize(("more", "cut"), [(0, False), (1, True)])
def test_what_is_encoded_is_cut_earlier_and_says_so(more: int, cut: bool) -> None:
    raw = b"\xff" * (CONTENT_BYTES_MAX * 3 // 4 + more)
    assert recorded(raw, EVENTS)[1] is cut
    assert raw_contents(b"", raw, EVENTS).get("freehold.exchange.truncated", False) is cut


def test_what_redaction_took_out_of_is_not_taken_for_the_whole() -> None:
    text, _ = recorded(b"\x00" * 99, EVENTS)
    with pytest.raises(ValueError):
        recorded_bytes(text[:60] + "[phone number]" + text[70:])


def test_a_call_is_told_with_the_type_of_its_answer() -> None:
    answer = json.dumps({"choices": []}).encode()
    told = contents("chat", b"{}", answer, "application/json; charset=utf-8")
    assert told["freehold.exchange.content_type"] == "application/json; charset=utf-8"
    assert "freehold.exchange.request_content_type" not in told
