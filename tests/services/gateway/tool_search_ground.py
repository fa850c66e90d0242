"""The labelled set: tools, requests, and which tools answer a request."""

import hashlib
from pathlib import Path

import msgspec

from freehold.services.gateway.search_text import SearchText

_SET = Path(__file__).with_name("tool_search_set.txt")


class Request(msgspec.Struct, frozen=True):
    text: str
    answers: frozenset[str]
    terse: bool
    """As an agent searches; else as a person asks."""

    @property
    def held_out(self) -> bool:
        """Weights and texts were chosen by the other half, and by nothing else."""
        return hashlib.sha256(self.text.encode()).digest()[-1] % 2 == 1


class Quality(msgspec.Struct, frozen=True):
    hit1: float
    hit5: float
    mrr: float

    def __str__(self) -> str:
        return f"hit@1 {self.hit1:.3f}  hit@5 {self.hit5:.3f}  MRR {self.mrr:.3f}"


def labelled_set() -> tuple[list[SearchText], list[Request]]:
    tools: list[SearchText] = []
    requests: list[Request] = []
    for line in _SET.read_text().splitlines():
        if line.startswith("#") or not line:
            continue
        if not line.startswith(("? ", "! ")):
            tools.append(_tool(line))
            continue
        text, _, others = line[2:].removesuffix(")").partition(" (also: ")
        also = {name.strip() for name in others.split(",") if name.strip()}
        requests.append(Request(text, frozenset({tools[-1].key, *also}), line[0] == "!"))
    assert {name for request in requests for name in request.answers} <= {t.key for t in tools}
    return tools, requests


def _tool(line: str) -> SearchText:
    name, description, parameters = (part.strip() for part in line.split("|"))
    pairs = (pair.partition(":") for pair in parameters.split(";") if pair)
    properties = {
        pair[0].strip(): {"type": "string", "description": pair[2].strip()} for pair in pairs
    }
    schema = {"type": "object", "properties": properties}
    return SearchText(key=name, name=name, description=description, schema=schema)


def quality(found: list[list[str]], requests: list[Request]) -> Quality:
    """`found` are the keys for each request, best first."""
    ranks = [
        next((at for at, key in enumerate(keys, 1) if key in request.answers), 0)
        for keys, request in zip(found, requests, strict=True)
    ]
    count = len(ranks)
    return Quality(
        sum(rank == 1 for rank in ranks) / count,
        sum(0 < rank <= 5 for rank in ranks) / count,
        sum(1 / rank for rank in ranks if rank) / count,
    )
