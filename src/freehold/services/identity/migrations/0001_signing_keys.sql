-- The platform's own, of no tenant: what this platform calls itself in the tokens that it signs,
-- and the keys it signs them with. A public key is never stored: it is derived from the sealed
-- private one, so that who can write here cannot add a key of theirs.
CREATE TABLE platform_identity (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    id uuid NOT NULL
);
CREATE TABLE signing_keys (
    id text PRIMARY KEY,
    sealed_private bytea NOT NULL,
    signs_from timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The JWT of the user for whom a workload access token was made, by that token's jti.
CREATE TABLE workload_user_tokens (
    tenant text NOT NULL,
    jti text NOT NULL,
    sealed_token bytea NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, jti)
);
CREATE INDEX workload_user_tokens_expired ON workload_user_tokens (expires_at);
