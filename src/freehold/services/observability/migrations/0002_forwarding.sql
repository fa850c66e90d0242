-- What is still to go to the operator's collector. Rows leave as they are sent: at least once, in
-- about the order in which they came.
CREATE TABLE forwarding_queue (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    signal     text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Spans, log records or points of metrics in the batch.
    items      integer NOT NULL,
    -- Compressed.
    batch      bytea NOT NULL
);

CREATE INDEX forwarding_queue_signal ON forwarding_queue (signal, id);

-- Rows come and go: clean up by the part, not by the fifth.
ALTER TABLE forwarding_queue SET (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02
);
ALTER TABLE forwarding_queue ALTER COLUMN batch SET STORAGE EXTERNAL;

-- Who holds a signal's row sends it: one worker at a time, of all machines.
CREATE TABLE forwarding_state (
    signal     text PRIMARY KEY,
    not_before timestamptz NOT NULL DEFAULT '-infinity',
    failures   integer NOT NULL DEFAULT 0,
    -- Since ever: items that the collector took, refused, and that went unsent for their age or room.
    sent       bigint NOT NULL DEFAULT 0,
    refused    bigint NOT NULL DEFAULT 0,
    dropped    bigint NOT NULL DEFAULT 0,
    error      text NOT NULL DEFAULT ''
);
