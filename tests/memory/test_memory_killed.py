"""kill -9 while things are said and learned: what was acknowledged is there, and learned once."""

import contextlib
import threading
import uuid
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from learning_ground import AT_ONCE, SEMANTIC, START, Talks, connections, learning_platform
from learning_model import LearningModel

from fault_ground import FaultyPlatform
from running import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

EVERYTHING = ("up", "node", "api", "postgres")
SPEAKERS = 3
SMALL_TALK = ["hm"] * 3
"""So much with each fact that no batch has more facts than an answer may."""


class Speaker(threading.Thread):
    """Says one thing after the other, whatever happens, until told to stop. `acknowledged` are the
    facts that were taken, by the event's id."""

    def __init__(self, talks: Talks, client: Any, number: int) -> None:
        super().__init__(daemon=True)
        self.acknowledged: dict[str, str] = {}
        self.session = f"speaker{number}"
        self._talks, self._client, self._enough = talks, client, threading.Event()

    def run(self) -> None:
        count = 0
        while not self._enough.is_set():
            count += 1
            fact = f"{self.session}-{count} is said"
            with contextlib.suppress(ClientError, BotoCoreError):
                event = self._client.create_event(
                    memoryId=self._talks.id, actorId="anna", sessionId=self.session,
                    eventTimestamp=START, clientToken=f"{self._talks.id}/{fact}",
                    payload=[
                        {"conversational": {"role": "USER", "content": {"text": text}}}
                        for text in (fact, *SMALL_TALK)
                    ],
                )["event"]  # fmt: skip
                self.acknowledged[event["eventId"]] = fact

    def stop(self) -> None:
        self._enough.set()
        self.join(60)
        assert not self.is_alive()


def listed(talks: Talks, session: str) -> set[str]:
    pages = talks.data.get_paginator("list_events").paginate(
        memoryId=talks.id, actorId="anna", sessionId=session, includePayloads=False
    )
    return {event["eventId"] for page in pages for event in page["events"]}


def test_what_was_acknowledged_is_there_and_learned_once_whatever_died(
    learning: FaultyPlatform, learning_model: LearningModel
) -> None:
    """Under load first the workers are killed; then everything, while a model is being asked. What
    comes up first has no model, then one that has goes on where it was."""
    talks, other = (Talks(learning, SEMANTIC, tags={"freehold:turns": "on"}) for _ in range(2))
    speakers = [
        Speaker(talks, client, n) for n, client in enumerate(connections(learning, SPEAKERS))
    ]

    def acknowledged() -> int:
        return sum(len(speaker.acknowledged) for speaker in speakers)

    for speaker in speakers:
        speaker.start()
    until(lambda: acknowledged() > 20)
    learning.kill("api")
    before = acknowledged()
    until(lambda: acknowledged() > before + 20)
    talks.seen_again()
    with learning_model.held("the dog is Bella") as gate:
        talks.say("the dog is Bella", session="asked-about")
        gate.wait_for_one()
        learning.kill(*EVERYTHING)
        for speaker in speakers:
            speaker.stop()
    try:
        with learning_platform(learning.state, None) as without:
            talks.platform = other.platform = without
            talks.seen_again()
            for speaker in speakers:
                lost = speaker.acknowledged.keys() - listed(talks, speaker.session)
                assert not lost, f"acknowledged and lost: {lost}"
                talks.say(f"{speaker.session}-last is said", session=speaker.session)
            _all_else_works(other)
    finally:
        learning.restart()
    for each in (talks, other):
        each.platform = learning
        each.seen_again()
        each.learn(seconds_max=400)
        assert each.waits() == [] and each.failed() == []
    said = {fact for speaker in speakers for fact in speaker.acknowledged.values()}
    known = talks.known("/strategies/")
    assert len(known) == len(set(known)), "learned twice"
    missed = (said | {"the dog is Bella"}) - set(known)
    assert not missed, f"not learned: {missed}"
    assert other.known("/strategies/") == ["the cat is Tom"]


def _all_else_works(talks: Talks) -> None:
    """Without a model; and what waits for one is said."""
    talks.seen_again()
    talks.say("the cat is Tom")
    assert talks.found("Tom", "/turns/actors/anna/")[0] == "the cat is Tom"
    talks.data.batch_create_memory_records(
        memoryId=talks.id,
        records=[{"requestIdentifier": "1", "namespaces": ["/put/"], "timestamp": START,
                  "content": {"text": "put there"}}],
    )  # fmt: skip
    assert talks.known("/put/") == ["put there"] and talks.known("/strategies/") == []
    waits = talks.waits()
    assert any("facts" in why and "model" in why for why in waits), waits
    assert f"{AT_ONCE} messages wait to be learned from until there is a model" in waits


def test_an_extraction_whose_worker_is_killed_in_the_middle_is_done_once(
    learning: FaultyPlatform, learning_model: LearningModel
) -> None:
    """At either of its questions: what is there to learn, and how does it join what is known?"""
    by_step = {
        step: (Talks(learning, SEMANTIC), uuid.uuid4().hex) for step in ("messages", "candidates")
    }
    with contextlib.ExitStack() as stack:
        gates = [
            stack.enter_context(learning_model.held(f'"{step}":', key))
            for step, (_, key) in by_step.items()
        ]
        for talks, key in by_step.values():
            talks.say(f"{key}-a is one", f"{key}-b is two")
        for gate in gates:
            gate.wait_for_one()
        assert all(talks.known() == [] for talks, _ in by_step.values()), "all of it, or nothing"
        learning.kill("api")
    for step, (talks, key) in by_step.items():
        talks.seen_again()
        talks.learn()
        assert talks.known() == [f"{key}-a is one", f"{key}-b is two"] and talks.failed() == []
        questions = ["candidates" in each.document for each in learning_model.about(key)]
        again = [False] if step == "messages" else [False, True]
        assert questions == [*again, False, True], "asked again from the beginning, and once"
        sources = "SELECT count(*) FROM memory_record_sources WHERE memory_id = %s"
        assert talks.rows(sources, talks.id) == [(2,)]
