"""SQL of the table resource_policies. A trigger tells all workers of every change."""

import psycopg

from freehold.ports.database import Connection

CHANNEL = "freehold_resource_policies"
"""Payload: "{tenant}/{resource}" of the policy that changed."""

_PUT = """
INSERT INTO resource_policies (tenant, resource, arn, policy)
VALUES (%(tenant)s, %(resource)s, %(arn)s, %(policy)s)
ON CONFLICT (tenant, resource) DO UPDATE
SET policy = excluded.policy, updated_at = clock_timestamp()
"""
_GET = "SELECT arn, policy FROM resource_policies WHERE tenant = %s AND resource = %s"
_DELETE = "DELETE FROM resource_policies WHERE tenant = %s AND arn = %s"


async def put(connection: Connection, *, tenant: str, resource: str, arn: str, policy: str) -> bool:
    """False where there is no such resource."""
    values = {"tenant": tenant, "resource": resource, "arn": arn, "policy": policy}
    try:
        await connection.execute(_PUT, values)
    except psycopg.errors.ForeignKeyViolation:
        return False
    return True


async def get(connection: Connection, tenant: str, resource: str) -> tuple[str, str] | None:
    """The resource's ARN and its policy."""
    row = await (await connection.execute(_GET, (tenant, resource))).fetchone()
    return None if row is None else (row[0], row[1])


async def delete(connection: Connection, tenant: str, arn: str) -> bool:
    return (await connection.execute(_DELETE, (tenant, arn))).rowcount == 1
