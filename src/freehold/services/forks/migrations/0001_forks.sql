-- Forks of recorded sessions. `creator` says who asked, and holds no right: roles are looked up when
-- an agent is invoked. `turn` is the one under way, from 1; 0 before the first. `reached`: the step
-- that it was forked at has come. `diverged`: why it left the record before that. A deleted one stays
-- for a while, empty: what its session still asks for is answered by nobody.
CREATE TABLE forks (
    tenant              text NOT NULL,
    id                  text COLLATE "C" NOT NULL,
    status              text NOT NULL,
    reason              text NOT NULL DEFAULT '',
    notes               json NOT NULL,
    agent_id            text NOT NULL,
    endpoint            text NOT NULL,
    recorded_version    text NOT NULL,
    version             text NOT NULL DEFAULT '',
    trace_id            text NOT NULL,
    span_id             text NOT NULL,
    recorded_session_id text NOT NULL,
    recorded_at         timestamptz NOT NULL,
    step                json NOT NULL,
    step_turn           integer NOT NULL,
    change              json NOT NULL,
    engine_arn          text NOT NULL,
    until               text NOT NULL,
    creator             json NOT NULL,
    created_by          text NOT NULL,
    created_at          timestamptz NOT NULL,
    started_at          timestamptz,
    ended_at            timestamptz,
    deleted_at          timestamptz,
    turn                integer NOT NULL DEFAULT 0,
    reached             boolean NOT NULL DEFAULT false,
    diverged            text NOT NULL DEFAULT '',
    recorded            integer NOT NULL DEFAULT 0,
    given               integer NOT NULL DEFAULT 0,
    live                integer NOT NULL DEFAULT 0,
    differing           integer NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, id)
);

-- Read backwards it is the order of lists.
CREATE INDEX forks_newest ON forks (tenant, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX forks_of_span ON forks (tenant, trace_id, span_id) WHERE deleted_at IS NULL;
CREATE INDEX forks_under_way ON forks (created_at) WHERE status IN ('PENDING', 'RUNNING');
CREATE INDEX forks_deleted ON forks (deleted_at) WHERE deleted_at IS NOT NULL;

-- What is sent again, turn by turn. `recorded_failed`: so did the turn of the record.
CREATE TABLE fork_turns (
    tenant            text NOT NULL,
    fork_id           text COLLATE "C" NOT NULL,
    number            integer NOT NULL,
    recorded_trace_id text NOT NULL,
    recorded_failed   boolean NOT NULL,
    payload           bytea NOT NULL,
    content_type      text NOT NULL,
    trace_id          text NOT NULL DEFAULT '',
    status            text NOT NULL DEFAULT 'PENDING',
    PRIMARY KEY (tenant, fork_id, number),
    FOREIGN KEY (tenant, fork_id) REFERENCES forks ON DELETE CASCADE
);

-- The calls of the record. `lane` is what a call is compared within: its kind, and which model's
-- operation or whose tool. `place`: before, at or after the step; those after it are here without
-- their answers, to be known for what they are.
CREATE TABLE fork_calls (
    tenant       text NOT NULL,
    fork_id      text COLLATE "C" NOT NULL,
    turn         integer NOT NULL,
    position     integer NOT NULL,
    lane         text NOT NULL,
    place        text NOT NULL,
    digest       text NOT NULL,
    answer       bytea,
    content_type text NOT NULL DEFAULT '',
    taken        boolean NOT NULL DEFAULT false,
    PRIMARY KEY (tenant, fork_id, turn, position),
    FOREIGN KEY (tenant, fork_id) REFERENCES forks ON DELETE CASCADE
);
