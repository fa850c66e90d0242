"""CloudWatch Logs' operations, bound to their names: reading, and nothing else."""

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from freehold.kernel import clock
from freehold.kernel.pages import decode_token, encode_token
from freehold.kernel.request import Handler, Request
from freehold.services.observability.cloudwatch import inputs
from freehold.services.observability.cloudwatch.events import (
    EVENTS_MAX,
    entries_of,
    filter_of,
    page_of,
    read_token,
    token_of,
)
from freehold.services.observability.cloudwatch.failures import InvalidParameter, NoSuchLog
from freehold.services.observability.cloudwatch.groups import Group, LogGroups, Stretch
from freehold.services.observability.cloudwatch.queries import Queries
from freehold.services.observability.cloudwatch.query import ROWS_MAX, Query
from freehold.services.observability.cloudwatch.rows import Entry

_MS = 1_000_000
_MILLISECONDS_FROM = 10**11
"""A number of seconds as large as this would be of the year 5138: it is one of milliseconds."""
_AHEAD = timedelta(days=1)


class LogsApi:
    def __init__(self, groups: LogGroups, queries: Queries, *, region: str) -> None:
        self._groups, self._queries, self._region = groups, queries, region

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "logs:StartQuery": self.start_query,
            "logs:GetQueryResults": self.get_query_results,
            "logs:StopQuery": self.stop_query,
            "logs:GetLogEvents": self.get_log_events,
            "logs:FilterLogEvents": self.filter_log_events,
            "logs:DescribeLogGroups": self.describe_log_groups,
            "logs:DescribeLogStreams": self.describe_log_streams,
        }

    async def start_query(self, request: Request, params: dict[str, Any]) -> dict[str, Any]:
        asked = inputs.read(inputs.StartQuery, params)
        if asked.query_language != "CWLI":
            raise InvalidParameter("Only queries in CloudWatch Logs Insights' language are taken.")
        names = [*asked.log_group_names, *asked.log_group_identifiers]
        if asked.log_group_name is not None:
            names.append(asked.log_group_name)
        if not names:
            raise InvalidParameter("Say which log groups to query.")
        since, until = _milliseconds(asked.start_time), _milliseconds(asked.end_time)
        if since > until:
            raise InvalidParameter("Query's start time must not be after its end time.")
        query = Query(asked.query_string)
        groups = [await self._group(request, name) for name in dict.fromkeys(names)]
        # The last second belongs to it, as the documentation has it.
        last = 1000 if asked.end_time < _MILLISECONDS_FROM else 1
        id = await self._queries.start(
            request.tenant, groups, query, since_ns=since * _MS, until_ns=(until + last) * _MS,
            limit=min(asked.limit or ROWS_MAX, ROWS_MAX),
        )  # fmt: skip
        return {"queryId": id}

    async def get_query_results(self, request: Request, params: dict[str, Any]) -> dict[str, Any]:
        asked = inputs.read(inputs.QueryId, params)
        statistics, lines, more = await self._queries.results(
            request.tenant, asked.query_id, token=asked.next_token, most=asked.max_items or None
        )
        answer = {
            "queryLanguage": "CWLI",
            "results": [[{"field": n, "value": v} for n, v in line] for line in lines],
            "statistics": {
                "recordsMatched": float(statistics.matched),
                "recordsScanned": float(statistics.scanned),
                "bytesScanned": float(statistics.scanned_bytes),
                "logGroupsScanned": float(statistics.groups),
            },
            "status": "Complete",
        }
        return answer if more is None else {**answer, "nextToken": more}

    async def stop_query(self, request: Request, params: dict[str, Any]) -> dict[str, Any]:
        """None runs any more once its id is known."""
        asked = inputs.read(inputs.QueryId, params)
        await self._queries.results(request.tenant, asked.query_id, most=0)
        raise InvalidParameter("Query is not in a running or scheduled state: it is Complete.")

    async def get_log_events(self, request: Request, params: dict[str, Any]) -> dict[str, Any]:
        asked = inputs.read(inputs.GetLogEvents, params)
        at = None if asked.next_token is None else read_token(asked.next_token)
        group = await self._group(request, asked.group)
        _check_stream(group, asked.log_stream_name)
        stretch = _between(asked.start_time, asked.end_time)
        entries = await entries_of(group, request.tenant, stretch)
        events = page_of(
            entries, from_head=asked.start_from_head, at=at, limit=min(asked.limit, EVENTS_MAX)
        )
        return {
            "events": [_event(entry) for entry in events.entries],
            "nextForwardToken": token_of("f", events.after),
            "nextBackwardToken": token_of("b", events.before),
        }

    async def filter_log_events(self, request: Request, params: dict[str, Any]) -> dict[str, Any]:
        asked = inputs.read(inputs.FilterLogEvents, params)
        at = None if asked.next_token is None else read_token(asked.next_token)
        passes = filter_of(asked.filter_pattern)
        group = await self._group(request, asked.group)
        names = asked.log_stream_names
        wanted = group.stream.startswith(asked.log_stream_name_prefix) and (
            names is None or group.stream in names
        )
        if not wanted:
            return {"events": [], "searchedLogStreams": []}
        stretch = _between(asked.start_time, asked.end_time)
        entries = await entries_of(group, request.tenant, stretch, passes)
        events = page_of(entries, from_head=True, at=at, limit=asked.limit)
        shown = [
            {**_event(entry), "logStreamName": entry.stream, "eventId": entry.id}
            for entry in events.entries
        ]
        answer: dict[str, Any] = {"events": shown, "searchedLogStreams": []}
        if shown and events.entries[-1] is not entries[-1]:
            answer["nextToken"] = token_of("f", events.after)
        return answer

    async def describe_log_groups(self, request: Request, params: dict[str, Any]) -> dict[str, Any]:
        asked = inputs.read(inputs.DescribeLogGroups, params)
        after = decode_token(asked.next_token)
        part = asked.log_group_name_pattern.lower()
        found = [
            group
            for group in await self._groups.all(request.tenant)
            if group.name.startswith(asked.log_group_name_prefix)
            and part in group.name.lower()
            and (not after or group.name > str(after[0]))
        ]
        shown = found[: asked.limit]
        answer: dict[str, Any] = {
            "logGroups": [
                {
                    "logGroupName": group.name,
                    "creationTime": group.created_ms,
                    "arn": f"{self._arn(request, group.name)}:*",
                    "logGroupArn": self._arn(request, group.name),
                    "logGroupClass": "STANDARD",
                }
                for group in shown
            ]
        }
        if len(found) > len(shown):
            answer["nextToken"] = encode_token(shown[-1].name)
        return answer

    async def describe_log_streams(
        self, request: Request, params: dict[str, Any]
    ) -> dict[str, Any]:
        asked = inputs.read(inputs.DescribeLogStreams, params)
        group = await self._group(request, asked.group)
        arn = f"{self._arn(request, group.name)}:log-stream:{group.stream}"
        fits = group.stream.startswith(asked.log_stream_name_prefix)
        return {"logStreams": [{"logStreamName": group.stream, "arn": arn}] if fits else []}

    async def _group(self, request: Request, named: str) -> Group:
        return await self._groups.group(request.tenant, named, now_ns=time.time_ns())

    def _arn(self, request: Request, name: str) -> str:
        return f"arn:aws:logs:{self._region}:{request.tenant}:log-group:{name}"


def _check_stream(group: Group, name: str) -> None:
    if name != group.stream:
        raise NoSuchLog("The specified log stream does not exist.")


def _milliseconds(stated: int) -> int:
    return stated if stated >= _MILLISECONDS_FROM else stated * 1000


def _between(start_ms: int | None, end_ms: int | None) -> Stretch:
    """Up to now, and a little ahead: clocks of agents differ."""
    until_ms = int((clock.now() + _AHEAD).timestamp() * 1000) if end_ms is None else end_ms
    return Stretch(since_ns=(start_ms or 0) * _MS, until_ns=until_ms * _MS)


def _event(entry: Entry) -> dict[str, Any]:
    return {
        "timestamp": entry.at_ms, "ingestionTime": entry.at_ms, "message": entry.message,
    }  # fmt: skip
