"""Client tokens: the same request twice does its work once."""

import hashlib
from typing import NamedTuple

import msgspec

from freehold.kernel.errors import Conflict
from freehold.ports.database import Connection
from freehold.ports.resources import Idempotency

_CLAIM = """
INSERT INTO idempotency AS known
    (tenant, operation, token, request_hash, kind, parent, id, expires_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, now() + make_interval(secs => %s))
ON CONFLICT (tenant, operation, token) DO UPDATE SET
    request_hash = excluded.request_hash, kind = excluded.kind, parent = excluded.parent,
    id = excluded.id, expires_at = excluded.expires_at
WHERE known.expires_at <= now()
RETURNING 1
"""

_KNOWN = """
SELECT request_hash, parent, id FROM idempotency
WHERE tenant = %s AND operation = %s AND token = %s
"""

_FORGET = """
DELETE FROM idempotency WHERE (tenant, operation, token) IN (
    SELECT tenant, operation, token FROM idempotency
    WHERE expires_at < now() - interval '1 hour' LIMIT 20 FOR UPDATE SKIP LOCKED)
"""


class Place(NamedTuple):
    """Where a resource stands within its tenant."""

    kind: str
    parent: str
    id: str


async def claim(
    connection: Connection, tenant: str, asked: Idempotency, place: Place, *, seconds: float
) -> Place | None:
    """None when the token is new, and now ours; else the place that it was used for.

    Runs in the transaction of the work: a second caller waits here until the first has committed
    or rolled back. Each claim also forgets a few expired tokens, so that no one has to sweep.
    """
    hashed = hashlib.sha256(msgspec.json.encode(asked.request, order="deterministic")).digest()
    key = (tenant, asked.operation, asked.token)
    claimed = await connection.execute(_CLAIM, (*key, hashed, *place, seconds))
    if await claimed.fetchone() is not None:
        await connection.execute(_FORGET)
        return None
    known = await (await connection.execute(_KNOWN, key)).fetchone()
    assert known is not None, "the claim has waited for it and locked it"
    request_hash, parent, id = known
    if request_hash != hashed:
        raise Conflict("the client token was used before, with a different request")
    return Place(place.kind, parent, id)
