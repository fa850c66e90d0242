-- Sessions of MCP's eras before 2026-07-28, so that any worker knows them and a restart loses none.
CREATE TABLE gateway_sessions (
    id text PRIMARY KEY,
    tenant text NOT NULL,
    gateway_id text NOT NULL,
    principal text NOT NULL,
    version text NOT NULL,
    capabilities json NOT NULL,
    info json NOT NULL,
    log_level text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    used_at timestamptz NOT NULL DEFAULT now(),
    ends_at timestamptz NOT NULL
);
CREATE INDEX gateway_sessions_by_end ON gateway_sessions (ends_at);
CREATE INDEX gateway_sessions_by_caller ON gateway_sessions (tenant, gateway_id, principal);

-- What one worker has for another about a session, where it is too long for a notification. Read
-- within a moment or never; deleted with the sessions that are over.
CREATE UNLOGGED TABLE gateway_letters (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text NOT NULL,
    body json NOT NULL,
    sent_at timestamptz NOT NULL DEFAULT now()
);
