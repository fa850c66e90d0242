"""Memories on a platform that learns from a model that tests write, by unmodified boto3."""

import functools
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import psycopg
from botocore.config import Config
from learning_model import MODEL_NAME, LearningModel

from fault_ground import FaultyPlatform
from running import RunningPlatform, until

ACCOUNT, REGION = "100000000001", "us-west-2"
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:what-was-said"
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
AT_ONCE = 12
"""Messages of a session that are looked at without waiting for it to be idle."""
SEMANTIC = {"semanticMemoryStrategy": {"name": "facts"}}


def learning_platform(state: Any, model: LearningModel | None) -> FaultyPlatform:
    """One whose model is that one, or that has none; not started."""
    environment, topics = {}, ""
    if model is not None:
        topics = f"{TOPIC}={model.topic_url}"
        environment = {
            "OPENAI_BASE_URL": model.base_url,
            "OPENAI_API_KEY": "sk-a-key-of-nobody",
            "OPENAI_MODEL": MODEL_NAME,
        }
    return FaultyPlatform(
        state, environment=environment, account=ACCOUNT, workers=2, metering_seconds=1,
        outbound_private_hosts="127.0.0.1", embeddings="off", memory_topics=topics,
    )  # fmt: skip


def connections(platform: RunningPlatform, count: int) -> list[Any]:
    """Clients of the data plane, each with a connection of its own: which worker takes it is the
    kernel's choice. Of one session, which reads the API's model once."""
    session = boto3.session.Session()
    return [
        session.client(
            "bedrock-agentcore", endpoint_url=platform.endpoint, region_name=platform.region,
            aws_access_key_id=platform.access_key_id,
            aws_secret_access_key=platform.secret_access_key,
            config=Config(retries={"total_max_attempts": 1}, max_pool_connections=1),
        )
        for _ in range(count)
    ]  # fmt: skip


class Talks:
    """One memory, talked to. Its clients are of the account that the platform is seen as."""

    def __init__(self, platform: RunningPlatform, *strategies: Any, **more: Any) -> None:
        self.platform = platform
        self.shown = self.control.create_memory(
            name=f"m{uuid.uuid4().hex[:10]}", eventExpiryDuration=30,
            memoryStrategies=list(strategies), **more,
        )["memory"]  # fmt: skip
        self.id: str = self.shown["id"]
        self.arn: str = self.shown["arn"]
        self._minutes = 0

    @functools.cached_property
    def control(self) -> Any:
        return self.platform.client("bedrock-agentcore-control")

    @functools.cached_property
    def data(self) -> Any:
        return self.platform.client("bedrock-agentcore")

    def seen_again(self) -> None:
        """After a restart, which may have another port."""
        for name in ("control", "data"):
            self.__dict__.pop(name, None)

    @property
    def strategies(self) -> dict[str, str]:
        """Ids by name."""
        return {each["name"]: each["strategyId"] for each in self.shown["strategies"]}

    def say(
        self, *texts: str, actor: str = "anna", session: str = "s1", at_once: bool = True,
        **more: Any,
    ) -> str:  # fmt: skip
        """An event with these messages of the person's; enough small talk comes with it for the
        session to be looked at. Its id."""
        self._minutes += 1
        small = ["hm"] * (AT_ONCE - len(texts)) if at_once else []
        event = self.data.create_event(
            memoryId=self.id, actorId=actor, sessionId=session,
            eventTimestamp=START + timedelta(minutes=self._minutes),
            payload=[
                {"conversational": {"role": "USER", "content": {"text": text}}}
                for text in (*texts, *small)
            ],
            **more,
        )["event"]  # fmt: skip
        return str(event["eventId"])

    def known(self, path: str = "/") -> list[str]:
        """The texts of all records below a path."""
        pages = self.data.get_paginator("list_memory_records").paginate(
            memoryId=self.id, namespacePath=path
        )
        return sorted(r["content"]["text"] for p in pages for r in p["memoryRecordSummaries"])

    def records(self, path: str = "/") -> list[dict[str, Any]]:
        found = self.data.list_memory_records(memoryId=self.id, namespacePath=path, maxResults=100)
        return list(found["memoryRecordSummaries"])

    def found(self, query: str, path: str = "/", **criteria: Any) -> list[str]:
        answer = self.data.retrieve_memory_records(
            memoryId=self.id, namespacePath=path,
            searchCriteria={"searchQuery": query, "topK": 5, **criteria},
        )  # fmt: skip
        return [each["content"]["text"] for each in answer["memoryRecordSummaries"]]

    def failed(self) -> list[dict[str, Any]]:
        return list(self.data.list_memory_extraction_jobs(memoryId=self.id)["jobs"])

    def waits(self) -> list[str]:
        return list(self.platform.own(f"/memories/{self.id}/status")["waiting"])

    def learn(self, *, seconds_max: float = 90) -> None:
        """Until nothing is left to be looked at: learned from, or given up."""
        until(lambda: self.queued() == 0, seconds_max=seconds_max)

    def queued(self) -> int:
        [(count,)] = self.rows(
            "SELECT count(*) FROM memory_extraction_sessions WHERE memory_id = %s", self.id
        )
        return int(count)

    def rows(self, statement: str, *parameters: Any) -> Sequence[Any]:
        with psycopg.connect(self.platform.database_url) as connection:
            return connection.execute(statement.encode(), parameters).fetchall()


def only(found: Sequence[Any]) -> Any:
    [one] = found
    return one
