-- Erasures of a person, and their proofs, which outlive the memory: no personal data is in a row whose
-- erasure has ended.
CREATE TABLE memory_erasures (
    tenant       text NOT NULL,
    memory_id    text NOT NULL,
    id           text COLLATE "C" NOT NULL,
    state        text NOT NULL CHECK (state IN ('RUNNING', 'DONE', 'FAILED')),
    dry_run      boolean NOT NULL,
    -- SHA-256 of tenant, memory and actor: who knows these three finds it.
    actor_digest text NOT NULL,
    -- While it runs. Named so that a new key finds it.
    sealed_actor bytea,
    by           text NOT NULL,
    request_id   text NOT NULL,
    started_at   timestamptz NOT NULL,
    ended_at     timestamptz,
    -- Runs that ended with an error; a crash is none.
    failures     integer NOT NULL DEFAULT 0,
    error        text NOT NULL DEFAULT '',
    erased       jsonb NOT NULL DEFAULT '{}',
    remaining    jsonb NOT NULL DEFAULT '{}',
    digests      jsonb NOT NULL DEFAULT '{}',
    digest       text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant, memory_id, id),
    CHECK (state = 'RUNNING' OR sealed_actor IS NULL)
);

-- One at a time of a person; what they say meanwhile is refused by this.
CREATE UNIQUE INDEX memory_erasures_running ON memory_erasures (tenant, memory_id, actor_digest)
    WHERE state = 'RUNNING';
CREATE INDEX memory_erasures_newest ON memory_erasures (tenant, memory_id, started_at, id);

-- What was taken away so far, noted in the transactions that do it; digested and gone at the end.
CREATE TABLE memory_erasure_items (
    tenant     text NOT NULL,
    memory_id  text NOT NULL,
    erasure_id text COLLATE "C" NOT NULL,
    kind       text COLLATE "C" NOT NULL,
    item       text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, memory_id, erasure_id, kind, item),
    FOREIGN KEY (tenant, memory_id, erasure_id) REFERENCES memory_erasures ON DELETE CASCADE
);

-- Where payloads of self-managed strategies are, noted before they are put there.
CREATE TABLE memory_payloads (
    tenant     text NOT NULL,
    memory_id  text NOT NULL,
    actor_id   text NOT NULL,
    bucket     text NOT NULL,
    key        text NOT NULL,
    noted_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, bucket, key)
);

CREATE INDEX memory_payloads_actor ON memory_payloads (tenant, memory_id, actor_id);

-- What was learned from a person, also of events that expired since.
CREATE INDEX memory_record_sources_actor ON memory_record_sources (tenant, memory_id, actor_id);
