"""What a `Wanted` asks for, as SQL. Nothing of a request is put into a statement's text."""

from typing import Any

import msgspec

from freehold.adapters.spans.copying import INT8_MAX, storable, within
from freehold.adapters.spans.records import label
from freehold.adapters.spans.sums_sql import COST, TOKENS
from freehold.ports.spans import Wanted

Condition = tuple[str, list[Any]]

# A trace's spans; what is said of their start lets partitions that cannot hold them be passed over.
_SPANS_OF_TRACE = """spans s WHERE s.tenant = t.tenant AND s.trace_id = t.trace_id
    AND s.started_ns >= %s AND s.started_ns >= t.started_ns AND s.started_ns <= t.ended_ns AND """


# Spans have no index of sessions: writing it would cost each of them. An array and not a subquery,
# so that it is known before the plan that goes by it begins.
_OF_SESSION = """s.trace_id = ANY(ARRAY(
    SELECT p.trace_id FROM trace_parts p
    WHERE p.tenant = %s AND p.session_id = %s AND p.session_id <> ''))"""


class Conditions:
    """Joined by AND, each with its values, in order."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self.values: list[Any] = []

    def add(self, text: str, *values: Any) -> None:
        self._parts.append(text)
        self.values.extend(values)

    @property
    def sql(self) -> str:
        return " AND ".join(f"({part})" for part in self._parts) or "true"


def window(found: Conditions, column: str, since_ns: int, until_ns: int) -> None:
    found.add(f"{column} >= %s AND {column} < %s", within(since_ns), within(until_ns))


def of_traces(tenant: str, wanted: Wanted) -> Conditions:
    """Of `traces t`."""
    found = Conditions()
    found.add("t.tenant = %s", label(tenant))
    window(found, "t.started_ns", wanted.since_ns, wanted.until_ns)
    who = of_who(wanted, "p")
    if who.values:
        found.add(
            "EXISTS (SELECT FROM trace_parts p WHERE p.tenant = t.tenant"
            f" AND p.trace_id = t.trace_id AND {who.sql})",
            *who.values,
        )
    _add_status(found, "t.errors > 0", wanted)
    of_content(found, wanted)
    _add_sizes(found, wanted, took="t.ended_ns - t.started_ns", tokens=TOKENS, cost=COST)
    return found


def of_who(wanted: Wanted, part: str) -> Conditions:
    """Of `trace_parts`, by whatever name."""
    found = Conditions()
    for column, value in (
        ("agent_id", wanted.agent_id),
        ("agent_version", wanted.agent_version),
        ("user_name", wanted.user),
        ("session_id", wanted.session_id),
    ):
        if value:
            # The second half lets a partial index be used, whatever the plan is made for.
            found.add(f"{part}.{column} = %s AND {part}.{column} <> ''", label(value))
    return found


def of_content(found: Conditions, wanted: Wanted) -> None:
    """Of `traces t`: what is in the trace, whoever it is of."""
    if wanted.name:
        found.add("t.name = %s", storable(wanted.name))
    if wanted.model:
        found.add("%s = ANY(t.models)", label(wanted.model))
    if wanted.tool:
        found.add("%s = ANY(t.tools)", label(wanted.tool))
    for text, values in _of_attributes(wanted):
        found.add(
            f"EXISTS (SELECT FROM {_SPANS_OF_TRACE} {text})", within(wanted.since_ns), *values
        )


def of_sessions(wanted: Wanted) -> Conditions:
    """Of `s`, the sums of a session whose first part is `f`."""
    found = Conditions()
    _add_status(found, "s.errors > 0", wanted)
    _add_sizes(
        found, wanted, took="s.ended_ns - f.started_ns", tokens="s.input + s.output", cost="s.cost"
    )
    return found


def of_spans(tenant: str, wanted: Wanted, operation: str) -> Conditions:
    """Of `spans s`."""
    found = Conditions()
    found.add("s.tenant = %s", label(tenant))
    window(found, "s.started_ns", wanted.since_ns, wanted.until_ns)
    for column, value in (
        ("agent_id", wanted.agent_id),
        ("agent_version", wanted.agent_version),
        ("user_name", wanted.user),
        ("session_id", wanted.session_id),
        ("model", wanted.model),
        ("tool", wanted.tool),
    ):
        if value:
            found.add(f"s.{column} = %s", label(value))
    if wanted.session_id:
        found.add(_OF_SESSION, label(tenant), label(wanted.session_id))
    if operation:
        # The second half lets the partial index be used, whatever the plan is made for.
        found.add("s.operation = %s AND s.operation <> ''", label(operation))
    if wanted.name:
        found.add("s.name = %s", storable(wanted.name))
    _add_status(found, "s.status = 2", wanted)
    _add_sizes(
        found,
        wanted,
        took="s.ended_ns - s.started_ns",
        tokens="s.input_tokens + s.output_tokens",
        cost="s.cost",
    )
    for text, values in _of_attributes(wanted):
        found.add(text, *values)
    return found


def json_inside(text: str) -> str:
    """As it stands between the quotes of our JSON."""
    return msgspec.json.encode(text.encode("utf-8", "replace").decode()).decode()[1:-1]


def holding(column: str, text: str) -> Condition:
    """Whatever the case. In collation C the server folds ASCII alone, several times as fast as by
    any other; and not each server has another that folds more. So the rest is folded here."""
    if text.isascii():
        for special in ("\\", "%", "_"):
            text = text.replace(special, f"\\{special}")
        return f'{column} COLLATE "C" ILIKE %s', [f"%{text}%"]
    return f'{column} COLLATE "C" ~* %s', ["".join(_either_case(letter) for letter in text)]


def anywhere(text: str, *, plain: tuple[str, ...], json: tuple[str, ...]) -> Condition:
    """In one of these columns, of which `json` hold JSON."""
    found = [holding(column, storable(text)) for column in plain]
    found += [holding(column, json_inside(text)) for column in json]
    return " OR ".join(sql for sql, _ in found), [value for _, values in found for value in values]


def _either_case(letter: str) -> str:
    """As part of a regular expression that folds ASCII."""
    if letter.isascii():
        return letter if letter.isalnum() else f"\\{letter}"
    both = {letter, letter.lower(), letter.upper()}
    return f"[{''.join(sorted(each for each in both if len(each) == 1))}]"


def _of_attributes(wanted: Wanted) -> list[Condition]:
    """Of `spans s`; each may hold of another span of a trace."""
    found: list[Condition] = []
    for name, value in wanted.tags.items():
        # Between quotes a quote is escaped, so that this matches no text inside a value. An
        # attribute within another counts too.
        start = f'"{json_inside(name)}":'
        plain = [f"{start}{value}{end}" for end in (",", "}")] if _is_literal(value) else []
        wholes = [f'{start}"{json_inside(value)}"', *plain]
        found.append((" OR ".join(["strpos(s.attributes, %s) > 0"] * len(wholes)), wholes))
    if wanted.text:
        found.append(
            anywhere(wanted.text, plain=("s.name",), json=("s.attributes", "s.happenings"))
        )
    return [(f"({text})", values) for text, values in found]


def _is_literal(value: str) -> bool:
    try:
        return not isinstance(msgspec.json.decode(value), str | list | dict)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return False


def _add_status(found: Conditions, failed: str, wanted: Wanted) -> None:
    if wanted.status:
        found.add(failed if wanted.status == "error" else f"NOT ({failed})")


def _add_sizes(found: Conditions, wanted: Wanted, *, took: str, tokens: str, cost: str) -> None:
    for text, bound, scale in (
        (f"{took} >= %s", wanted.duration_ms_min, 1e6),
        (f"{took} <= %s", wanted.duration_ms_max, 1e6),
        (f"{tokens} >= %s", wanted.tokens_min, 1),
        (f"{tokens} <= %s", wanted.tokens_max, 1),
    ):
        if bound is not None:
            found.add(text, int(max(-1.0, min(bound * scale, INT8_MAX / 2))))
    if wanted.cost_min is not None:
        found.add(f"{cost} >= %s", wanted.cost_min)
    if wanted.cost_max is not None:
        found.add(f"{cost} <= %s", wanted.cost_max)
