-- What has to be looked at: messages of events, for each strategy. A queue: what was looked at is
-- gone from here in the transaction that wrote its records, so that no message is learned twice.
CREATE TABLE memory_extractions (
    tenant text NOT NULL,
    memory_id text NOT NULL,
    strategy_id text NOT NULL,
    actor_id text NOT NULL,
    session_id text NOT NULL,
    event_id text NOT NULL,
    -- Places in the event's payload.
    messages integer[] NOT NULL CHECK (cardinality(messages) > 0),
    tokens integer NOT NULL,
    PRIMARY KEY (tenant, memory_id, strategy_id, actor_id, session_id, event_id)
);

-- One row for each strategy and session that has something in the queue, and when its turn is.
CREATE TABLE memory_extraction_sessions (
    tenant text NOT NULL,
    memory_id text NOT NULL,
    strategy_id text NOT NULL,
    actor_id text NOT NULL,
    session_id text NOT NULL,
    state text NOT NULL CHECK (state IN ('waiting', 'waiting_for_model')),
    messages integer NOT NULL,
    tokens bigint NOT NULL,
    due_at timestamptz,
    -- The run that has it now, until when nobody else takes it up; or a pause after a failure.
    held_until timestamptz,
    job_id text NOT NULL DEFAULT '',
    attempts integer NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, memory_id, strategy_id, actor_id, session_id)
);
CREATE INDEX memory_extraction_sessions_due ON memory_extraction_sessions
    (greatest(due_at, held_until)) WHERE due_at IS NOT NULL AND state = 'waiting';

-- Runs that were given up, with what they were about; `restarted_at`: it is in the queue again.
CREATE TABLE memory_extraction_failures (
    tenant text NOT NULL,
    memory_id text NOT NULL,
    id text NOT NULL,
    strategy_id text NOT NULL,
    actor_id text NOT NULL,
    session_id text NOT NULL,
    reason text NOT NULL,
    messages jsonb NOT NULL,
    failed_at timestamptz NOT NULL DEFAULT now(),
    restarted_at timestamptz,
    PRIMARY KEY (tenant, memory_id, id)
);
CREATE INDEX memory_extraction_failures_session ON memory_extraction_failures
    (tenant, memory_id, actor_id, session_id);

-- Two runs that consolidate into the same namespace see each other here: the version of its slot is
-- read before the nearest records are, and must be the same when the outcome is written. Slots hold
-- nothing of anybody's: namespaces fall into them by a hash, and a collision costs a second look.
CREATE TABLE memory_extraction_slots (
    slot integer PRIMARY KEY,
    version bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
INSERT INTO memory_extraction_slots (slot) SELECT generate_series(0, 1023);

-- Whose place a record took: they come back when it goes.
CREATE INDEX memory_records_superseded ON memory_records (tenant, memory_id, superseded_by)
    WHERE superseded_by <> '';
