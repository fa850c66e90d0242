-- Secrets of credential providers: sealed here, or a reference to one that the operator keeps.
-- `version` is new with every write and part of the seal.
CREATE TABLE vault_secrets (
    tenant text NOT NULL,
    kind text NOT NULL,
    name text NOT NULL,
    version bigint NOT NULL,
    sealed bytea,
    secret_id text,
    json_key text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant, kind, name),
    CHECK ((sealed IS NULL) <> (secret_id IS NULL))
);

-- Whose callback an address is: a provider's answer names nothing else.
CREATE TABLE vault_callbacks (
    callback_id text PRIMARY KEY,
    tenant text NOT NULL,
    name text NOT NULL
);
CREATE INDEX vault_callbacks_of ON vault_callbacks (tenant, name);

-- Secrets that are to be changed now and then: by us (`registration`), or by people (`reminder`).
CREATE TABLE vault_schedules (
    tenant text NOT NULL,
    kind text NOT NULL,
    name text NOT NULL,
    way text NOT NULL,
    every_days integer NOT NULL,
    due_at timestamptz NOT NULL,
    failure text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant, kind, name)
);
CREATE INDEX vault_schedules_due ON vault_schedules (due_at);
