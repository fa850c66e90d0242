"""What stands in the tables of limits: statements, and their values in Postgres' text format."""

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from freehold.ports.limits import Limit

SLOTS = 60
"""Of a window; see the migration."""

TAKE = "SELECT passed, refused, wait FROM rate_limit_take($1, $2, $3, $4, $5, $6, $7)"
ENTER = "SELECT entered FROM rate_limit_enter($1, $2, $3, $4)"
LEAVE = (
    "DELETE FROM rate_limit_places AS p USING unnest($1::uuid[], $2::text[]) AS gone (key, lease)"
    " WHERE p.key = gone.key AND p.lease = gone.lease"
)
SWEPT_MAX = 500
"""Of each table in one statement (see there): others wait for it."""
# Those of others that take part in a statement just now are let be: the next sweep has them.
SWEEP = (
    "WITH windows AS (DELETE FROM rate_limit_windows WHERE key IN (SELECT key"
    " FROM rate_limit_windows WHERE expires_at < clock_timestamp() LIMIT 500"
    " FOR UPDATE SKIP LOCKED) RETURNING 1), places AS (DELETE FROM rate_limit_places"
    " WHERE (key, lease) IN (SELECT key, lease FROM rate_limit_places"
    " WHERE until < clock_timestamp() LIMIT 500 FOR UPDATE SKIP LOCKED) RETURNING 1)"
    " SELECT (SELECT count(*) FROM windows) + (SELECT count(*) FROM places),"
    " EXISTS (SELECT 1 FROM rate_limit_windows WHERE expires_at >= clock_timestamp())"
    " OR EXISTS (SELECT 1 FROM rate_limit_places WHERE until >= clock_timestamp())"
)


class Group(NamedTuple):
    """What takes that are alike want: an entry a limit, in the format of the statement."""

    keys: tuple[bytes, ...]
    widths: tuple[bytes, ...]
    amounts: tuple[bytes, ...]
    costs: tuple[bytes, ...]


def hashed(key: str) -> bytes:
    """A key may name a person, and be of any length."""
    return hashlib.blake2b(key.encode(), digest_size=16).hexdigest().encode()


@lru_cache(maxsize=8192)
def group_of(limits: tuple[Limit, ...], cost: float) -> Group:
    """A limit whose `seconds` change has another window: what was counted before stays behind."""
    return Group(
        keys=tuple(hashed(f"{limit.key}|{limit.seconds!r}") for limit in limits),
        widths=tuple(_number(limit.seconds / SLOTS) for limit in limits),
        amounts=tuple(_number(limit.amount) for limit in limits),
        costs=tuple(_number(cost if limit.cost is None else limit.cost) for limit in limits),
    )


def charge_of(limits: tuple[Limit, ...], cost: float) -> Group:
    """It is never refused."""
    group = group_of(limits, 0)
    count = len(limits)
    return group._replace(amounts=(b"Infinity",) * count, costs=(_number(cost),) * count)


def statement(groups: Sequence[tuple[Group, int]]) -> tuple[bytes, ...]:
    """The values of TAKE, for groups and how many takes want each."""
    if len(groups) == 1 and len(groups[0][0].keys) == 1:
        group, wanted = groups[0]
        return (
            array(group.keys), array(group.widths), b"{%d}" % wanted, b"{1}", b"{1}",
            array(group.amounts), array(group.costs),
        )  # fmt: skip
    widths: dict[bytes, bytes] = {}
    for group, _ in groups:
        widths.update(zip(group.keys, group.widths, strict=True))
    ordered = sorted(widths)
    places = {key: b"%d" % place for place, key in enumerate(ordered, 1)}
    return (
        array(ordered),
        array(widths[key] for key in ordered),
        array(b"%d" % wanted for _, wanted in groups),
        array(b"%d" % number for number, (group, _) in enumerate(groups, 1) for _ in group.keys),
        array(places[key] for group, _ in groups for key in group.keys),
        array(amount for group, _ in groups for amount in group.amounts),
        array(cost for group, _ in groups for cost in group.costs),
    )


def array(values: Iterable[bytes]) -> bytes:
    """Of values that need no quoting."""
    return b"{" + b",".join(values) + b"}"


def _number(value: float) -> bytes:
    return repr(float(value)).encode()
