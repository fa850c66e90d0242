-- What was asked for and given: which search used which record. `id` is a UUID whose order is that of
-- `at`. Lines are written in the background, after the answer: see retrievals.py.
CREATE TABLE memory_retrievals (
    tenant       text NOT NULL,
    memory_id    text NOT NULL,
    id           uuid NOT NULL,
    at           timestamptz NOT NULL,
    principal    text NOT NULL,
    session_id   text NOT NULL,
    operation    text NOT NULL,
    namespace    text COLLATE "C" NOT NULL,
    -- How many records it gave: one whose records are all gone is gone itself.
    given        integer NOT NULL,
    -- Named so that a new key finds it.
    sealed_query bytea NOT NULL,
    PRIMARY KEY (tenant, memory_id, id)
);

CREATE INDEX memory_retrievals_at ON memory_retrievals (at);

-- Each goes with its record, or its turn, whoever takes that away.
CREATE TABLE memory_retrieval_records (
    tenant       text NOT NULL,
    memory_id    text NOT NULL,
    retrieval_id uuid NOT NULL,
    place        integer NOT NULL,
    record_id    text COLLATE "C",
    turn_id      text COLLATE "C",
    score        double precision,
    PRIMARY KEY (tenant, memory_id, retrieval_id, place),
    CHECK ((record_id IS NULL) <> (turn_id IS NULL)),
    FOREIGN KEY (tenant, memory_id, retrieval_id) REFERENCES memory_retrievals ON DELETE CASCADE,
    FOREIGN KEY (tenant, memory_id, record_id) REFERENCES memory_records ON DELETE CASCADE,
    FOREIGN KEY (tenant, memory_id, turn_id) REFERENCES memory_turns ON DELETE CASCADE
);

CREATE INDEX memory_retrieval_records_record
    ON memory_retrieval_records (tenant, memory_id, record_id, retrieval_id)
    WHERE record_id IS NOT NULL;
CREATE INDEX memory_retrieval_records_turn
    ON memory_retrieval_records (tenant, memory_id, turn_id, retrieval_id)
    WHERE turn_id IS NOT NULL;
