"""kill -9 leaves no gap in the audit: what was acknowledged stands there, and the chain holds."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import botocore.exceptions
import pytest

import agents
from fault_ground import FaultyPlatform, MakePlatform
from running import Agent, new_session, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

EVERYTHING = ("up", "node", "api", "postgres")
_CUT_OFF = (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError, OSError)


@pytest.fixture(scope="module")
def platform(make_platform: MakePlatform) -> FaultyPlatform:
    return make_platform("audited", workers=2)


@pytest.fixture(scope="module")
def agent(platform: FaultyPlatform) -> Agent:
    return platform.deploy(agents.plain())


class Callers:
    """Threads that call until they are stopped; `acknowledged` are the request ids of the calls
    whose answers came to their last byte."""

    def __init__(self, agent: Agent) -> None:
        self.acknowledged: list[str] = []
        self._agent = agent
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(4)]

    def _call(self) -> None:
        session = new_session()
        while not self._over.is_set():
            try:
                answer = self._agent.begin({"do": "tell", "text": "x"}, session)
                answer["response"].read()
            except _CUT_OFF:
                self._over.wait(0.05)
            else:
                self.acknowledged.append(answer["ResponseMetadata"]["RequestId"])

    @contextmanager
    def calling(self) -> Iterator["Callers"]:
        for thread in self._threads:
            thread.start()
        try:
            until(lambda: len(self.acknowledged) >= 40, seconds_max=60)
            yield self
        finally:
            self._over.set()
            for thread in self._threads:
                thread.join(60)


def _lines(platform: FaultyPlatform) -> list[dict[str, Any]]:
    lines, token = [], {}
    while True:
        page = platform.own("/audit", intents="true", limit=1000, **token)
        lines += page["lines"]
        if "nextToken" not in page:
            return lines
        token = {"nextToken": page["nextToken"]}


def _verified(platform: FaultyPlatform) -> int:
    """How many lines are known to be right, or have no place in the chain yet."""
    verdict = platform.lines("/audit/verify")[-1]["verdict"]
    assert verdict["faults"] == []
    return int(verdict["checked"] + verdict["waiting"])


def _is_whole(platform: FaultyPlatform, acknowledged: list[str]) -> list[dict[str, Any]]:
    """The calls that were acknowledged are all there; the outcomes of the others."""
    lines = _lines(platform)
    intents = {line["callId"] for line in lines if line["phase"] == "intent"}
    outcomes = {line["callId"]: line for line in lines if line["phase"] == "outcome"}
    assert [id for id in acknowledged if id not in intents] == []
    assert [id for id in acknowledged if id not in outcomes] == []
    assert {outcomes[id]["outcome"] for id in acknowledged} == {"allowed"}
    # What is linked while it verifies is neither checked by then nor waiting.
    until(lambda: _verified(platform) >= len(lines))
    known = set(acknowledged)
    return [outcomes.get(id, {"callId": id, "outcome": ""}) for id in intents - known]


@pytest.mark.parametrize("kind", ["api", "node", "postgres"])
def test_after_the_death_of_one_process(kind: str, platform: FaultyPlatform, agent: Agent) -> None:
    with Callers(agent).calling() as callers:
        for _ in range(2):
            old = platform.pids(kind)[0]
            seen = len(callers.acknowledged)
            platform.kill(kind)
            platform.replaced(kind, old)
            until(lambda seen=seen: len(callers.acknowledged) >= seen + 20, seconds_max=60)
    _is_whole(platform, callers.acknowledged)


def test_after_the_death_of_everything(platform: FaultyPlatform, agent: Agent) -> None:
    slow = threading.Thread(target=_interrupted, args=(agent,))
    with Callers(agent).calling() as callers:
        slow.start()
        until(lambda: _open(platform, agent))
        platform.kill(*EVERYTHING)
    slow.join(60)
    platform.restart()
    others = _is_whole(platform, callers.acknowledged)
    assert "unknown" in {line["outcome"] for line in others}, "a call was cut off by the kill"
    assert "" not in {line["outcome"] for line in others}, "an intent stays without an outcome"


def _interrupted(agent: Agent) -> None:
    """A call that is under way when everything dies."""
    with pytest.raises(_CUT_OFF):
        agent.invoke({"do": "burn", "seconds": 60}, new_session())


def _open(platform: FaultyPlatform, agent: Agent) -> bool:
    """Whether some call has an intent and, for now, no outcome."""
    lines = platform.own("/audit", intents="true", limit=200)["lines"]
    done = {line["callId"] for line in lines if line["phase"] == "outcome"}
    return any(line["phase"] == "intent" and line["callId"] not in done for line in lines)
