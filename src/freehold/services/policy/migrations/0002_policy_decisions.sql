-- Every decision of a policy engine on a tool call. `id` is a UUID whose order is that of `at`, so
-- that each index below gives its rows newest first, and retention is the low end of the key.
--
-- One table, not partitions: a partition that nobody made in time would stop every tool call, and
-- a few hundred thousand old rows a day go in small batches without anybody waiting.
CREATE TABLE policy_decisions (
    tenant           text NOT NULL,
    id               uuid NOT NULL,
    at               timestamptz NOT NULL,
    request_id       text NOT NULL,
    gateway_id       text NOT NULL,
    gateway_arn      text NOT NULL,
    engine_id        text NOT NULL,
    engine_version   text NOT NULL,
    schema_version   text NOT NULL,
    mode             text NOT NULL,
    tool             text NOT NULL,
    target           text NOT NULL,
    principal        text NOT NULL,
    principal_type   text NOT NULL,
    principal_kind   text NOT NULL,
    "user"           text,
    allowed          boolean NOT NULL,
    policies         text[] NOT NULL,
    -- How many; their text may repeat what was called with, and is sealed.
    errors           integer NOT NULL,
    shadow_allowed   boolean,
    shadow_policies  text[] NOT NULL,
    microseconds     integer NOT NULL,
    -- Arguments, claims, context and errors in one piece. Named so that a new key finds it.
    sealed_inputs    bytea NOT NULL,
    PRIMARY KEY (tenant, id)
);

-- What is encrypted cannot be compressed: do not try, and let its first bytes be read alone.
ALTER TABLE policy_decisions ALTER COLUMN sealed_inputs SET STORAGE EXTERNAL;

CREATE INDEX policy_decisions_gateway ON policy_decisions (tenant, gateway_id, id);
CREATE INDEX policy_decisions_engine ON policy_decisions (tenant, engine_id, id);
CREATE INDEX policy_decisions_tool ON policy_decisions (tenant, tool, id);
CREATE INDEX policy_decisions_principal ON policy_decisions (tenant, principal, id);
CREATE INDEX policy_decisions_user ON policy_decisions (tenant, "user", id)
    WHERE "user" IS NOT NULL;
CREATE INDEX policy_decisions_request ON policy_decisions (tenant, request_id);
-- Either outcome may be the rare one, and either mode.
CREATE INDEX policy_decisions_allowed ON policy_decisions (tenant, allowed, id);
CREATE INDEX policy_decisions_mode ON policy_decisions (tenant, mode, id);
CREATE INDEX policy_decisions_differs ON policy_decisions (tenant, id)
    WHERE shadow_allowed <> allowed;

-- Which policies decided, or would have: an index over the arrays could not give them by time.
CREATE TABLE policy_decision_policies (
    tenant  text NOT NULL,
    policy  text NOT NULL,
    id      uuid NOT NULL,
    PRIMARY KEY (tenant, policy, id)
);

-- How much of the inputs of an engine's decisions is shown. It outlives the engine: its decisions
-- do too.
CREATE TABLE policy_decision_views (
    tenant      text NOT NULL,
    engine_id   text NOT NULL,
    show        text NOT NULL,
    reveal      text[] NOT NULL,
    hide        text[] NOT NULL,
    changed_by  text NOT NULL,
    changed_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant, engine_id)
);
