"""The statements of the resources repository. Each change notifies in its own transaction."""

from typing import Any

import msgspec

from freehold.ports.resources import Resource

CHANNEL = "freehold_resources"
"""Payload: `{tenant}/{kind}/{id}`, of a child `{tenant}/{kind}/{parent}/{id}`."""

_COLUMNS = tuple(field.name for field in msgspec.structs.fields(Resource))


def _statement(template: str) -> str:
    """Fills in names of ours; values always travel as parameters."""
    return (
        template.replace("<columns>", ", ".join(_COLUMNS))
        .replace("<key>", "tenant = %(tenant)s AND kind = %(kind)s AND parent = %(parent)s")
        .replace(
            "<tell>",
            f"pg_notify('{CHANNEL}', concat_ws('/', tenant, kind, nullif(parent, ''), id))",
        )
    )


def resource(row: tuple[Any, ...]) -> Resource:
    return Resource(**dict(zip(_COLUMNS, row, strict=False)))


CREATE = _statement("""
WITH changed AS (
    INSERT INTO resources (tenant, kind, parent, id, parent_kind, arn, name, unique_name, version,
                           status, document, tags)
    VALUES (%(tenant)s, %(kind)s, %(parent)s, %(id)s, %(parent_kind)s, %(arn)s, %(name)s,
            %(unique_name)s, 1, %(status)s, %(document)s, %(tags)s)
    ON CONFLICT DO NOTHING
    RETURNING <columns>)
SELECT <columns>, <tell> FROM changed
""")

LOCK_PARENT = """
SELECT 1 FROM resources WHERE tenant = %(tenant)s AND kind = %(parent_kind)s
AND ((parent = '' AND id = %(parent)s) OR (parent = %(parent_parent)s AND id = %(parent_id)s))
FOR KEY SHARE
"""

GET = _statement("SELECT <columns> FROM resources WHERE <key> AND id = %(id)s")
LOCK = GET + " FOR NO KEY UPDATE"
LOCK_TO_DELETE = GET + " FOR UPDATE"

GET_VERSION = _statement(
    "SELECT <columns> FROM resource_history WHERE <key> AND id = %(id)s AND version = %(version)s"
)

FIND_BY_NAME = _statement(
    "SELECT <columns> FROM resources WHERE <key> AND name = %(name)s ORDER BY created_at LIMIT 1"
)

FIND_BY_ARN = _statement(
    "SELECT <columns> FROM resources WHERE tenant = %(tenant)s AND arn = %(arn)s"
)
LOCK_BY_ARN = FIND_BY_ARN + " FOR NO KEY UPDATE"

PAGE = _statement("""
SELECT <columns> FROM resources
WHERE tenant = %(tenant)s AND kind = %(kind)s
""")
PAGE_OF_PARENT = " AND parent = %(parent)s"
PAGE_OF_NAME = " AND name = %(name)s"
PAGE_AFTER = " AND (created_at, parent, id) > (%(after_time)s, %(after_parent)s, %(after_id)s)"
PAGE_END = " ORDER BY created_at, parent, id LIMIT %(limit)s"

IN_STATUS = _statement("""
SELECT <columns> FROM resources
WHERE kind = %(kind)s AND status = ANY(%(statuses)s) ORDER BY created_at, id
""")

LIST_VERSIONS = _statement("""
SELECT <columns> FROM resource_history
WHERE <key> AND id = %(id)s AND (%(before)s::bigint IS NULL OR version < %(before)s)
ORDER BY version DESC LIMIT %(limit)s
""")

KEEP_VERSION = _statement("""
INSERT INTO resource_versions (tenant, kind, parent, id, version, status, document, updated_at)
SELECT tenant, kind, parent, id, version, status, document, updated_at FROM resources
WHERE <key> AND id = %(id)s
""")

UPDATE = _statement("""
WITH changed AS (
    UPDATE resources SET document = %(document)s, status = coalesce(%(status)s, status),
           version = version + %(version_step)s, updated_at = clock_timestamp(),
           name = coalesce(%(name)s, name),
           unique_name = CASE WHEN unique_name IS NULL THEN NULL
                              ELSE coalesce(%(name)s, unique_name) END
    WHERE <key> AND id = %(id)s
    RETURNING <columns>)
SELECT <columns>, <tell> FROM changed
""")

SET_STATUS = _statement("""
WITH changed AS (
    UPDATE resources SET status = %(status)s, document = coalesce(%(document)s, document),
           updated_at = clock_timestamp()
    WHERE <key> AND id = %(id)s AND version = coalesce(%(version)s, version)
    RETURNING <columns>)
SELECT <columns>, <tell> FROM changed
""")

SET_STATUS_OF_OLD = _statement("""
WITH changed AS (
    UPDATE resource_versions SET status = %(status)s, document = coalesce(%(document)s, document),
           updated_at = clock_timestamp()
    WHERE <key> AND id = %(id)s AND version = %(version)s
    RETURNING tenant, kind, parent, id)
SELECT <tell> FROM changed
""")

# A child of a child has the path `{parent}/{id}` of its parent as its own `parent`.
DELETE = _statement("""
WITH gone AS (
    DELETE FROM resources
    WHERE (<key> AND id = %(id)s)
       OR (tenant = %(tenant)s AND parent = %(path)s AND parent <> ''
           AND parent_kind IN (%(kind)s, ''))
       OR (tenant = %(tenant)s AND parent <> '' AND starts_with(parent, %(path)s || '/'))
    RETURNING tenant, kind, parent, id)
SELECT <tell> FROM gone
""")

SET_TAGS = _statement("""
WITH changed AS (
    UPDATE resources SET tags = %(tags)s WHERE tenant = %(tenant)s AND arn = %(arn)s
    RETURNING tenant, kind, parent, id)
SELECT <tell> FROM changed
""")
