"""How often a search finds the turns that hold the answer, and what each part of it adds.

    .venv/bin/python benchmarks/recall.py [conversations.json] [--together] [--store]

Takes conversations in LoCoMo's file format; without a path the small set of the tests, which is our
own. Nobody judges anything: a question names its evidence, and recall@k is the share of it among
the first k turns, averaged over questions. The rows use the functions that the platform searches
with, over all turns of a conversation in memory; the last row is what the platform does. --together
puts all conversations in one namespace, --store asks the index on an embedded PostgreSQL as well.
The local model must be there for rows with vectors: `freehold embeddings fetch --beside-python`.
"""

import argparse
import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from freehold.adapters.embeddings.local import LocalEmbeddings
from freehold.adapters.embeddings.weights import Weights, beside_python
from freehold.ports.embeddings import EmbeddingsUnavailable
from freehold.services.memory.index import analysis, fusion, queries, views
from freehold.services.memory.index.queries import Query
from freehold.services.memory.index.views import Found, Scores, Statistics
from freehold.services.memory.ports import Unit

OWN = Path(__file__).parent.parent / "tests/services/memory/index/conversations.json"
CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}
DEPTHS = (5, 10, 20)
RRF_K = 60
Ranking = dict[str, float]


class Question(NamedTuple):
    text: str
    evidence: frozenset[str]
    category: int


class Conversation(NamedTuple):
    units: list[Unit]
    bare: list[str]
    """The turns without what is shown on a picture."""
    speakers: tuple[str, ...]
    questions: list[Question]


def conversations(path: Path) -> list[Conversation]:
    return [
        _conversation(sample, str(at)) for at, sample in enumerate(json.loads(path.read_text()))
    ]


def _conversation(sample: Mapping[str, Any], name: str) -> Conversation:
    said = sample["conversation"]
    units: list[Unit] = []
    bare: list[str] = []
    for number in sorted(int(m[1]) for m in map(re.compile(r"session_(\d+)$").match, said) if m):
        at = datetime.strptime(said[f"session_{number}_date_time"], "%I:%M %p on %d %B, %Y")
        for place, turn in enumerate(said[f"session_{number}"] or ()):
            caption = turn.get("blip_caption")
            bare.append(turn["text"])
            units.append(
                Unit(
                    id=f"{name}/{turn['dia_id']}",
                    namespaces=(f"/{name}/",),
                    strategy_id="turns",
                    text=f"{turn['text']} [{caption}]" if caption else turn["text"],
                    at=at.replace(tzinfo=timezone.utc),  # noqa: UP017 - as everywhere here
                    speaker=turn["speaker"],
                    group=f"{name}/{number}",
                    order=f"{place:06}",
                )
            )
    ids = {unit.id for unit in units}
    asked = []
    for item in sample["qa"]:
        # Some of LoCoMo's name two in one string, or write 05 for 5.
        named = re.findall(r"D:?(\d+):(\d+)", " ".join(item.get("evidence") or ()))
        evidence = frozenset(f"{name}/D{int(s)}:{int(t)}" for s, t in named) & ids
        if evidence:
            asked.append(Question(str(item["question"]), evidence, int(item["category"])))
    return Conversation(units, bare, (said["speaker_a"], said["speaker_b"]), asked)


class Corpus:
    """The turns of one namespace. `full` is as the platform indexes them, `raw` the words alone."""

    def __init__(self, parts: Sequence[Conversation], vectors: dict[str, Any]) -> None:
        self.units = [unit for part in parts for unit in part.units]
        self.path = parts[0].units[0].namespaces[0] if len(parts) == 1 else "/"
        self.speakers = sorted({unit.speaker for unit in self.units})
        bare = [text for part in parts for text in part.bare]
        self._raw = [Counter(analysis.terms(text)) for text in bare]
        self._full = [Counter(analysis.unit_terms(unit)) for unit in self.units]
        self.vectors = vectors
        self._matrices = {}
        if vectors:
            embedded = [analysis.embedded_text(unit.speaker, unit.text) for unit in self.units]
            for name, texts in (("raw", bare), ("full", embedded)):
                if vectors.keys() >= set(texts):
                    self._matrices[name] = np.array([vectors[text] for text in texts])

    def seen(self, query: Query, *, terms: str = "full", vectors: str = "full") -> "Seen":
        counted = self._full if terms == "full" else self._raw
        cosines: list[float] | list[None] = [None] * len(self.units)
        if vectors in self._matrices:
            asked = query.vector_texts[0] if vectors == "full" else query.text
            cosines = (self._matrices[vectors] @ self.vectors[asked]).tolist()
        found = [
            Found(
                id=unit.id,
                length=counts.total(),
                counts={term: counts[term] for term in query.terms if term in counts},
                cosine=cosine,
                speaker=unit.speaker,
                group=unit.group,
                place=int(unit.order),
            )
            for unit, counts, cosine in zip(self.units, counted, cosines, strict=True)
        ]
        statistics = Statistics(
            units=len(counted),
            terms=sum(counts.total() for counts in counted),
            having={term: sum(term in f.counts for f in found) for term in query.terms},
        )
        return Seen(found, statistics, views.scores(query, found, statistics))


class Seen(NamedTuple):
    found: list[Found]
    statistics: Statistics
    scores: Scores


def reciprocal(scores: Sequence[Mapping[str, float]]) -> Ranking:
    """Reciprocal-rank fusion."""
    total: Counter[str] = Counter()
    for view in scores:
        for rank, id in enumerate(sorted(view, key=lambda id: (-view[id], id)), 1):
            total[id] += 1 / (RRF_K + rank)  # type: ignore[assignment]
    return dict(total)


def plain(text: str) -> Query:
    """A query of which nothing is understood but its words."""
    return Query(text=text, terms=tuple(dict.fromkeys(analysis.terms(text))), vector_texts=(text,))


Row = Callable[[Corpus, Query], Mapping[str, float]]


def _view(name: str, **of: str) -> Row:
    return lambda corpus, query: corpus.seen(query, **of).scores[name]


def _as_asked(corpus: Corpus, query: Query) -> Mapping[str, float]:
    seen = corpus.seen(plain(query.text), terms="raw", vectors="raw").scores
    return reciprocal([seen["words"], seen["meaning"]])


def _five(corpus: Corpus, query: Query) -> Mapping[str, float]:
    return reciprocal(list(corpus.seen(query).scores.values()))


def _fused(corpus: Corpus, query: Query) -> Mapping[str, float]:
    return fusion.fused(corpus.seen(query).scores)


def _ranked(corpus: Corpus, query: Query) -> Mapping[str, float]:
    seen = corpus.seen(query)
    return dict(fusion.ranked(query, seen.found, seen.statistics))


def _raw_words(corpus: Corpus, query: Query) -> Mapping[str, float]:
    return corpus.seen(plain(query.text), terms="raw", vectors="").scores["words"]


LEXICAL: dict[str, Row] = {
    "BM25, raw turn": _raw_words,
    "BM25, speaker + caption + date": _view("words"),
    "BM25, +-2 neighbouring turns": _view("words±2"),
}
WITH_VECTORS: dict[str, Row] = {
    "MiniLM, raw turn, question as asked": _view("meaning", vectors="raw"),
    "MiniLM, speaker + caption, names rewritten": _view("meaning"),
    "RRF of BM25 and MiniLM, as asked": _as_asked,
    "RRF of five views": _five,
    "weighted fusion of five views": _fused,
    "the same + speaker boost (the platform)": _ranked,
}
WITHOUT_VECTORS: dict[str, Row] = {"fusion of words + speaker boost (the platform)": _ranked}


async def vectors_of(texts: Sequence[str]) -> dict[str, Any]:
    """One by one: in int8 a vector differs a little with the texts that share its run."""
    embeddings = LocalEmbeddings(Weights([beside_python()]))
    try:
        return {text: (await embeddings.embed([text]))[0] for text in dict.fromkeys(texts)}
    except EmbeddingsUnavailable as missing:
        print(f"words alone: {missing}\n")
        return {}
    finally:
        await embeddings.close()


def recall(ranking: Mapping[str, float], evidence: frozenset[str]) -> list[float]:
    best = sorted(ranking, key=lambda id: (-ranking[id], id))[: max(DEPTHS)]
    return [len(evidence.intersection(best[:depth])) / len(evidence) for depth in DEPTHS]


class Asked(NamedTuple):
    corpus: Corpus
    query: Query
    question: Question


async def prepared(
    given: Sequence[Conversation], *, together: bool, raw: bool = True
) -> tuple[list[Asked], bool]:
    """Every question with the namespace it is asked of; whether there are vectors. `raw`: also of
    bare turns and of questions as asked."""
    understood = [
        [(queries.understand(q.text, speakers=part.speakers), q) for q in part.questions]
        for part in given
    ]
    texts = [text for part in given for text in part.bare if raw]
    texts += [analysis.embedded_text(u.speaker, u.text) for part in given for u in part.units]
    for query, _ in (pair for some in understood for pair in some):
        texts += [*query.vector_texts, *([query.text] if raw else [])]
    vectors = await vectors_of(texts)
    whole = [Corpus(given, vectors)] * len(given) if together else None
    corpora = whole or [Corpus([part], vectors) for part in given]
    asked = [
        Asked(corpus, query, question)
        for corpus, some in zip(corpora, understood, strict=True)
        for query, question in some
    ]
    return asked, bool(vectors)


def measured(row: Row, asked: Sequence[Asked]) -> dict[int, list[float]]:
    """Per category, 0 being all: recall at each depth, in percent."""
    found: dict[int, list[list[float]]] = {}
    for corpus, query, question in asked:
        shares = recall(row(corpus, query), question.evidence)
        for category in (0, question.category):
            found.setdefault(category, []).append(shares)
    return {
        category: [100 * sum(column) / len(some) for column in zip(*some, strict=True)]
        for category, some in found.items()
    }


def table(results: Mapping[str, Mapping[int, Sequence[float]]]) -> str:
    known = [c for c in CATEGORIES if any(c in result for result in results.values())]
    head = ["method", *(f"R@{d}" for d in DEPTHS), *(f"{CATEGORIES[c]} R@10" for c in known)]
    lines = [head, ["---"] * len(head)]
    for name, result in results.items():
        cells = [*result[0], *(result[c][1] for c in known)]
        lines.append([name, *(f"{cell:.1f}" for cell in cells)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", nargs="?", type=Path, default=OWN)
    parser.add_argument("--together", action="store_true")
    parser.add_argument("--store", action="store_true")
    options = parser.parse_args()
    given = conversations(options.path)
    asked, with_vectors = await prepared(given, together=options.together)
    turns = [len(part.units) for part in given]
    print(
        f"{len(asked)} questions, {len(given)} conversations of {min(turns)}-{max(turns)} turns\n"
    )
    rows = {**LEXICAL, **(WITH_VECTORS if with_vectors else WITHOUT_VECTORS)}
    print(table({name: measured(row, asked) for name, row in rows.items()}))
    if options.store:
        await _store(given, asked)


async def _store(given: Sequence[Conversation], asked: Sequence[Asked]) -> None:
    from recall_store import of_store  # deferred: it starts a database

    answers = await of_store(given, asked)
    by_question = {
        (id(one.corpus), one.query.text): {hit.id: hit.score for hit in hits}
        for one, hits in zip(asked, answers.hits, strict=True)
    }
    found = measured(lambda corpus, query: by_question[id(corpus), query.text], asked)
    print("\n" + table({"the index on PostgreSQL": found}))
    print(f"\n{len(asked) - len(answers.differing)} of {len(asked)} rankings are the same")
    for text in answers.differing:
        print(f"  differs: {text}")


if __name__ == "__main__":
    asyncio.run(main())
