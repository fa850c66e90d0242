"""What is learned from a batch of messages: candidates, and how they join what is there.

Nothing is written here. An outcome says what it rests on; who writes it checks that this still
holds, and has it made out anew where it does not. The model is asked twice at most, however often.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from freehold.services.memory import extraction_answers, extraction_metadata, prompts, strategies
from freehold.services.memory.consolidation import (
    NEAREST_MAX,
    Candidate,
    Consolidation,
    Plan,
    merged,
    normalised,
)
from freehold.services.memory.extraction_answers import (
    ITEMS_MAX,
    SUMMARY_CHARACTERS_MAX,
    TEXT_CHARACTERS_MAX,
    Item,
    Unreadable,
)
from freehold.services.memory.extraction_batch import (
    CONTEXT_MESSAGES_MAX,
    Batch,
    before,
    document,
)
from freehold.services.memory.extraction_model import Asking, ExtractionFailed, said_of
from freehold.services.memory.extraction_store import ExtractionStore, slot_of
from freehold.services.memory.model import Memory, Record, Source, Strategy, namespace_of
from freehold.services.memory.ports import Events, Records, Where

TOPICS_MAX = 20
_TOPICS_LOOKED_AT = 200


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """`versions` are those of its slots before it looked, `seen` the records that it saw."""

    plan: Plan
    versions: Mapping[int, int]
    seen: Mapping[str, Record]


class Learner:
    """Of one batch. `outcome` may be asked for again, when its ground has changed."""

    def __init__(
        self,
        *,
        memory: Memory,
        strategy: Strategy,
        batch: Batch,
        asking: Asking,
        events: Events,
        records: Records,
        store: ExtractionStore,
        now: Callable[[], datetime],
    ) -> None:
        self._memory, self._strategy, self._batch = memory, strategy, batch
        self._asking, self._events, self._records = asking, events, records
        self._store, self._now = store, now
        self._kind = strategies.learns_as(strategy)
        self._reflection = strategies.reflection(strategy)
        self._candidates: list[Candidate] | None = None
        self._answers: dict[bytes, str] = {}

    async def outcome(self) -> Outcome:
        """Raises ExtractionFailed."""
        try:
            namespace = self._namespace(self._strategy.namespaces)
            if self._kind == "SUMMARIZATION":
                return await self._summarized(namespace)
            if self._candidates is None:
                self._candidates = await self._extracted()
            return await self._consolidated(self._candidates, namespace)
        except Unreadable as error:
            raise ExtractionFailed(str(error), again=True) from None

    # -- steps

    async def _extracted(self) -> list[Candidate]:
        more, model = said_of(self._strategy, "extraction")
        asked = prompts.extraction(
            self._kind, await self._document(), items_max=ITEMS_MAX,
            characters_max=TEXT_CHARACTERS_MAX, metadata=self._metadata_lines(), more=more,
        )  # fmt: skip
        items = self._items(await self._asking.ask(asked, model=model))
        return merged([self._candidate(item) for item in items])

    async def _consolidated(self, candidates: Sequence[Candidate], namespace: str) -> Outcome:
        spaces = [namespace]
        if self._reflection is not None and candidates:
            spaces.append(self._namespace(self._reflection.namespaces))
        versions = await self._versions(spaces)
        joining = Consolidation(
            lambda each: self._record(each, namespace),
            extraction_metadata.strict_keys(self._strategy.schema),
        )
        seen: dict[str, Record] = {}
        open_: list[tuple[Candidate, list[Record]]] = []
        for candidate in candidates:
            near = list(await self._nearest(namespace, candidate.text))
            seen |= {record.id: record for record in near}
            joining.known(near)
            if not joining.duplicate(candidate, near):
                open_.append((candidate, near))
        labels = {id: f"r{n}" for n, id in enumerate(seen, 1)}
        if self._reflection is not None and open_:
            lessons = await self._reflected(open_, labels, seen, joining, spaces[1])
            return Outcome(plan=lessons, versions=versions, seen=seen)
        decisions = {}
        if len(open_) > 1 or any(near for _, near in open_):
            more, model = said_of(self._strategy, "consolidation")
            told = _choices(open_, labels, seen)
            answer = await self._once(prompts.consolidation(told, more=more), model)
            decisions = extraction_answers.decisions(answer, candidates=_names(open_))
        _decide(joining, open_, labels, decisions)
        return Outcome(plan=joining.plan(), versions=versions, seen=seen)

    async def _reflected(
        self,
        open_: Sequence[tuple[Candidate, list[Record]]],
        labels: Mapping[str, str],
        seen: dict[str, Record],
        joining: Consolidation,
        namespace: str,
    ) -> Plan:
        """Episodes are joined and lessons drawn in one question."""
        assert self._reflection is not None, "every episodic strategy has one"
        there: dict[str, Record] = {}
        for candidate, _ in open_:
            found = await self._nearest(namespace, candidate.text)
            there |= {record.id: record for record in found if record.id not in labels}
        there = dict(list(there.items())[:NEAREST_MAX])
        lesson_labels = {f"f{n}": id for n, id in enumerate(there, 1)}
        told = _choices(open_, labels, seen)
        told["reflections"] = [
            {"label": label, "text": there[id].text} for label, id in lesson_labels.items()
        ]
        more = [said_of(self._strategy, step) for step in ("consolidation", "reflection")]
        model = next((model for _, model in reversed(more) if model), "")
        answer = await self._once(
            prompts.reflection(
                told, metadata=extraction_metadata.lines(self._reflection.schema),
                more="\n\n".join(text for text, _ in more if text),
            ),
            model,
        )  # fmt: skip
        decisions = extraction_answers.decisions(answer, candidates=_names(open_))
        episodes = {label: seen[id].sources for id, label in labels.items()}
        episodes |= {f"c{n}": each.sources for n, (each, _) in enumerate(open_, 1)}
        drawn = extraction_answers.lessons(
            answer, episodes=episodes, schema=self._reflection.schema
        )
        _decide(joining, open_, labels, decisions)
        seen |= there
        return _joined(joining.plan(), self._lessons(drawn, episodes, lesson_labels, there,
                                                     namespace))  # fmt: skip

    def _lessons(
        self,
        found: Sequence[extraction_answers.Lesson],
        episodes: Mapping[str, tuple[Source, ...]],
        labels: Mapping[str, str],
        there: Mapping[str, Record],
        namespace: str,
    ) -> Plan:
        joining = Consolidation(lambda each: self._record(each, namespace), ())
        joining.known(list(there.values()))
        latest = max(line.event.at for line in self._batch.lines)
        for lesson in found:
            sources = tuple(dict.fromkeys(s for label in lesson.sources for s in episodes[label]))
            old = labels.get(lesson.over)
            candidate = Candidate(
                text=lesson.text, sources=sources, at=latest, metadata=lesson.metadata
            )
            if joining.duplicate(candidate, list(there.values())):
                continue
            decision = None
            if old is not None:
                # The words are the old ones' too: so are the sources.
                decision = extraction_answers.Decision(action="UPDATE")
                candidate = msgspec.structs.replace(
                    candidate, sources=tuple(dict.fromkeys((*there[old].sources, *sources)))
                )
            joining.decide(candidate, decision, old)
        return joining.plan()

    async def _summarized(self, namespace: str) -> Outcome:
        """Topics of the session are replaced in place."""
        versions = await self._versions([namespace])
        topics = await self._topics(namespace)
        labels = {f"r{n}": record for n, record in enumerate(topics, 1)}
        told = {
            **await self._document(),
            "topics": [{"label": label, "text": each.text} for label, each in labels.items()],
        }
        more, model = said_of(self._strategy, "consolidation")
        asked = prompts.summary(
            told, items_max=TOPICS_MAX, characters_max=SUMMARY_CHARACTERS_MAX,
            metadata=self._metadata_lines(), more=more,
        )  # fmt: skip
        by_name = {_topic(record.text): record for record in topics}
        puts: dict[str, Record] = {}
        for item in self._items(await self._once(asked, model)):
            old = labels.get(item.over) or by_name.get(_topic(item.text))
            new = self._record(self._candidate(item), namespace)
            if old is not None:
                new = _in_place(puts.get(old.id, old), new)
            elif len(by_name) >= TOPICS_MAX:
                continue
            by_name[_topic(new.text)] = puts[new.id] = new
        seen = {record.id: record for record in topics}
        return Outcome(plan=Plan(list(puts.values()), []), versions=versions, seen=seen)

    async def _topics(self, namespace: str) -> list[Record]:
        found: list[Record] = []
        looked = 0
        where = Where(namespace=namespace, strategy_id=self._strategy.id)
        place = self._batch.place
        async for record in self._records.every(self._memory, where):
            looked += 1
            if any((source.actor_id, source.session_id) == (place.actor_id, place.session_id)
                   for source in record.sources):  # fmt: skip
                found.append(record)
            if len(found) == TOPICS_MAX or looked == _TOPICS_LOOKED_AT:
                break
        return found

    # -- parts

    async def _document(self) -> dict[str, Any]:
        first = next(line.event for line in self._batch.lines)
        context = await before(self._events, first, CONTEXT_MESSAGES_MAX)
        return document(self._batch, context)

    async def _once(self, asked: Sequence[Any], model: str) -> str:
        """The same question has the same answer."""
        key = msgspec.json.encode([(each.role, each.text) for each in asked])
        if key not in self._answers:
            self._answers[key] = await self._asking.ask(asked, model=model)
        return self._answers[key]

    async def _nearest(self, namespace: str, text: str) -> Sequence[Record]:
        return await self._records.nearest(
            self._memory, namespace, self._strategy.id, text, NEAREST_MAX
        )

    async def _versions(self, namespaces: Sequence[str]) -> dict[int, int]:
        memory = self._memory
        slots = {slot_of(memory.tenant, memory.id, self._strategy.id, each) for each in namespaces}
        return await self._store.versions(sorted(slots))

    def _namespace(self, templates: Sequence[str]) -> str:
        place = self._batch.place
        values = {
            **self._batch.variables, "memoryStrategyId": place.strategy_id,
            "strategyId": place.strategy_id, "actorId": place.actor_id,
            "sessionId": place.session_id,
        }  # fmt: skip
        try:
            return namespace_of(templates[0], **values)
        except KeyError as error:
            raise ExtractionFailed(
                f"the namespace {templates[0]} needs {error.args[0]}, and these events do not say "
                "it (extractionConfig.namespaceVariables)", again=False,
            ) from None  # fmt: skip

    def _items(self, answer: str) -> list[Item]:
        return extraction_answers.items(
            answer, kind=self._kind, numbers=self._batch.numbers, schema=self._strategy.schema
        )

    def _metadata_lines(self) -> list[str]:
        return extraction_metadata.lines(self._strategy.schema)

    def _candidate(self, item: Item) -> Candidate:
        lines = [self._batch.line(number) for number in item.sources]
        strict = extraction_metadata.strict(
            self._strategy.schema, {line.event.id: line.event for line in lines}.values()
        )
        return Candidate(
            text=item.text, sources=tuple(line.source for line in lines),
            at=max(line.event.at for line in lines), strict=strict,
            metadata={**item.metadata, **strict},
            echo=all(line.message.role != "USER" for line in lines),
        )  # fmt: skip

    def _record(self, candidate: Candidate, namespace: str) -> Record:
        now = self._now()
        days = self._strategy.expiry_days
        return Record(
            tenant=self._memory.tenant, memory_id=self._memory.id, id=f"mem-{uuid.uuid4()}",
            namespaces=(namespace,), strategy_id=self._strategy.id, text=candidate.text,
            at=candidate.at, created_at=now, valid_from=candidate.at, metadata=candidate.metadata,
            expires_at=None if days is None else now + timedelta(days=days),
            sources=candidate.sources,
        )  # fmt: skip


def _choices(
    open_: Sequence[tuple[Candidate, list[Record]]],
    labels: Mapping[str, str],
    seen: Mapping[str, Record],
) -> dict[str, Any]:
    return {
        "candidates": [
            {
                "label": f"c{n}", "text": each.text, "at": _day(each.at),
                "near": [labels[record.id] for record in near],
            }
            for n, (each, near) in enumerate(open_, 1)
        ],
        "records": [
            {"label": label, "text": seen[id].text, "at": _day(seen[id].at)}
            for id, label in labels.items()
            if any(record.id == id for _, near in open_ for record in near)
        ],
    }  # fmt: skip


def _day(at: datetime) -> str:
    return at.isoformat(timespec="minutes")


def _names(open_: Sequence[Any]) -> list[str]:
    return [f"c{n}" for n in range(1, len(open_) + 1)]


def _decide(
    joining: Consolidation,
    open_: Sequence[tuple[Candidate, list[Record]]],
    labels: Mapping[str, str],
    decisions: Mapping[str, extraction_answers.Decision],
) -> None:
    """A label stands for a record near the candidate, or what an earlier candidate became; any
    other stands for nothing."""
    became: dict[str, str] = {}
    for n, (candidate, near) in enumerate(open_, 1):
        decision = decisions.get(f"c{n}")
        known = {labels[record.id]: record.id for record in near} | became
        over = known.get(decision.over) if decision is not None else None
        became[f"c{n}"] = joining.decide(candidate, decision, over)


def _joined(first: Plan, second: Plan) -> Plan:
    return Plan([*first.puts, *second.puts], [*first.supersessions, *second.supersessions])


def _topic(text: str) -> str:
    return normalised(text.partition(">")[0])


def _in_place(old: Record, new: Record) -> Record:
    return msgspec.structs.replace(
        new, id=old.id, created_at=old.created_at, valid_from=old.valid_from,
        at=max(old.at, new.at), metadata={**old.metadata, **new.metadata},
        sources=tuple(dict.fromkeys((*old.sources, *new.sources))),
    )  # fmt: skip
