CREATE TABLE access_keys (
    tenant text NOT NULL,
    id text NOT NULL,
    sealed_secret bytea NOT NULL,
    description text NOT NULL,
    active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_used_at timestamptz,
    PRIMARY KEY (tenant, id)
);
-- A request names its key alone; the key names the tenant.
CREATE UNIQUE INDEX access_keys_id ON access_keys (id);
