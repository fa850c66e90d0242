"""Which call of the record a call of a fork is."""

import json

import pytest

from freehold.services.forks.digests import digest_of, digest_of_arguments, digests_of
from freehold.services.forks.matching import Found, find
from freehold.services.forks.model import CallRow, Place


def lane(*calls: tuple[str, Place] | tuple[str, Place, bool]) -> list[CallRow]:
    """(digest, place, taken)."""
    return [
        CallRow(
            turn=1, position=number, lane="model chat", digest=call[0], place=call[1],
            taken=call[2] if len(call) > 2 else False,
        )
        for number, call in enumerate(calls, 1)
    ]  # fmt: skip


def found(calls: list[CallRow], *digests: str, reached: bool = False) -> tuple[str, int, bool]:
    """What it is, the position of the call that it is, and whether it asked something else."""
    result: Found = find(calls, digests, reached=reached)
    return result.what, result.call.position if result.call else 0, result.differs


def test_the_same_request_is_answered_by_its_own_answer_whatever_the_order() -> None:
    assert found(lane(("a", "before"), ("b", "before")), "b") == ("recorded", 2, False)


def test_another_request_takes_the_next_answer_and_is_told_apart() -> None:
    calls = lane(("a", "before", True), ("b", "before"), ("c", "before"))
    assert found(calls, "x") == ("recorded", 2, True)


def test_the_same_request_again_takes_the_next_of_its_kind() -> None:
    calls = lane(("a", "before", True), ("a", "before"))
    assert found(calls, "a") == ("recorded", 2, False)


@pytest.mark.parametrize("digest", ["s", "anything"])
def test_the_step_is_known_by_what_it_asks_or_by_its_turn(digest: str) -> None:
    what, position, _ = found(lane(("a", "before", True), ("s", "step")), digest)
    assert (what, position) == ("step", 2)


def test_what_was_never_asked_goes_nowhere_before_the_step() -> None:
    assert found([], "x") == ("unknown", 0, False)
    assert found(lane(("a", "before", True)), "x") == ("unknown", 0, False)
    # Nor in the name of a call that came after the step.
    assert found(lane(("z", "after")), "x") == ("unknown", 0, False)


def test_a_call_beside_the_step_that_began_after_it_is_made() -> None:
    assert found(lane(("a", "before"), ("z", "after")), "z") == ("live", 2, False)


def test_from_the_step_on_all_is_made_but_what_was_asked_before_it() -> None:
    calls = lane(("a", "before"), ("s", "step", True))
    assert found(calls, "x", reached=True) == ("live", 0, False)
    assert found(calls, "a", reached=True) == ("recorded", 1, False)


def test_requests_are_the_same_however_their_json_is_written() -> None:
    one = b'{"a": 1, "b": [1, {"c": null}]}'
    assert digest_of(one) == digest_of(b'{"b":[1,{"c":null}],"a":1}')
    assert digest_of(one) != digest_of(b'{"b":[{"c":null},1],"a":1}')
    assert digest_of(b"no json") != digest_of(b"no json ")


def test_no_arguments_are_an_empty_object() -> None:
    assert digest_of_arguments(None) == digest_of_arguments({})
    assert digest_of_arguments({"a": 1}) != digest_of_arguments({})


def test_a_request_that_was_recorded_without_its_end_is_known_by_its_beginning() -> None:
    long = json.dumps({"text": "ä" * (200 << 10)}, ensure_ascii=False).encode()
    assert len(digests_of(long)) == 2
    assert digests_of(long) != digests_of(long.replace(b"{", b"[", 1))
    assert len(digests_of(long[: 256 << 10])) == 1
