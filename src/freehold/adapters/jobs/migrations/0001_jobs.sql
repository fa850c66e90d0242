-- One row for each piece of durable work. The platform's own: no tenant reads or lists it.
CREATE TABLE jobs (
    id          text PRIMARY KEY,
    kind        text NOT NULL,
    -- json, not jsonb: a payload comes back exactly as it was given, \u0000 included.
    payload     json NOT NULL,
    state       text NOT NULL DEFAULT 'queued'
                CHECK (state IN ('queued', 'running', 'done', 'failed')),
    -- Runs begun. Also the fence: a run writes its outcome only while this is still its number.
    attempts    integer NOT NULL DEFAULT 0,
    -- Runs that ended with an error. A run cut off by a crash is not one.
    failures    integer NOT NULL DEFAULT 0,
    error       text,
    executor    text,
    -- When a worker may take it next: the end of a back-off while queued, of a lease while running.
    due_at      timestamptz NOT NULL DEFAULT now(),
    created_at  timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);

CREATE INDEX jobs_outstanding ON jobs (kind, due_at) WHERE state IN ('queued', 'running');
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;
