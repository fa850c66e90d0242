-- What a policy has beside its resource: what is in force of it, while its resource shows what was
-- last asked for. No version: nothing of it ever was in force.
CREATE TABLE policies (
    tenant text NOT NULL,
    engine_id text NOT NULL,
    policy_id text NOT NULL,
    name text NOT NULL,
    -- Of what was last asked for: the gateway that it speaks of ('' for all), and its size.
    asked_gateway text NOT NULL,
    asked_bytes integer NOT NULL,
    version integer,
    mode text CHECK (mode IN ('ACTIVE', 'LOG_ONLY')),
    statement text,
    gateway text,
    PRIMARY KEY (tenant, engine_id, policy_id),
    CHECK (num_nulls(version, mode, statement, gateway) IN (0, 4))
);

-- Changes that were refused as they allow more, and who acknowledged them.
CREATE TABLE policy_acknowledgements (
    tenant text NOT NULL,
    engine_id text NOT NULL,
    digest text NOT NULL,
    operation text NOT NULL,
    shown text NOT NULL,
    refused_by text NOT NULL,
    refused_at timestamptz NOT NULL DEFAULT now(),
    acknowledged_by text,
    acknowledged_at timestamptz,
    used_at timestamptz,
    PRIMARY KEY (tenant, engine_id, digest)
);
CREATE INDEX policy_acknowledgements_by_time ON policy_acknowledgements (refused_at);
