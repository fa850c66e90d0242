"""Two texts side by side: what stands where, and what is told to differ."""

import random

import pytest

from freehold.kernel.side_by_side import (
    LINES_MAX,
    WORDS_MAX,
    Line,
    around_differences,
    side_by_side,
)


def column(lines: list[Line], side: str) -> list[str]:
    found = [getattr(line, side) for line in lines]
    return ["".join(piece.text for piece in pieces) for pieces in found if pieces is not None]


def differing(line: Line) -> tuple[list[str], list[str]]:
    sides = line.recorded or (), line.fork or ()
    one, other = ([piece.text for piece in pieces if piece.differs] for pieces in sides)
    return one, other


@pytest.mark.parametrize("seed", range(20))
def test_each_column_is_the_whole_text(seed: int) -> None:
    chance = random.Random(seed)
    sizes = chance.randint(0, 30), chance.randint(0, 30)
    texts = ["\n".join(chance.choices(["a b", "a c", "", "d  e!", "x"], k=n)) for n in sizes]
    lines = side_by_side(*texts)
    assert column(lines, "recorded") == texts[0].splitlines()
    assert column(lines, "fork") == texts[1].splitlines()
    for line in lines:
        assert line.same == (differing(line) == ([], []) and None not in (line.recorded, line.fork))


def test_within_a_line_only_the_words_that_differ_do() -> None:
    [first, second] = side_by_side("It costs 9 euros.\nGood.", "It costs 12 euros.\nGood.")
    assert differing(first) == (["9"], ["12"])
    assert second.same


def test_lines_that_have_little_in_common_differ_as_a_whole() -> None:
    [line] = side_by_side("the quick brown fox", "0123456789")
    assert differing(line) == (["the quick brown fox"], ["0123456789"])


def test_a_line_that_one_side_alone_has_stands_alone() -> None:
    lines = side_by_side("one\ntwo", "one\nand a half\ntwo")
    assert [line.recorded is None for line in lines] == [False, True, False]
    assert side_by_side("", "") == []
    assert [line.fork for line in side_by_side("gone", "")] == [None]


def test_what_is_too_much_to_look_through_is_paired_in_its_order() -> None:
    many = [f"line {at}" for at in range(LINES_MAX + 1)]
    lines = side_by_side("\n".join(many), "\n".join(reversed(many)))
    assert len(lines) == len(many)
    [line] = side_by_side("a " * WORDS_MAX, "b " * WORDS_MAX)
    assert differing(line) == (["a " * WORDS_MAX], ["b " * WORDS_MAX])


def test_only_what_stands_around_a_difference_is_shown() -> None:
    recorded = "\n".join(str(at) for at in range(20))
    found = around_differences(side_by_side(recorded, recorded.replace("\n9\n", "\nnine\n")))
    assert [each if isinstance(each, int) else "line" for each in found] == [7, *["line"] * 5, 8]
    assert around_differences(side_by_side("a\nb", "a\nb")) == [2]
