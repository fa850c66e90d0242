-- Tenants' own keys. The newest version seals; one that no value is sealed under is deleted.
-- `wrapped_by` names the key-encryption key that `wrapped_key` needs.
CREATE TABLE tenant_keys (
    tenant text NOT NULL,
    version bigint NOT NULL,
    wrapped_by text NOT NULL,
    wrapped_key bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant, version)
);
