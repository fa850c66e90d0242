"""The small set of conversations: floors that a change must not fall through, far below what is
measured (benchmarks/README.md), so that nobody tunes to them."""

import importlib.util
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest

from embedding_ground import weights_beside_python
from freehold.services.memory.index import fusion
from freehold.services.memory.index.queries import understand

BENCHMARK = Path(__file__).parents[4] / "benchmarks" / "recall.py"


@pytest.fixture(scope="module")
def recall() -> Iterator[ModuleType]:
    """The benchmark itself."""
    spec = importlib.util.spec_from_file_location("recall_benchmark", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_every_question_names_evidence_that_is_there(recall: ModuleType) -> None:
    parts = recall.conversations(recall.OWN)
    asked = [question for part in parts for question in part.questions]
    assert len(parts) == 6
    assert len(asked) == 146
    assert {question.category for question in asked} == set(recall.CATEGORIES)


async def test_words_with_neighbours_and_speakers_beat_the_words_of_turns(
    recall: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none(texts: object) -> dict[str, object]:
        return {}

    monkeypatch.setattr(recall, "vectors_of", none)
    asked, with_vectors = await recall.prepared(recall.conversations(recall.OWN), together=True)
    assert not with_vectors
    raw, platform = (measured(recall, row, asked) for row in ("_raw_words", "_ranked"))
    assert platform > raw + 5


@pytest.mark.parametrize(
    ("which", "question", "now", "turn"),
    [
        (0, "What happened to Owen on 11 June 2024?", None, "D4:11"),
        (0, "What happened to Owen last Tuesday?", "2024-06-17", "D4:11"),
        (1, "What did Jonas do on 17 May 2024?", None, "D5:9"),
        (2, "What did Tessa do on 4 October 2023?", None, "D2:9"),
        (3, "What happened on 30 June 2024?", None, "D4:11"),
        (4, "What happened in the week of 29 May 2023?", None, "D1:2"),
        (5, "What did Victor do yesterday?", "2023-07-30", "D3:10"),
        (2, "What will Kwame do in February 2025?", None, "D5:12"),
    ],
)
def test_a_day_that_nobody_named_finds_the_turn_that_spoke_of_it(
    recall: ModuleType, which: int, question: str, now: str | None, turn: str
) -> None:
    part = recall.conversations(recall.OWN)[which]
    corpus = recall.Corpus([part], {})
    today = None if now is None else datetime.fromisoformat(now).replace(tzinfo=UTC)
    query = understand(question, speakers=part.speakers, now=today)
    seen = corpus.seen(query)
    best, _ = fusion.ranked(query, seen.found, seen.statistics)[0]
    assert best == f"{which}/{turn}"


async def test_fusion_beats_the_words_of_turns_by_far_and_either_part_alone(
    recall: ModuleType,
) -> None:
    weights_beside_python()
    given = recall.conversations(recall.OWN)
    asked, _ = await recall.prepared(given, together=True, raw=False)
    raw, platform = (measured(recall, row, asked) for row in ("_raw_words", "_ranked"))
    assert platform > raw + 25
    words = recall.measured(recall.LEXICAL["BM25, +-2 neighbouring turns"], asked)[0][1]
    meaning = recall.WITH_VECTORS["MiniLM, speaker + caption, names rewritten"]
    assert platform > max(words, recall.measured(meaning, asked)[0][1]) + 5


def measured(recall: ModuleType, row: str, asked: object) -> float:
    """Recall at 10 over all questions."""
    shares: float = recall.measured(getattr(recall, row), asked)[0][1]
    return shares
