"""The frames on a machine's line, which may be cut at any byte."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.adapters.sandbox.vm.guest import frames

CONTENT = st.binary(max_size=300) | st.lists(st.sampled_from([0x5D, 0x5E, 0x7D, 0x7E])).map(bytes)
FRAME = st.tuples(st.integers(0, 255), st.integers(0, 2**32 - 1), CONTENT)
AWKWARD = b"\x7d\x7e\x7d\x5e\x7d\x5d\x7e\x7e" * 3


def decoded(data: bytes, steps: list[int]) -> list[tuple[int, int, bytes]]:
    """Fed in pieces whose sizes are `steps`, over and over."""
    decoder = frames.Decoder()
    found: list[tuple[int, int, bytes]] = []
    sizes, rest = itertools.cycle(steps), data
    while rest:
        size = next(sizes)
        found += decoder.frames(rest[:size])
        rest = rest[size:]
    return found


@given(st.lists(FRAME, max_size=8), st.lists(st.integers(1, 500), min_size=1, max_size=5))
def test_what_is_sent_arrives_however_it_is_cut_into_pieces(
    sent: list[tuple[int, int, bytes]], steps: list[int]
) -> None:
    assert decoded(b"".join(frames.encoded(*each) for each in sent), steps) == sent


@given(st.data())
def test_a_frame_that_was_cut_off_is_dropped_and_the_next_is_whole(data: st.DataObject) -> None:
    cut = frames.encoded(*data.draw(FRAME)).removesuffix(frames.fresh_start())
    cut = cut[: data.draw(st.integers(0, len(cut) - 1))]
    line = cut + frames.fresh_start() + frames.encoded(1, 2, AWKWARD)
    assert decoded(line, [7]) == [(1, 2, AWKWARD)]


@given(st.binary(max_size=300))
def test_who_comes_in_the_middle_is_in_step_with_the_next_frame(before: bytes) -> None:
    line = before + frames.fresh_start() + frames.encoded(frames.HELLO, 0, b"{}")
    assert decoded(line, [13])[-1] == (frames.HELLO, 0, b"{}")


def test_a_frame_without_an_end_is_an_error_before_it_fills_the_memory() -> None:
    decoder = frames.Decoder()
    with pytest.raises(frames.LineFailed, match="too long"):
        for _ in range(1000):
            assert list(decoder.frames(bytes(100_000))) == []
