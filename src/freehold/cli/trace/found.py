"""Traces by what people type, and the filters that commands share."""

import re
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from freehold.cli import runtimes
from freehold.cli.failure import CliError
from freehold.cli.options import applied, pairs, platform_options
from freehold.cli.platform import Platform
from freehold.ports.replay import FORK_PREFIX

LATEST = "latest"
_LOOKED_AT = 1000
_BEGINNING = re.compile(r"[0-9a-f]{4,32}")
_SPAN_BEGINNING = re.compile(r"[0-9a-f]{4,16}")
_RUNTIME_ID = re.compile(r"[a-zA-Z]\w*-[a-zA-Z0-9]{10}")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)?")
_MILLISECONDS = {None: 1, "ms": 1, "s": 1000, "m": 60_000}


def trace_id(platform: Platform, wanted: str) -> str:
    """Raises CliError where there is none, or more than one."""
    wanted = wanted.lower()
    if wanted == LATEST:
        newest = platform.own.get("traces", limit=1, since="30d")["traces"]
        if not newest:
            raise _none("There is no trace of the last 30 days.")
        return str(newest[0]["traceId"])
    if not _BEGINNING.fullmatch(wanted):
        raise CliError(
            f"{wanted!r} is no trace's id: 32 hexadecimal digits, or at least the first four.",
            code="BadName",
        )
    if len(wanted) == 32:
        return wanted
    recent = platform.own.pages("traces", items="traces", limit=_LOOKED_AT, since="30d")
    fitting = [each["traceId"] for each in recent if each["traceId"].startswith(wanted)]
    if not fitting:
        raise _none(f"None of the newest traces begins with {wanted}.")
    if len(fitting) > 1:
        raise CliError(
            f"{len(fitting)} traces begin with {wanted}.", code="BadName",
            hint=f"Such as: {', '.join(fitting[:3])}",
        )  # fmt: skip
    return str(fitting[0])


def span_id(platform: Platform, trace: str, wanted: str) -> str:
    """Of a span of the trace, by the beginning of its id. Raises CliError as `trace_id` does."""
    wanted = wanted.lower()
    if not _SPAN_BEGINNING.fullmatch(wanted):
        raise CliError(
            f"{wanted!r} is no span's id: 16 hexadecimal digits, or at least the first four.",
            code="BadName",
        )
    if len(wanted) == 16:
        return wanted
    spans = platform.own.get("traces", trace)["spans"]
    fitting = [each["spanId"] for each in spans if each["spanId"].startswith(wanted)]
    if len(fitting) == 1:
        return str(fitting[0])
    if fitting:
        raise CliError(
            f"{len(fitting)} spans begin with {wanted}.", code="BadName",
            hint=f"Such as: {', '.join(fitting[:3])}",
        )  # fmt: skip
    raise CliError(
        f"No span of trace {trace} begins with {wanted}.", code="ResourceNotFoundException",
        hint=f"Its spans: freehold trace show {trace} --ids",
    )  # fmt: skip


def fork_id(platform: Platform, wanted: str) -> str:
    """Of a fork by its id, the beginning of one with or without "fork-", or `latest`."""
    digits = wanted.lower().removeprefix(FORK_PREFIX)
    if digits == LATEST:
        newest = platform.own.get("forks", limit=1)["forks"]
        if not newest:
            raise _no_fork("There is no fork yet.")
        return str(newest[0]["forkId"])
    if not _BEGINNING.fullmatch(digits):
        raise CliError(
            f"{wanted!r} is no fork's id: {FORK_PREFIX} and 32 hexadecimal digits, or at least the "
            "first four.",
            code="BadName",
        )
    if len(digits) == 32:
        return FORK_PREFIX + digits
    recent = platform.own.pages("forks", items="forks", limit=_LOOKED_AT)
    ids = [each["forkId"] for each in recent]
    fitting = [each for each in ids if each.startswith(FORK_PREFIX + digits)]
    if not fitting:
        raise _no_fork(f"None of the newest forks begins with {wanted}.")
    if len(fitting) > 1:
        raise CliError(
            f"{len(fitting)} forks begin with {wanted}.", code="BadName",
            hint=f"Such as: {', '.join(fitting[:3])}",
        )  # fmt: skip
    return str(fitting[0])


def _no_fork(message: str) -> CliError:
    return CliError(
        message, code="ResourceNotFoundException", hint="Those there are: freehold trace forks"
    )


def _none(message: str) -> CliError:
    return CliError(
        message, code="ResourceNotFoundException", hint="Those there are: freehold trace list"
    )


def agent_id(platform: Platform, wanted: str) -> str:
    """A runtime's id by its name or ARN; that of one that is gone is taken as it is."""
    if _RUNTIME_ID.fullmatch(wanted) and runtimes.by_name(platform, wanted) is None:
        return wanted
    return runtimes.find(platform, wanted).id


since_option = click.option(
    "--since", default="24h", show_default=True,
    help="From then on: a span such as 90m, 24h or 7d, or ISO 8601.",
)  # fmt: skip
until_option = click.option("--until", help="Before then, likewise.")
agent_options = applied(
    click.option("--agent", metavar="NAME", help="Only of this agent."),
    click.option("--agent-version", metavar="NUMBER", help="Only of this version of it."),
)
_filters = applied(
    agent_options,
    click.option("--user", help="Only for this user."),
    click.option("--session", help="Only in this session."),
    click.option("--failed", "status", flag_value="error", help="Only where something failed."),
    click.option("--fine", "status", flag_value="ok", help="Only where nothing did."),
    click.option("--name", help="Only with this name."),
    click.option("--model", help="Only where this model was called."),
    click.option("--tool", help="Only where this tool was called."),
    click.option("--slower", metavar="TIME", help="At least so long: 500ms, 2s, 1m."),
    click.option("--faster", metavar="TIME", help="At most so long."),
    click.option("--tokens", type=click.IntRange(min=0), help="At least so many tokens."),
    click.option("--dearer", metavar="DOLLARS", help="At least so many US dollars."),
    click.option(
        "--tag", "tags", multiple=True, callback=pairs, metavar="KEY=VALUE",
        help="Only with this attribute in any span; may be said several times.",
    ),
    click.option("--text", help="Only with this in a name, an attribute or an event."),
)  # fmt: skip


def filters(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the filters, and hands them over as `query`, in the words of our own API."""

    @_filters
    @platform_options
    @wraps(command)
    def with_query(platform: Platform, *args: Any, **given: Any) -> Any:
        query = {
            "agentId": agent_id(platform, given.pop("agent")) if given["agent"] else None,
            "agentVersion": given.pop("agent_version"),
            "sessionId": given.pop("session"),
            "durationMin": _milliseconds("--slower", given.pop("slower")),
            "durationMax": _milliseconds("--faster", given.pop("faster")),
            "tokensMin": given.pop("tokens"),
            "costMin": given.pop("dearer"),
            "tag": _tag(given.pop("tags")),
            **{name: given.pop(name) for name in ("user", "status", "name", "model", "tool")},
            "text": given.pop("text"),
        }
        given.pop("agent", None)
        return command(platform, *args, query=query, **given)

    decorated: Callable[..., Any] = with_query
    return decorated


def _milliseconds(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    found = _DURATION.fullmatch(text)
    if found is None:
        raise click.UsageError(f"{option} {text}: expected a time such as 500ms, 2s or 1m")
    return round(float(found[1]) * _MILLISECONDS[found[2]])


def _tag(tags: dict[str, str]) -> str | None:
    escaped = [f"{key}={value}".replace(",", "\\,") for key, value in tags.items()]
    return ",".join(escaped) or None


limit_option = click.option(
    "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most this many."
)


def listed(
    platform: Platform, path: str, items: str, *, limit: int, since: str, **query: Any
) -> tuple[list[Any], bool]:
    """So many of a list, and whether there are more. As JSON, or where there is nothing, all has
    been said by then."""
    found = platform.own.pages(path, items=items, limit=limit + 1, since=since, **query)
    more, found = len(found) > limit, found[:limit]
    if platform.output.as_json:
        platform.output.document({items: found, "more": more})
    elif not found:
        platform.output.note(f"No such {items} since {since}.")
    return found, more
