"""Events, sessions and actors in AWS's operations: request -> domain -> response."""

from typing import Any

from freehold.kernel.errors import ValidationFailed
from freehold.kernel.request import Handler, Request
from freehold.services.memory.event_sql import Condition, EventFilter
from freehold.services.memory.events import EventLog, NewEvent
from freehold.services.memory.model import MAIN, Event
from freehold.services.memory.traces import CREATE, told

Params = dict[str, Any]

PAGE_ITEMS_DEFAULT = 20


def handlers(events: EventLog) -> dict[str, Handler]:
    api = _Events(events)
    service = "bedrock-agentcore"
    return {
        f"{service}:CreateEvent": api.create,
        f"{service}:GetEvent": api.get,
        f"{service}:ListEvents": api.page,
        f"{service}:DeleteEvent": api.delete,
        f"{service}:ListSessions": api.sessions,
        f"{service}:ListActors": api.actors,
    }


class _Events:
    def __init__(self, events: EventLog) -> None:
        self._events = events

    async def create(self, request: Request, params: Params) -> Params:
        branch = params.get("branch") or {}
        variables = (params.get("extractionConfig") or {}).get("namespaceVariables") or {}
        asked = NewEvent(
            memory_id=params["memoryId"],
            actor_id=params["actorId"],
            session_id=params.get("sessionId") or "",
            at=params["eventTimestamp"],
            payload=params["payload"],
            branch=branch.get("name") or MAIN,
            root_event_id=branch.get("rootEventId") or "",
            metadata={
                key: value["stringValue"] for key, value in (params.get("metadata") or {}).items()
            },
            extract=params.get("extractionMode") != "SKIP",
            variables=variables,
            client_token=params.get("clientToken") or "",
        )
        event = await self._events.create(request.tenant, asked)
        told(CREATE, event.memory_id, record_ids=(), event_id=event.id)
        return {"event": _event(event)}

    async def get(self, request: Request, params: Params) -> Params:
        event = await self._events.get(request.tenant, *_session(params), params["eventId"])
        return {"event": _event(event)}

    async def page(self, request: Request, params: Params) -> Params:
        payloads = params.get("includePayloads") is not False
        page = await self._events.page(
            request.tenant, *_session(params), _filter(params.get("filter") or {}),
            limit=params.get("maxResults") or PAGE_ITEMS_DEFAULT,
            token=params.get("nextToken"), payloads=payloads,
        )  # fmt: skip
        shown = [_event(event, payload=payloads) for event in page.items]
        return {"events": shown, "nextToken": page.next_token}

    async def delete(self, request: Request, params: Params) -> Params:
        await self._events.delete(request.tenant, *_session(params), params["eventId"])
        return {"eventId": params["eventId"]}

    async def sessions(self, request: Request, params: Params) -> Params:
        what = (params.get("filter") or {}).get("eventFilter")
        page = await self._events.sessions(
            request.tenant, params["memoryId"], params["actorId"],
            limit=params.get("maxResults") or PAGE_ITEMS_DEFAULT, token=params.get("nextToken"),
            with_events=what == "HAS_EVENTS",
        )  # fmt: skip
        shown = [
            {"sessionId": s.session_id, "actorId": s.actor_id, "createdAt": s.created_at}
            for s in page.items
        ]
        return {"sessionSummaries": shown, "nextToken": page.next_token}

    async def actors(self, request: Request, params: Params) -> Params:
        page = await self._events.actors(
            request.tenant, params["memoryId"],
            limit=params.get("maxResults") or PAGE_ITEMS_DEFAULT, token=params.get("nextToken"),
        )  # fmt: skip
        shown = [{"actorId": actor} for actor in page.items]
        return {"actorSummaries": shown, "nextToken": page.next_token}


def _session(params: Params) -> tuple[str, str, str]:
    return params["memoryId"], params["actorId"], params["sessionId"]


def _filter(asked: Params) -> EventFilter:
    branch = asked.get("branch") or {}
    return EventFilter(
        branch=branch.get("name") or "",
        parents=bool(branch.get("includeParentBranches")),
        metadata=tuple(_condition(each) for each in asked.get("eventMetadata") or ()),
    )


def _condition(asked: Params) -> Condition:
    key, operator = asked["left"]["metadataKey"], asked["operator"]
    right = (asked.get("right") or {}).get("metadataValue")
    if operator != "EQUALS_TO":
        return Condition(key=key, operator=operator)
    if right is None:
        raise ValidationFailed(f"filter.eventMetadata: EQUALS_TO of {key!r} needs a right side")
    return Condition(key=key, operator=operator, value=right["stringValue"])


def _event(event: Event, *, payload: bool = True) -> Params:
    shown: Params = {
        "memoryId": event.memory_id,
        "actorId": event.actor_id,
        "sessionId": event.session_id,
        "eventId": event.id,
        "eventTimestamp": event.at,
    }
    if payload:
        shown["payload"] = event.payload
    if event.branch != MAIN:
        # AWS's own SDK takes an event without a branch for one of main.
        shown["branch"] = {"name": event.branch, "rootEventId": event.root_event_id}
    if event.metadata:
        shown["metadata"] = {key: {"stringValue": v} for key, v in event.metadata.items()}
    return shown
