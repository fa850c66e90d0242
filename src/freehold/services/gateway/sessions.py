"""Sessions of MCP's eras before 2026-07-28, for any worker; and letters between workers about them.

Implements `ports.mcp.Sessions` and `ports.mcp.Handover`. A session lives from the last use of it
for as long as its gateway says; its row is written again only after an eighth of that, and given
that much more, so that no session ends early and few calls write.
"""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import msgspec

from freehold.kernel.caller import Caller
from freehold.kernel.errors import Throttled
from freehold.ports.database import Connection, Database
from freehold.ports.mcp import Door, Letter, Session

CHANNEL = "gateway_sessions"
LETTERS = "gateway_letters"
EACH_MAX = 10_000
"""Of one principal's at one gateway."""
CACHED_MAX = 10_000
SWEEP_SECONDS = 300.0
LETTER_BYTES_INLINE_MAX = 7000
_SWEPT_AT_ONCE = 5000


class _Known(msgspec.Struct):
    """`ends_at` as the row has it, and when it was written. Seconds of the monotonic clock."""

    session: Session
    ends: float
    written: float


class GatewaySessions:
    """`seconds` tells the time that passes; tests have it pass faster."""

    def __init__(
        self, database: Database, *, seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self._database, self._seconds = database, seconds
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._changes = 0
        self._swept = seconds()
        database.listen(CHANNEL, self._changed)

    async def begin(
        self,
        door: Door,
        caller: Caller,
        *,
        version: str,
        capabilities: dict[str, Any],
        info: dict[str, Any],
    ) -> Session:
        session = Session(
            id=secrets.token_urlsafe(24),
            tenant=door.tenant,
            gateway_id=door.gateway_id,
            principal=caller.principal,
            version=version,
            capabilities=capabilities,
            info=info,
        )
        async with self._database.connection() as connection:
            await self._sweep(connection)
            cursor = await connection.execute(
                """
                INSERT INTO gateway_sessions
                    (id, tenant, gateway_id, principal, version, capabilities, info, ends_at)
                SELECT %(id)s, %(tenant)s, %(gateway)s, %(principal)s, %(version)s,
                    %(capabilities)s, %(info)s, now() + make_interval(secs => %(seconds)s)
                WHERE (
                    SELECT count(*) FROM (
                        SELECT 1 FROM gateway_sessions
                        WHERE tenant = %(tenant)s AND gateway_id = %(gateway)s
                            AND principal = %(principal)s
                        LIMIT %(most)s
                    ) AS own
                ) < %(most)s
                """,
                {
                    "id": session.id,
                    "tenant": session.tenant,
                    "gateway": session.gateway_id,
                    "principal": session.principal,
                    "version": version,
                    "capabilities": msgspec.json.encode(capabilities).decode(),
                    "info": msgspec.json.encode(info).decode(),
                    "seconds": _kept_seconds(door),
                    "most": EACH_MAX,
                },
            )
        if not cursor.rowcount:
            raise Throttled("Too many sessions are open. End one first.")
        now = self._seconds()
        self._keep(_Known(session, now + _kept_seconds(door), now))
        return session

    async def find(self, id: str, door: Door, caller: Caller) -> Session | None:
        now = self._seconds()
        known = self._known.get(id)
        if known is None or known.ends <= now:
            # Another worker may have used it since.
            known = await self._read(id, now)
        if known is None:
            return None
        session = known.session
        if (
            session.principal != caller.principal
            or session.gateway_id != door.gateway_id
            or session.tenant != door.tenant
        ):
            return None
        if now - known.written > door.session_seconds / 8:
            await self._lengthen(known, door)
        return session

    async def set_log_level(self, session: Session, level: str) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(
                "UPDATE gateway_sessions SET log_level = %s WHERE id = %s AND tenant = %s",
                (level, session.id, session.tenant),
            )
            await self._database.notify(connection, CHANNEL, session.id)
        self._known.pop(session.id, None)

    async def end(self, session: Session) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(
                "DELETE FROM gateway_sessions WHERE id = %s AND tenant = %s",
                (session.id, session.tenant),
            )
            await self._database.notify(connection, CHANNEL, session.id)
            ended = _Slip(session.id, "ended", "", None, {})
            await self._database.notify(connection, LETTERS, _text(ended))
        self._known.pop(session.id, None)

    async def send(self, letter: Letter) -> None:
        slip = _Slip(letter.session, letter.kind, letter.key, None, letter.body)
        text = _text(slip)
        async with self._database.transaction() as connection:
            if len(text) > LETTER_BYTES_INLINE_MAX:
                cursor = await connection.execute(
                    """
                    INSERT INTO gateway_letters (tenant, body)
                    SELECT tenant, %s FROM gateway_sessions WHERE id = %s RETURNING id
                    """,
                    (msgspec.json.encode(letter.body).decode(), letter.session),
                )
                row = await cursor.fetchone()
                if row is None:
                    return  # the session is over
                text = _text(msgspec.structs.replace(slip, stored=row[0], body={}))
            await self._database.notify(connection, LETTERS, text)

    def listen(self, wanted: Callable[[Letter], bool], heard: Callable[[Letter], None]) -> None:
        async def came(text: str) -> None:
            if not text:
                return  # what was lost with the connection, is lost
            slip = msgspec.json.decode(text, type=_Slip)
            letter = Letter(session=slip.session, kind=slip.kind, key=slip.key)  # type: ignore[arg-type]
            if not wanted(letter):
                return
            body = slip.body if slip.stored is None else await self._body(slip.stored)
            if body is not None:
                heard(msgspec.structs.replace(letter, body=body))

        self._database.listen(LETTERS, came)

    async def _body(self, id: int) -> dict[str, Any] | None:
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                "SELECT body FROM gateway_letters WHERE id = %s", (id,)
            )
            row = await cursor.fetchone()
        return row[0] if row is not None else None

    async def _read(self, id: str, now: float) -> _Known | None:
        self._known.pop(id, None)
        changes = self._changes
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                """
                SELECT tenant, gateway_id, principal, version, capabilities, info, log_level,
                    extract(epoch FROM ends_at - now())::float8
                FROM gateway_sessions WHERE id = %s AND ends_at > now()
                """,
                (id,),
            )
            row = await cursor.fetchone()
        if row is None:
            return None
        session = Session(
            id=id, tenant=row[0], gateway_id=row[1], principal=row[2], version=row[3],
            capabilities=row[4], info=row[5], log_level=row[6],
        )  # fmt: skip
        # Not written by this worker: the next use lengthens it.
        known = _Known(session, now + row[7], float("-inf"))
        if changes == self._changes:  # else it may have ended while it was read
            self._keep(known)
        return known

    async def _lengthen(self, known: _Known, door: Door) -> None:
        now, seconds = self._seconds(), _kept_seconds(door)
        known.written = now
        async with self._database.connection() as connection:
            await connection.execute(
                """
                UPDATE gateway_sessions
                SET used_at = now(), ends_at = now() + make_interval(secs => %s)
                WHERE id = %s
                """,
                (seconds, known.session.id),
            )
        known.ends = now + seconds

    def _keep(self, known: _Known) -> None:
        self._known[known.session.id] = known
        while len(self._known) > CACHED_MAX:
            self._known.popitem(last=False)

    def _changed(self, id: str) -> None:
        self._changes += 1
        if id:
            self._known.pop(id, None)
        else:
            self._known.clear()

    async def _sweep(self, connection: Connection) -> None:
        """Now and then, by whoever begins a session: nothing waits for it."""
        now = self._seconds()
        if now - self._swept < SWEEP_SECONDS:
            return
        self._swept = now
        await connection.execute(
            """
            DELETE FROM gateway_sessions WHERE id IN (
                SELECT id FROM gateway_sessions WHERE ends_at <= now()
                LIMIT %s FOR UPDATE SKIP LOCKED
            )
            """,
            (_SWEPT_AT_ONCE,),
        )
        await connection.execute(
            "DELETE FROM gateway_letters WHERE sent_at < now() - interval '1 minute'"
        )


class _Slip(msgspec.Struct, frozen=True, array_like=True):
    """What goes in a notification; `stored`: where the body is, of a letter too long for one."""

    session: str
    kind: str
    key: str
    stored: int | None
    body: dict[str, Any]


def _text(slip: _Slip) -> str:
    return msgspec.json.encode(slip).decode()


def _kept_seconds(door: Door) -> float:
    return door.session_seconds * 9 / 8
