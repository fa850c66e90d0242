"""What the operations take, as CloudWatch Logs' model says; members of no use here are let be."""

from typing import Annotated, Any, TypeVar

import msgspec

from freehold.services.observability.cloudwatch.failures import InvalidParameter

T = TypeVar("T", bound=msgspec.Struct)

Text = Annotated[str, msgspec.Meta(max_length=2048)]
Time = Annotated[int, msgspec.Meta(ge=0, le=10**15)]


class StartQuery(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    start_time: Time
    end_time: Time
    query_string: Annotated[str, msgspec.Meta(max_length=10_000)]
    log_group_name: Text | None = None
    log_group_names: Annotated[list[Text], msgspec.Meta(max_length=50)] = []
    log_group_identifiers: Annotated[list[Text], msgspec.Meta(max_length=50)] = []
    limit: Annotated[int, msgspec.Meta(ge=1, le=100_000)] | None = None
    query_language: str = "CWLI"


class QueryId(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    query_id: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    next_token: Text | None = None
    max_items: Annotated[int, msgspec.Meta(ge=0, le=10_000)] | None = None


class _OfGroup(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    log_group_name: Text | None = None
    log_group_identifier: Text | None = None

    @property
    def group(self) -> str:
        """Raises InvalidParameter where it is named twice, or not."""
        named = [n for n in (self.log_group_name, self.log_group_identifier) if n is not None]
        if len(named) != 1:
            raise InvalidParameter("Say either logGroupName or logGroupIdentifier.")
        return named[0]


class GetLogEvents(_OfGroup, frozen=True, kw_only=True, rename="camel"):
    log_stream_name: Text
    start_time: Time | None = None
    end_time: Time | None = None
    next_token: Text | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 10_000
    start_from_head: bool = False


class FilterLogEvents(_OfGroup, frozen=True, kw_only=True, rename="camel"):
    log_stream_names: Annotated[list[Text], msgspec.Meta(min_length=1, max_length=100)] | None = (
        None
    )
    log_stream_name_prefix: Text = ""
    start_time: Time | None = None
    end_time: Time | None = None
    filter_pattern: Annotated[str, msgspec.Meta(max_length=1024)] = ""
    next_token: Text | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 10_000


class DescribeLogGroups(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    log_group_name_prefix: Text = ""
    log_group_name_pattern: Text = ""
    next_token: Text | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=50)] = 50


class DescribeLogStreams(_OfGroup, frozen=True, kw_only=True, rename="camel"):
    log_stream_name_prefix: Text = ""


def read(kind: type[T], params: dict[str, Any]) -> T:
    try:
        return msgspec.convert(params, kind)
    except msgspec.ValidationError as error:
        raise InvalidParameter(f"{error}.") from None
