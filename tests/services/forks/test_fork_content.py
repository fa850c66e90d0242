"""The texts of a step as its span has them."""

import pytest
from recorded_spans import Told

from freehold.ports.exchanges.raw import recorded
from freehold.services.forks.content import REQUEST, RESPONSE, Said, request_digest, said
from freehold.services.forks.digests import digests_of

FRAMES = bytes(range(256))
STREAM = 'data: {"choices": []}\n\ndata: [DONE]\n\n'


def told(request: str = "", response: str = "", **more: object) -> Told:
    session = Told()
    said = {REQUEST: request, RESPONSE: response, "freehold.exchange.content_type": None}
    session.model(attributes={**said, **more})
    return session


@pytest.mark.parametrize(
    ("text", "body", "kind"),
    [
        ('{"a": 1}', b'{"a": 1}', "application/json"),
        (STREAM, STREAM.encode(), "text/event-stream"),
        ("data:,no base64", b"data:,no base64", "text/event-stream"),
    ],
)
def test_a_record_that_does_not_say_its_type_is_looked_at(
    text: str, body: bytes, kind: str
) -> None:
    assert said(told(response=text).spans[0], RESPONSE) == Said(body, kind)


def test_a_binary_stream_comes_back_byte_by_byte() -> None:
    kind = "application/vnd.amazon.eventstream"
    text, _ = recorded(FRAMES, kind)
    [span] = told(response=text, **{"freehold.exchange.content_type": kind}).spans
    assert said(span, RESPONSE) == Said(FRAMES, kind)


def test_bytes_that_redaction_went_into_are_none() -> None:
    [span] = told(response="data:application/octet-stream;base64,AA[token]").spans
    assert said(span, RESPONSE) is None


def test_which_of_the_two_was_cut_is_told_by_its_length() -> None:
    long = "x" * (256 << 10)
    mark = {"freehold.exchange.truncated": True}
    for request, response, cut in ((long, "{}", (True, False)), ("{}", long, (False, True))):
        [span] = told(request, response, **mark).spans
        of_both = [said(span, name) for name in (REQUEST, RESPONSE)]
        assert tuple(each.cut for each in of_both if each) == cut
    # Of neither it can be told: no answer is taken for whole.
    [span] = told("{}", "{}", **mark).spans
    found = said(span, RESPONSE)
    assert found is not None
    assert found.cut


@pytest.mark.parametrize("size", [10, 300 << 10])
def test_the_same_request_is_known_again_by_its_record(size: int) -> None:
    asked = b'{"text": "' + "ö".encode() * size + b'"}'
    text, cut = recorded(asked, "application/json")
    [span] = told(text, "{}", **({"freehold.exchange.truncated": True} if cut else {})).spans
    assert request_digest(span) in digests_of(asked)
    assert request_digest(span) not in digests_of(asked.replace(b"text", b"next"))
