-- What a tenant says about its own telemetry: one JSON document; without a row, the defaults hold.
CREATE TABLE telemetry_configurations (
    tenant text PRIMARY KEY,
    document jsonb NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
);
