-- What was said. `thread` names a session in 16 bytes, made from its memory, actor and id: keys stay
-- short, and no look-up stands between a request and its rows.
CREATE TABLE memory_events (
    tenant        text NOT NULL,
    memory_id     text NOT NULL,
    -- Sorts by when it was, then by arrival: see events.py.
    id            text COLLATE "C" NOT NULL,
    thread        uuid NOT NULL,
    actor_id      text NOT NULL,
    session_id    text NOT NULL,
    branch        text NOT NULL,
    root_event_id text COLLATE "C" NOT NULL,
    at            timestamptz NOT NULL,
    created_at    timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,
    metadata      jsonb NOT NULL,
    extract       boolean NOT NULL,
    variables     jsonb NOT NULL,
    -- As it came: jsonb would forget how numbers were written.
    payload       json NOT NULL,
    payload_bytes integer NOT NULL,
    -- Of the client's token, and of what was asked for with it.
    token         uuid,
    request       uuid NOT NULL,
    PRIMARY KEY (tenant, memory_id, id)
);

-- A session's events in order: lists, and the order of arrival within one moment.
CREATE UNIQUE INDEX memory_events_thread ON memory_events (tenant, thread, id);
-- Most is said on main, and needs no second entry.
CREATE INDEX memory_events_branch ON memory_events (tenant, thread, branch, id)
    WHERE branch <> 'main';
-- Few events have metadata where most is conversation: a filter walks along these alone.
CREATE INDEX memory_events_labelled ON memory_events (tenant, thread, id) WHERE metadata <> '{}';
CREATE UNIQUE INDEX memory_events_token ON memory_events (tenant, token) WHERE token IS NOT NULL;
CREATE INDEX memory_events_expiry ON memory_events (expires_at);

-- Old rows go at one end and new ones come at the other: clean up by the part, not by the fifth.
ALTER TABLE memory_events SET (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.02,
    autovacuum_analyze_scale_factor = 0.02
);

CREATE TABLE memory_sessions (
    tenant      text NOT NULL,
    thread      uuid NOT NULL,
    memory_id   text NOT NULL,
    actor_id    text COLLATE "C" NOT NULL,
    session_id  text COLLATE "C" NOT NULL,
    created_at  timestamptz NOT NULL,
    -- Since when nothing is in it, as far as was seen: after a day it goes.
    empty_since timestamptz,
    PRIMARY KEY (tenant, thread)
);

CREATE INDEX memory_sessions_actor
    ON memory_sessions (tenant, memory_id, actor_id, created_at DESC, session_id DESC);
CREATE INDEX memory_sessions_empty ON memory_sessions (empty_since)
    WHERE empty_since IS NOT NULL;

-- Every branch but main. `parent` is the branch of its root event, which may be gone by now.
CREATE TABLE memory_branches (
    tenant        text NOT NULL,
    thread        uuid NOT NULL,
    name          text NOT NULL,
    root_event_id text COLLATE "C" NOT NULL,
    parent        text NOT NULL,
    PRIMARY KEY (tenant, thread, name)
);

-- Where a moment's arrivals were, even if the root event is gone: see ENTER in event_sql.py.
CREATE INDEX memory_branches_root ON memory_branches (tenant, thread, root_event_id);
