"""Memories, with an event and a record."""

from datetime import UTC, datetime
from typing import Any

from running import RunningPlatform
from tenant_tables.table import Table

_AT = datetime(2026, 1, 1, tzinfo=UTC)
_RECORD = {"content": {"text": "canary-of-the-first-tenant"}, "timestamp": _AT}
_RECORDS: dict[str, Any] = {
    "records": [{"requestIdentifier": "1", "namespaces": ["/theirs/"], **_RECORD}]
}
_SAID: dict[str, Any] = {
    "eventTimestamp": _AT,
    "payload": [
        {"conversational": {"role": "USER", "content": {"text": "canary-of-the-first-tenant"}}}
    ],
}
TABLE = Table(
    things=("memory", "event", "record", "erasure"),
    marks=("memory", "event", "record"),
    names={
        "actorId": "anna",
        "eventId": "{event}",
        "memoryId": "{memory}",
        "memoryRecordId": "{record}",
        "namespace": "/theirs/",
        "sessionId": "theirs",
        "CreateMemory.name": "other",
    },
    nameless=frozenset({
        "encryptionKeyArn", "extractionMode", "memoryExecutionRoleArn", "memoryStrategyId",
        "namespacePath", "view",
    }),
    at_home=frozenset({"CreateMemory"}),
    good={
        "BatchCreateMemoryRecords": _RECORDS,
        "BatchDeleteMemoryRecords": {"records": [{"memoryRecordId": "{record}"}]},
        "BatchUpdateMemoryRecords": {"records": [{"memoryRecordId": "{record}", **_RECORD}]},
        "CreateEvent": _SAID,
        "RetrieveMemoryRecords": {"searchCriteria": {"searchQuery": "canary"}},
        "StartMemoryExtractionJob": {"extractionJob": {"jobId": "no-such-job"}},
    },
    paths={"erasureId": "{erasure}", "memoryId": "{memory}", "recordId": "{record}"},
    bodies={"EraseMemoryActor": {"actorId": "anna"}},
)  # fmt: skip


def made(platform: RunningPlatform, name: str) -> dict[str, str]:
    control, data = (platform.client(f"bedrock-agentcore{part}") for part in ("-control", ""))
    id = control.create_memory(name=name.replace("-", "_"), eventExpiryDuration=7)["memory"]["id"]
    event = data.create_event(memoryId=id, actorId="anna", sessionId="theirs", **_SAID)["event"]
    [record] = data.batch_create_memory_records(memoryId=id, **_RECORDS)["successfulRecords"]
    # Of another actor: what it erases is nothing.
    erasure = platform.own(
        f"/memories/{id}/erasures", method="POST", body={"actorId": "bob", "dryRun": True}
    )["erasureId"]
    return {
        "memory": id, "event": event["eventId"], "record": record["memoryRecordId"],
        "erasure": erasure,
    }  # fmt: skip


def forget(platform: RunningPlatform, values: dict[str, str]) -> None:
    platform.client("bedrock-agentcore-control").delete_memory(memoryId=values["memory"])
