-- Control-plane resources of every kind. `document` is json, not jsonb: what a customer wrote
-- (a tool's schema) keeps the order of its members.
CREATE TABLE resources (
    tenant text NOT NULL,
    kind text NOT NULL,
    parent text NOT NULL,
    id text NOT NULL,
    parent_kind text NOT NULL,
    arn text NOT NULL,
    name text NOT NULL,
    unique_name text,
    version bigint NOT NULL,
    status text NOT NULL,
    document json NOT NULL,
    tags jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant, kind, parent, id),
    CONSTRAINT resources_name UNIQUE (tenant, kind, parent, unique_name),
    CONSTRAINT resources_arn UNIQUE (tenant, arn)
);
CREATE INDEX resources_by_age ON resources (tenant, kind, created_at, parent, id);
CREATE INDEX resources_by_name ON resources (tenant, kind, name);
CREATE INDEX resources_by_parent ON resources (tenant, parent, kind, created_at, id)
    WHERE parent <> '';

-- Versions that a newer one replaced. The newest stands in `resources`.
CREATE TABLE resource_versions (
    tenant text NOT NULL,
    kind text NOT NULL,
    parent text NOT NULL,
    id text NOT NULL,
    version bigint NOT NULL,
    status text NOT NULL,
    document json NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, kind, parent, id, version),
    FOREIGN KEY (tenant, kind, parent, id) REFERENCES resources ON DELETE CASCADE
);

-- Client tokens: what was asked with each, and which resource came of it.
CREATE TABLE idempotency (
    tenant text NOT NULL,
    operation text NOT NULL,
    token text NOT NULL,
    request_hash bytea NOT NULL,
    kind text NOT NULL,
    parent text NOT NULL,
    id text NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, operation, token)
);
CREATE INDEX idempotency_expired ON idempotency (expires_at);

-- Every version that can be read, the newest included.
CREATE VIEW resource_history AS
SELECT tenant, kind, id, arn, name, parent, version, status, document, tags,
       created_at, updated_at
FROM resources
UNION ALL
SELECT tenant, kind, id, r.arn, r.name, parent, v.version, v.status, v.document, r.tags,
       r.created_at, v.updated_at
FROM resource_versions v JOIN resources r USING (tenant, kind, parent, id);
