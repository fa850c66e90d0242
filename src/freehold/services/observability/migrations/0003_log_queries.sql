-- Answers of queries in CloudWatch Logs' shape, for a day: any worker may be asked for them.
CREATE TABLE log_queries (
    tenant     text NOT NULL,
    id         text NOT NULL,
    created_at timestamptz NOT NULL,
    -- Records matched and scanned, bytes and groups scanned.
    statistics bigint[] NOT NULL,
    -- Compressed: names and values of each row.
    answer     bytea NOT NULL,
    PRIMARY KEY (tenant, id)
);

CREATE INDEX log_queries_created ON log_queries (tenant, created_at DESC);
CREATE INDEX log_queries_expiry ON log_queries (created_at);

ALTER TABLE log_queries ALTER COLUMN answer SET STORAGE EXTERNAL;
