-- What is known. `namespaces` are as the client wrote them; normalised ones stand in the next
-- table. `metadata` is typed: see filters.py.
CREATE TABLE memory_records (
    tenant        text NOT NULL,
    memory_id     text NOT NULL,
    id            text COLLATE "C" NOT NULL,
    strategy_id   text NOT NULL,
    namespaces    text[] NOT NULL,
    text          text NOT NULL,
    at            timestamptz NOT NULL,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    metadata      jsonb NOT NULL,
    expires_at    timestamptz,
    valid_from    timestamptz,
    -- Superseded from then on, by that record: kept as history.
    valid_until   timestamptz,
    superseded_by text NOT NULL,
    -- What was asked for by the client's token that made it: the same again is no second record.
    request       uuid,
    PRIMARY KEY (tenant, memory_id, id)
);

CREATE INDEX memory_records_expiry ON memory_records (expires_at) WHERE expires_at IS NOT NULL;
-- Standing instructions, which a profile has whole.
CREATE INDEX memory_records_instructions ON memory_records (tenant, memory_id, at)
    WHERE metadata @> '{"kind": {"s": "instruction"}}';

-- Read backwards, the key is the order of lists: within a namespace the newest first.
CREATE TABLE memory_record_namespaces (
    tenant     text NOT NULL,
    memory_id  text NOT NULL,
    namespace  text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL,
    record_id  text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, memory_id, namespace, created_at, record_id),
    FOREIGN KEY (tenant, memory_id, record_id) REFERENCES memory_records ON DELETE CASCADE
);

CREATE INDEX memory_record_namespaces_record
    ON memory_record_namespaces (tenant, memory_id, record_id);

-- Which message of which event a record comes from. Events may be gone by now: expiry takes
-- nothing from what was learned.
CREATE TABLE memory_record_sources (
    tenant        text NOT NULL,
    memory_id     text NOT NULL,
    record_id     text COLLATE "C" NOT NULL,
    event_id      text COLLATE "C" NOT NULL,
    message_index integer NOT NULL,
    actor_id      text NOT NULL,
    session_id    text NOT NULL,
    PRIMARY KEY (tenant, memory_id, record_id, event_id, message_index),
    FOREIGN KEY (tenant, memory_id, record_id) REFERENCES memory_records ON DELETE CASCADE
);

CREATE INDEX memory_record_sources_event ON memory_record_sources (tenant, memory_id, event_id);

-- Messages that are searchable as they were said. Their texts are the events'.
CREATE TABLE memory_turns (
    tenant     text NOT NULL,
    memory_id  text NOT NULL,
    namespace  text COLLATE "C" NOT NULL,
    at         timestamptz NOT NULL,
    id         text COLLATE "C" NOT NULL,
    metadata   jsonb NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, memory_id, id)
);

CREATE UNIQUE INDEX memory_turns_namespace ON memory_turns (tenant, memory_id, namespace, at, id);
CREATE INDEX memory_turns_expiry ON memory_turns (expires_at);

-- Whether a memory's turns were turned on or off last. `generation` counts the changes; `done` says
-- that nothing is left to fill in or to remove.
CREATE TABLE memory_turn_switches (
    tenant     text NOT NULL,
    memory_id  text NOT NULL,
    turns      boolean NOT NULL,
    generation integer NOT NULL DEFAULT 1,
    done       boolean NOT NULL DEFAULT false,
    PRIMARY KEY (tenant, memory_id)
);
