"""SQL of oauth_sessions. Each step is one statement that names the phase it leaves: of two at once
only one takes it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from freehold.ports.database import Connection
from freehold.services.oauth.model import FINISHED_KEPT, OPEN, OPEN_SESSIONS_MAX, Phase, Session

_COLUMNS = """tenant, id, grant_id, provider, workload, user_id, scopes, resources, audiences,
    return_url, redirect_uri, phase, failure, sealed, browser_hash, expires_at"""

_OPEN_PHASES = [phase.value for phase in OPEN]

_INSERT = f"""
INSERT INTO oauth_sessions ({_COLUMNS})
VALUES (%(tenant)s, %(id)s, %(grant_id)s, %(provider)s, %(workload)s, %(user)s, %(scopes)s,
    %(resources)s, %(audiences)s, %(return_url)s, %(redirect_uri)s, %(phase)s, '', %(sealed)s,
    NULL, %(expires_at)s)
"""  # noqa: S608 - constants alone

_TRIM = """
DELETE FROM oauth_sessions WHERE (tenant, id) IN (
    SELECT tenant, id FROM oauth_sessions
    WHERE tenant = %(tenant)s AND user_id = %(user)s AND workload = %(workload)s
        AND phase = ANY(%(open)s)
    ORDER BY created_at DESC OFFSET %(most)s)
"""

_SWEEP = """
DELETE FROM oauth_sessions WHERE ctid IN (
    SELECT ctid FROM oauth_sessions WHERE expires_at < now() - %s LIMIT 200 FOR UPDATE SKIP LOCKED)
"""

_GET = f"SELECT {_COLUMNS} FROM oauth_sessions WHERE id = %s"  # noqa: S608 - constants alone

_APPROVE = """
UPDATE oauth_sessions SET ticket_hash = %(ticket)s
WHERE id = %(id)s AND return_url IS NULL AND phase = ANY(%(from)s)
    AND expires_at > clock_timestamp()
"""

# Opened twice (a reload, a preview of the link), the last one counts.
_LEAVE = """
UPDATE oauth_sessions SET phase = 'UNDER_WAY', state_hash = %(state)s, browser_hash = %(browser)s,
    sealed = %(sealed)s, ticket_hash = NULL
WHERE id = %(id)s AND phase IN ('ASKED', 'UNDER_WAY') AND expires_at > clock_timestamp()
    AND ticket_hash IS NOT DISTINCT FROM %(ticket)s
    AND (return_url IS NOT NULL OR ticket_hash IS NOT NULL)
"""

# Takes the state away: it is good for one answer.
_RETURN = f"""
UPDATE oauth_sessions SET state_hash = NULL, phase = 'REDEEMING'
WHERE state_hash = %s AND phase = 'UNDER_WAY' AND expires_at > clock_timestamp()
RETURNING {_COLUMNS}
"""  # noqa: S608 - constants alone

_MOVE = """
UPDATE oauth_sessions SET phase = %(to)s, failure = %(failure)s, sealed = %(sealed)s,
    state_hash = NULL, browser_hash = NULL, ticket_hash = NULL
WHERE tenant = %(tenant)s AND id = %(id)s AND phase = ANY(%(from)s)
    AND (%(to)s = 'FAILED' OR expires_at > clock_timestamp())
"""


async def insert(
    connection: Connection, session: Session, *, sealed: bytes, open_max: int = OPEN_SESSIONS_MAX
) -> None:
    await connection.execute(
        _INSERT,
        {
            "tenant": session.tenant,
            "id": session.id,
            "grant_id": session.grant_id,
            "provider": session.provider,
            "workload": session.workload,
            "user": session.user,
            "scopes": list(session.scopes),
            "resources": list(session.resources),
            "audiences": list(session.audiences),
            "return_url": session.return_url,
            "redirect_uri": session.redirect_uri,
            "phase": session.phase.value,
            "sealed": sealed,
            "expires_at": session.expires_at,
        },
    )
    await connection.execute(
        _TRIM,
        {
            "tenant": session.tenant, "user": session.user, "workload": session.workload,
            "open": _OPEN_PHASES, "most": open_max,
        },
    )  # fmt: skip
    await connection.execute(_SWEEP, (FINISHED_KEPT,))


async def get(connection: Connection, id: str) -> Session | None:
    """Of whichever tenant: the caller compares."""
    row = await (await connection.execute(_GET, (id,))).fetchone()
    return None if row is None else _session(row)


async def approve(connection: Connection, id: str, ticket: bytes) -> bool:
    values = {"id": id, "ticket": ticket, "from": ["ASKED", "UNDER_WAY"]}
    return (await connection.execute(_APPROVE, values)).rowcount == 1


async def leave(
    connection: Connection,
    id: str,
    *,
    ticket: bytes | None,
    state: bytes,
    browser: bytes,
    sealed: bytes,
) -> bool:
    values = {"id": id, "ticket": ticket, "state": state, "browser": browser, "sealed": sealed}
    return (await connection.execute(_LEAVE, values)).rowcount == 1


async def come_back(connection: Connection, state: bytes) -> Session | None:
    row = await (await connection.execute(_RETURN, (state,))).fetchone()
    return None if row is None else _session(row)


async def move(
    connection: Connection,
    session: Session,
    came_from: Sequence[Phase],
    to: Phase,
    *,
    failure: str = "",
    sealed: bytes | None = None,
) -> bool:
    """What was sealed goes, unless there is something new to seal."""
    values = {
        "tenant": session.tenant, "id": session.id, "from": [p.value for p in came_from],
        "to": to.value, "failure": failure, "sealed": sealed,
    }  # fmt: skip
    return (await connection.execute(_MOVE, values)).rowcount == 1


def _session(row: tuple[Any, ...]) -> Session:
    expires_at: datetime = row[15]
    return Session(
        tenant=row[0],
        id=row[1],
        grant_id=row[2],
        provider=row[3],
        workload=row[4],
        user=row[5],
        scopes=tuple(row[6]),
        resources=tuple(row[7]),
        audiences=tuple(row[8]),
        return_url=row[9],
        redirect_uri=row[10],
        phase=Phase(row[11]),
        failure=row[12],
        sealed=row[13],
        browser_hash=row[14],
        expires_at=expires_at,
    )
