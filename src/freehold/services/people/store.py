"""SQL of tenants, people and their roles. What changes who may call tells all workers."""

from datetime import datetime
from typing import Any

from freehold.ports.database import Connection
from freehold.services.people.model import Member, Person, Tenant

CHANNEL = "freehold_people"
"""Payload: the id of a person, or "" for more than one."""

_COLUMNS = (
    "p.id, p.tenant, p.name, p.email, p.issuer, p.subject, p.active, p.created_at,"
    " p.last_sign_in_at"
)

# Of those who were added here, and those who have a role here.
_MEMBERS = f"""
SELECT {_COLUMNS},
    coalesce(array_agg(r.role) FILTER (WHERE r.source = 'assigned'), '{{}}'),
    coalesce(array_agg(r.role) FILTER (WHERE r.source = 'claims'), '{{}}')
FROM people p LEFT JOIN people_roles r ON r.person = p.id AND r.tenant = %(tenant)s
WHERE (p.tenant = %(tenant)s OR r.person IS NOT NULL) AND (%(id)s::text IS NULL OR p.id = %(id)s
    OR lower(p.name) = lower(%(id)s))
GROUP BY p.id ORDER BY p.created_at, p.id
"""  # noqa: S608 - a constant of ours

_ADMINS_LEFT = """
SELECT count(DISTINCT p.id) FROM people p JOIN people_roles r ON r.person = p.id
WHERE r.tenant = %s AND r.role = 'admin' AND p.active
"""

_LOCAL_ADMINS = _ADMINS_LEFT + " AND p.password_hash IS NOT NULL"

_ROLES = """
SELECT r.tenant, coalesce(t.name, ''), array_agg(DISTINCT r.role)
FROM people_roles r LEFT JOIN tenants t ON t.tenant = r.tenant
WHERE r.person = %s AND coalesce(t.active, true)
GROUP BY r.tenant, t.name ORDER BY r.tenant
"""


async def lock(connection: Connection) -> None:
    """Changes of people, which are rare, come one after the other until the transaction ends."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('freehold people', 0))")


async def tell(connection: Connection, payload: str = "") -> None:
    await connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, payload))


# -- tenants


async def insert_tenant(
    connection: Connection, tenant: str, name: str, *, tenants_max: int
) -> Tenant | None:
    """None when it is there already, or there are too many."""
    found = await connection.execute(
        "INSERT INTO tenants (tenant, name) SELECT %s, %s"
        " WHERE (SELECT count(*) FROM tenants) < %s ON CONFLICT DO NOTHING"
        " RETURNING tenant, name, active, created_at",
        (tenant, name, tenants_max),
    )
    return _tenant(await found.fetchone())


async def tenants(connection: Connection) -> list[Tenant]:
    found = await connection.execute(
        "SELECT tenant, name, active, created_at FROM tenants ORDER BY created_at, tenant"
    )
    return [t for row in await found.fetchall() if (t := _tenant(row))]


async def set_tenant_active(connection: Connection, tenant: str, *, active: bool) -> Tenant | None:
    found = await connection.execute(
        "UPDATE tenants SET active = %s WHERE tenant = %s"
        " RETURNING tenant, name, active, created_at",
        (active, tenant),
    )
    return _tenant(await found.fetchone())


async def disabled_tenants(connection: Connection) -> frozenset[str]:
    found = await connection.execute("SELECT tenant FROM tenants WHERE NOT active")
    return frozenset(row[0] for row in await found.fetchall())


# -- people


async def insert_person(
    connection: Connection,
    *,
    tenant: str,
    id: str,
    name: str,
    email: str | None = None,
    issuer: str | None = None,
    subject: str | None = None,
    password_hash: str | None = None,
) -> bool:
    """False when the name, the email or the subject is somebody's."""
    done = await connection.execute(
        "INSERT INTO people (tenant, id, name, email, issuer, subject, password_hash)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
        (tenant, id, name, email, issuer, subject, password_hash),
    )
    return done.rowcount == 1


async def members(connection: Connection, tenant: str, id: str | None = None) -> list[Member]:
    """All of a tenant's, or the one of that id or name."""
    found = await connection.execute(_MEMBERS, {"tenant": tenant, "id": id})
    return [
        Member(person=_person(row), assigned=frozenset(row[9]), claimed=frozenset(row[10]))
        for row in await found.fetchall()
    ]


async def count_of_home(connection: Connection, tenant: str) -> int:
    found = await connection.execute("SELECT count(*) FROM people WHERE tenant = %s", (tenant,))
    row = await found.fetchone()
    return int(row[0]) if row else 0


async def person_by_id(connection: Connection, id: str) -> Person | None:
    return await _one(connection, "p.id = %s", (id,))


async def person_by_subject(connection: Connection, issuer: str, subject: str) -> Person | None:
    return await _one(connection, "p.issuer = %s AND p.subject = %s", (issuer, subject))


async def link(connection: Connection, email: str, issuer: str, subject: str) -> Person | None:
    """Whom an admin added by this email, and nobody has signed in as."""
    done = await connection.execute(
        "UPDATE people SET issuer = %s, subject = %s WHERE lower(email) = lower(%s)"
        " AND subject IS NULL AND password_hash IS NULL RETURNING id",
        (issuer, subject, email),
    )
    row = await done.fetchone()
    return await person_by_id(connection, row[0]) if row else None


async def set_email(connection: Connection, id: str, email: str) -> None:
    """Unless it is somebody else's."""
    await connection.execute(
        "UPDATE people SET email = %(email)s WHERE id = %(id)s"
        " AND NOT EXISTS (SELECT FROM people WHERE lower(email) = lower(%(email)s))",
        {"id": id, "email": email},
    )


async def password_of(connection: Connection, name: str) -> tuple[Person, str] | None:
    found = await connection.execute(
        f"SELECT {_COLUMNS}, p.password_hash FROM people p"  # noqa: S608 - a constant of ours
        " WHERE lower(p.name) = lower(%s) AND p.password_hash IS NOT NULL",
        (name,),
    )
    row = await found.fetchone()
    return (_person(row), row[9]) if row else None


async def set_password(connection: Connection, id: str, password_hash: str) -> None:
    await connection.execute(
        "UPDATE people SET password_hash = %s WHERE id = %s", (password_hash, id)
    )


async def set_person_active(connection: Connection, id: str, *, active: bool) -> None:
    await connection.execute("UPDATE people SET active = %s WHERE id = %s", (active, id))


async def note_sign_in(connection: Connection, id: str, at: datetime) -> None:
    await connection.execute("UPDATE people SET last_sign_in_at = %s WHERE id = %s", (at, id))


async def delete_person(connection: Connection, id: str) -> None:
    await connection.execute("DELETE FROM people WHERE id = %s", (id,))


async def end_sign_ins(connection: Connection, id: str, tenant: str | None = None) -> None:
    """Every session and every temporary credential of a person; or those in one tenant."""
    for table in ("people_sessions", "people_credentials", "people_devices"):
        await connection.execute(
            f"DELETE FROM {table} WHERE person = %(id)s"  # noqa: S608 - a constant of ours
            " AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s)",
            {"id": id, "tenant": tenant},
        )


# -- roles


async def put_roles(
    connection: Connection, tenant: str, person: str, roles: frozenset[str], source: str
) -> None:
    await connection.execute(
        "DELETE FROM people_roles WHERE tenant = %s AND person = %s AND source = %s",
        (tenant, person, source),
    )
    for role in sorted(roles):
        await connection.execute(
            "INSERT INTO people_roles (tenant, person, role, source) VALUES (%s, %s, %s, %s)",
            (tenant, person, role, source),
        )


async def drop_roles(connection: Connection, person: str, source: str) -> None:
    """In every tenant."""
    await connection.execute(
        "DELETE FROM people_roles WHERE person = %s AND source = %s", (person, source)
    )


async def roles_by_tenant(
    connection: Connection, person: str
) -> dict[str, tuple[str, frozenset[str]]]:
    """Name of the tenant and the roles there, of active tenants."""
    found = await connection.execute(_ROLES, (person,))
    return {row[0]: (row[1], frozenset(row[2])) for row in await found.fetchall()}


async def tenants_of(connection: Connection, person: str) -> frozenset[str]:
    found = await connection.execute(
        "SELECT DISTINCT tenant FROM people_roles WHERE person = %s", (person,)
    )
    return frozenset(row[0] for row in await found.fetchall())


async def admins(connection: Connection, tenant: str) -> int:
    row = await (await connection.execute(_ADMINS_LEFT, (tenant,))).fetchone()
    return int(row[0]) if row else 0


async def local_admins(connection: Connection, tenant: str) -> int:
    """Those who can sign in with a password."""
    row = await (await connection.execute(_LOCAL_ADMINS, (tenant,))).fetchone()
    return int(row[0]) if row else 0


async def _one(connection: Connection, where: str, values: tuple[Any, ...]) -> Person | None:
    found = await connection.execute(
        f"SELECT {_COLUMNS} FROM people p WHERE {where}",  # noqa: S608 - constants of ours
        values,
    )
    row = await found.fetchone()
    return _person(row) if row else None


def _tenant(row: tuple[Any, ...] | None) -> Tenant | None:
    if row is None:
        return None
    return Tenant(tenant=row[0], name=row[1], active=row[2], created_at=row[3])


def _person(row: tuple[Any, ...]) -> Person:
    return Person(
        id=row[0],
        home=row[1],
        name=row[2],
        email=row[3],
        issuer=row[4],
        subject=row[5],
        active=row[6],
        created_at=row[7],
        last_sign_in_at=row[8],
    )
