-- What was granted, and what is being fetched just now. `id` is a digest of everything that the
-- grant is for; `version` counts what was stored and is part of the seal.
CREATE TABLE oauth_grants (
    tenant text NOT NULL,
    id text NOT NULL,
    provider text NOT NULL,
    workload text NOT NULL,
    user_id text NOT NULL,
    flow text NOT NULL,
    scopes text[] NOT NULL,
    resources text[] NOT NULL,
    version integer NOT NULL,
    sealed bytea,
    renew_at timestamptz,
    expires_at timestamptz,
    refreshable boolean NOT NULL DEFAULT false,
    renewal text,
    renewal_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant, id)
);
CREATE INDEX oauth_grants_of_users ON oauth_grants (tenant, user_id, created_at);
CREATE INDEX oauth_grants_over ON oauth_grants (expires_at) WHERE NOT refreshable;

-- A user's authorization under way. `sealed` holds the PKCE verifier, the application's state, and
-- later the code. Of state and browser binding there are digests alone.
CREATE TABLE oauth_sessions (
    tenant text NOT NULL,
    id text NOT NULL,
    grant_id text NOT NULL,
    provider text NOT NULL,
    workload text NOT NULL,
    user_id text NOT NULL,
    scopes text[] NOT NULL,
    resources text[] NOT NULL,
    audiences text[] NOT NULL,
    return_url text,
    redirect_uri text NOT NULL,
    phase text NOT NULL,
    failure text NOT NULL DEFAULT '',
    sealed bytea,
    ticket_hash bytea,
    state_hash bytea,
    browser_hash bytea,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX oauth_sessions_id ON oauth_sessions (id);
CREATE UNIQUE INDEX oauth_sessions_state ON oauth_sessions (state_hash);
CREATE INDEX oauth_sessions_over ON oauth_sessions (expires_at);
CREATE INDEX oauth_sessions_of_users ON oauth_sessions (tenant, user_id, workload, created_at);
