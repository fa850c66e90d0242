-- Which account a gateway is of: calls come with its id alone.
CREATE TABLE gateways (
    gateway_id text PRIMARY KEY,
    tenant text NOT NULL
);

-- What a target has beside its resource.
CREATE TABLE gateway_targets (
    tenant text NOT NULL,
    gateway_id text NOT NULL,
    target_id text NOT NULL,
    -- The inline document of its configuration, which may be a megabyte: only descriptions read it.
    document json,
    -- What its last description said of itself.
    server json NOT NULL DEFAULT '{}',
    synchronized_at timestamptz,
    -- How often it is to be asked again (NULL: never), and when next.
    refresh_seconds integer,
    refresh_at timestamptz,
    refresh_failure text,
    -- Since when a person's consent is waited for.
    pending_at timestamptz,
    PRIMARY KEY (tenant, gateway_id, target_id)
);
CREATE INDEX gateway_targets_due ON gateway_targets (refresh_at) WHERE refresh_at IS NOT NULL;
CREATE INDEX gateway_targets_pending ON gateway_targets (pending_at) WHERE pending_at IS NOT NULL;

-- What each target offers: the definition in force, and a changed one that waits for approval.
CREATE TABLE gateway_definitions (
    tenant text NOT NULL,
    gateway_id text NOT NULL,
    target_id text NOT NULL,
    kind text NOT NULL,
    name text NOT NULL,
    position integer NOT NULL,
    -- In force. NULL where nobody has approved any yet.
    document json,
    plan json,
    hash text,
    approved_by text,
    approved_at timestamptz,
    -- Whether the target offered it when it was last asked: what is gone keeps its pin.
    present boolean NOT NULL,
    -- Who came first keeps a name that two want.
    first_at timestamptz NOT NULL,
    -- Seen since, and different: quarantined while this is not NULL.
    pending_document json,
    pending_plan json,
    pending_hash text,
    pending_why text,
    pending_at timestamptz,
    -- Who said no to what is pending.
    rejected_by text,
    PRIMARY KEY (tenant, gateway_id, target_id, kind, name)
);

-- What of a target could not be taken over, as of its last synchronisation.
CREATE TABLE gateway_problems (
    tenant text NOT NULL,
    gateway_id text NOT NULL,
    target_id text NOT NULL,
    position integer NOT NULL,
    place text NOT NULL,
    why text NOT NULL,
    skipped boolean NOT NULL,
    PRIMARY KEY (tenant, gateway_id, target_id, position)
);

-- Which agents and users may use which tools: a principal that a group names sees its tools alone.
CREATE TABLE gateway_action_groups (
    tenant text NOT NULL,
    gateway_id text NOT NULL,
    name text NOT NULL,
    document json NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, gateway_id, name)
);
