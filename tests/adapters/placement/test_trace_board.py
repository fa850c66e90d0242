"""Which trace a sandbox works for: seen by every process that has the file."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from freehold.adapters.placement.local import trace_board
from freehold.adapters.placement.local.trace_board import FileTraceBoard
from freehold.kernel.tracing import Context


def context(number: int) -> Context:
    return Context(f"{number:032x}", f"{number:016x}")


@pytest.fixture
def boards(tmp_path: Path) -> Iterator[tuple[FileTraceBoard, FileTraceBoard]]:
    one, other = FileTraceBoard(tmp_path / "board"), FileTraceBoard(tmp_path / "board")
    yield one, other
    one.close()
    other.close()


def test_what_one_worker_shows_another_reads(
    boards: tuple[FileTraceBoard, FileTraceBoard],
) -> None:
    one, other = boards
    assert other.read("sandbox") is None
    one.show("sandbox", context(1))
    assert other.read("sandbox") == context(1)
    assert other.read("another") is None


def test_the_last_invocation_stands_there_and_only_it_takes_itself_away(
    boards: tuple[FileTraceBoard, FileTraceBoard],
) -> None:
    one, other = boards
    one.show("sandbox", context(1))
    other.show("sandbox", context(2))
    one.clear("sandbox", context(1))
    assert one.read("sandbox") == context(2)
    one.clear("sandbox", context(2))
    assert other.read("sandbox") is None


def test_where_there_is_no_room_the_oldest_gives_way(
    boards: tuple[FileTraceBoard, FileTraceBoard], monkeypatch: pytest.MonkeyPatch
) -> None:
    board, _ = boards
    monkeypatch.setattr(trace_board, "_set_of", lambda key: 0)
    clock = iter(range(1, 100))
    monkeypatch.setattr(trace_board, "_now_ms", lambda: next(clock))
    for number in range(1, 6):
        board.show(f"sandbox-{number}", context(number))
    found = [board.read(f"sandbox-{number}") for number in range(1, 6)]
    assert found == [None, *(context(number) for number in range(2, 6))]


def test_what_is_half_written_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "board"
    board = FileTraceBoard(path)
    board.show("sandbox", context(7))
    raw = path.read_bytes()
    at = raw.index(bytes.fromhex(context(7).trace_id))
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xff" * 4)
    assert board.read("sandbox") is None
    board.show("sandbox", context(8))
    assert board.read("sandbox") == context(8)
    board.close()


def test_what_a_dead_worker_left_is_not_believed_for_ever(
    boards: tuple[FileTraceBoard, FileTraceBoard], monkeypatch: pytest.MonkeyPatch
) -> None:
    board, _ = boards
    board.show("sandbox", context(1))
    later = trace_board._now_ms() + 11 * 3600 * 1000
    monkeypatch.setattr(trace_board, "_now_ms", lambda: later)
    assert board.read("sandbox") is None
