"""A memory's own policy: other accounts name it by its ARN, and nobody is let in beside it."""

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from learning_ground import START

from running import RunningPlatform, refusal, until

pytestmark = pytest.mark.timeout(300)

GUEST = "222233334444"
SAID = [{"conversational": {"role": "USER", "content": {"text": "The dog is Bella."}}}]


class Owned:
    """A memory of the platform's own account."""

    def __init__(self, platform: RunningPlatform) -> None:
        self.control = platform.client("bedrock-agentcore-control")
        self.data = platform.client("bedrock-agentcore")
        made = self.control.create_memory(name=f"m{uuid.uuid4().hex[:8]}", eventExpiryDuration=7)
        self.id, self.arn = made["memory"]["id"], made["memory"]["arn"]

    def say(self, **more: Any) -> str:
        event = self.data.create_event(
            memoryId=self.id, actorId="anna", sessionId="s1", eventTimestamp=START, payload=SAID,
            **more,
        )["event"]  # fmt: skip
        return str(event["eventId"])

    def policy(self, effect: str, *actions: str, principal: Any = None) -> None:
        statement = {
            "Effect": effect, "Principal": principal or {"AWS": GUEST},
            "Action": [f"bedrock-agentcore:{action}" for action in actions],
            "Resource": self.arn,
        }  # fmt: skip
        document = {"Version": "2012-10-17", "Statement": statement}
        self.control.put_resource_policy(resourceArn=self.arn, policy=json.dumps(document))


@pytest.fixture
def owned(platform: RunningPlatform) -> Iterator[Owned]:
    owned = Owned(platform)
    yield owned
    owned.control.delete_memory(memoryId=owned.id)


@pytest.fixture(scope="module")
def guest(platform: RunningPlatform) -> Any:
    """An admin of another account."""
    return platform.as_tenant(GUEST).client("bedrock-agentcore")


def absent(call: Callable[[], Any]) -> bool:
    try:
        call()
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        return (status, error.response["Error"]["Code"]) == (404, "ResourceNotFoundException")
    return False


def test_another_account_uses_a_memory_that_lets_it_in(owned: Owned, guest: Any) -> None:
    event = owned.say()
    owned.policy("Allow", "CreateEvent", "List*", "GetEvent", "RetrieveMemoryRecords",
                 "BatchCreateMemoryRecords")  # fmt: skip
    place = {"memoryId": owned.arn, "actorId": "anna", "sessionId": "s1"}
    assert guest.get_event(**place, eventId=event)["event"]["memoryId"] == owned.id
    guest.create_event(**place, eventTimestamp=START, payload=SAID)
    events = owned.data.list_events(**{**place, "memoryId": owned.id})["events"]
    assert len(events) == 2
    guest.batch_create_memory_records(
        memoryId=owned.arn,
        records=[{"requestIdentifier": "1", "namespaces": ["/shared/"], "timestamp": START,
                  "content": {"text": "The cat is Tom."}}],
    )  # fmt: skip
    found = guest.retrieve_memory_records(
        memoryId=owned.arn, namespace="/shared/", searchCriteria={"searchQuery": "cat"}
    )["memoryRecordSummaries"]
    assert [each["content"]["text"] for each in found] == ["The cat is Tom."]
    assert absent(lambda: guest.delete_event(**place, eventId=event)), "it was not let in to that"
    assert owned.data.get_event(**{**place, "memoryId": owned.id}, eventId=event)


def test_without_a_policy_a_memory_is_absent_for_other_accounts(owned: Owned, guest: Any) -> None:
    owned.say()
    no_such = owned.arn[:-10] + "0" * 10
    for memory in (owned.arn, owned.id, no_such):
        assert absent(lambda memory=memory: guest.list_actors(memoryId=memory))  # type: ignore[misc]


def test_who_is_let_in_is_let_in_to_that_memory_alone(
    platform: RunningPlatform, owned: Owned, guest: Any
) -> None:
    """Not even by calling an actor what the shared memory is called."""
    owned.policy("Allow", "*")
    other = Owned(platform)
    other.say()
    place = {"memoryId": other.id, "actorId": owned.arn, "sessionId": "s1"}
    assert absent(lambda: guest.list_events(**place))
    assert absent(lambda: guest.list_events(**{**place, "memoryId": other.arn}))
    assert absent(lambda: guest.create_event(**place, eventTimestamp=START, payload=SAID))
    assert absent(lambda: guest.list_sessions(memoryId=other.id, actorId=owned.arn))
    # What manages it is not what it holds.
    control = platform.as_tenant(GUEST).client("bedrock-agentcore-control")
    assert absent(lambda: control.delete_memory(memoryId=owned.id))
    assert absent(lambda: control.get_resource_policy(resourceArn=owned.arn))
    other.control.delete_memory(memoryId=other.id)


def test_a_denial_holds_for_the_own_account_however_the_memory_is_named(owned: Owned) -> None:
    event = owned.say()
    owned.policy("Deny", "GetEvent", principal="*")
    for memory in (owned.id, owned.arn):
        refused = refusal(
            lambda memory=memory: owned.data.get_event(  # type: ignore[misc]
                memoryId=memory, actorId="anna", sessionId="s1", eventId=event
            )
        )
        assert (refused.status, refused.code) == (403, "AccessDeniedException")
    assert owned.data.list_actors(memoryId=owned.arn)["actorSummaries"] == [{"actorId": "anna"}]
    owned.control.delete_resource_policy(resourceArn=owned.arn)
    assert until(lambda: owned.data.get_event(
        memoryId=owned.id, actorId="anna", sessionId="s1", eventId=event
    ))["event"]["eventId"] == event  # fmt: skip


def test_what_is_denied_is_not_told_by_our_own_operations_either(
    platform: RunningPlatform, owned: Owned
) -> None:
    def told(path: str, **query: str) -> int:
        with platform.open("GET", f"/memories/{owned.id}/{path}", **query) as answer:
            return answer.status

    ways = {"profile": {"actor": "anna"}, "history": {"namespacePath": "/"}, "retrievals": {}}
    assert {told(path, **query) for path, query in ways.items()} == {200}
    owned.policy("Deny", "RetrieveMemoryRecords", principal="*")
    assert {told(path, **query) for path, query in ways.items()} == {403}
    assert told("status") == 200
    owned.policy("Allow", "*")
    assert {told(path, **query) for path, query in ways.items()} == {200}
    stranger = platform.as_tenant(GUEST)
    with stranger.open("GET", f"/memories/{owned.id}/profile", actor="anna") as answer:
        assert answer.status == 404


def test_a_policy_goes_with_its_memory(platform: RunningPlatform, guest: Any) -> None:
    owned = Owned(platform)
    owned.policy("Allow", "ListActors")
    assert guest.list_actors(memoryId=owned.arn)["actorSummaries"] == []
    owned.control.delete_memory(memoryId=owned.id)
    until(lambda: absent(lambda: guest.list_actors(memoryId=owned.arn)))
    until(lambda: absent(lambda: owned.control.get_resource_policy(resourceArn=owned.arn)))
