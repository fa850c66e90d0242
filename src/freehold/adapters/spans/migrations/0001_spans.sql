-- Times are nanoseconds since 1970; those of rollups are seconds. Ids of traces are stored as uuid,
-- ids of spans as the signed number of their eight bytes. What is JSON is stored as text: it comes
-- back as it came, U+0000 included, and writing it parses nothing.

-- A partition a UTC day of `started_ns`: made and dropped by days.py.
CREATE TABLE spans (
    tenant        text COLLATE "C" NOT NULL,
    trace_id      uuid NOT NULL,
    span_id       bigint NOT NULL,
    started_ns    bigint NOT NULL,
    ended_ns      bigint NOT NULL,
    parent_id     bigint,
    kind          smallint NOT NULL,
    status        smallint NOT NULL,
    -- 0 platform, 1 agent, 2 client
    origin        smallint NOT NULL,
    metered       boolean NOT NULL,
    input_tokens  bigint NOT NULL,
    output_tokens bigint NOT NULL,
    cost          double precision,
    -- In span_resources; null: it came without one.
    resource      uuid,
    name          text NOT NULL,
    message       text NOT NULL,
    scope         text NOT NULL,
    scope_version text NOT NULL,
    agent_id      text NOT NULL,
    agent_version text NOT NULL,
    endpoint      text NOT NULL,
    session_id    text NOT NULL,
    user_name     text NOT NULL,
    operation     text NOT NULL,
    provider      text NOT NULL,
    model         text NOT NULL,
    tool          text NOT NULL,
    attributes    text NOT NULL,
    -- [events, links]; null where there are neither.
    happenings    text,
    PRIMARY KEY (tenant, trace_id, span_id, started_ns)
) PARTITION BY RANGE (started_ns);

CREATE INDEX spans_newest ON spans (tenant, started_ns);
CREATE INDEX spans_operations ON spans (tenant, operation, started_ns) WHERE operation <> '';

-- What clocks that are absurdly wrong say is kept, and takes no partition a day.
CREATE TABLE spans_before PARTITION OF spans FOR VALUES FROM (MINVALUE) TO (946684800000000000);
CREATE TABLE spans_after PARTITION OF spans FOR VALUES FROM (4102444800000000000) TO (MAXVALUE);

-- Who sent it, in OTLP's words: few of them, each of thousands of spans. `hash` is of the JSON.
CREATE TABLE span_resources (
    tenant     text COLLATE "C" NOT NULL,
    hash       uuid NOT NULL,
    attributes text NOT NULL,
    seen_on    date NOT NULL,
    PRIMARY KEY (tenant, hash)
);

-- The spans of one trace that came of one agent in one session, summed. metered_ and platform_ are
-- what the platform counted itself, told_ is what spans of others say of the same calls, whole_ the
-- largest total that a span around model calls (an agent's) claims.
CREATE TABLE trace_parts (
    tenant          text COLLATE "C" NOT NULL,
    trace_id        uuid NOT NULL,
    session_id      text COLLATE "C" NOT NULL,
    agent_id        text COLLATE "C" NOT NULL,
    agent_version   text NOT NULL,
    user_name       text COLLATE "C" NOT NULL,
    started_ns      bigint NOT NULL,
    ended_ns        bigint NOT NULL,
    spans           bigint NOT NULL,
    errors          bigint NOT NULL,
    metered_calls   bigint NOT NULL,
    told_calls      bigint NOT NULL,
    platform_tools  bigint NOT NULL,
    told_tools      bigint NOT NULL,
    metered_input   bigint NOT NULL,
    metered_output  bigint NOT NULL,
    told_input      bigint NOT NULL,
    told_output     bigint NOT NULL,
    whole_input     bigint NOT NULL,
    whole_output    bigint NOT NULL,
    metered_cost    double precision,
    told_cost       double precision,
    whole_cost      double precision,
    PRIMARY KEY (tenant, trace_id, session_id, agent_id)
) WITH (fillfactor = 85);

CREATE INDEX trace_parts_sessions ON trace_parts (tenant, session_id, started_ns)
    WHERE session_id <> '';
CREATE INDEX trace_parts_agents ON trace_parts (tenant, agent_id, started_ns)
    WHERE agent_id <> '';
CREATE INDEX trace_parts_users ON trace_parts (tenant, user_name, started_ns)
    WHERE user_name <> '';
-- Along which the newest sessions are found: see postgres.py.
CREATE INDEX trace_parts_newest ON trace_parts (tenant, started_ns) WHERE session_id <> '';
CREATE INDEX trace_parts_age ON trace_parts USING brin (started_ns);

-- The same of a whole trace. `name` is the root's if it is `complete`, else the earliest span's.
CREATE TABLE traces (
    tenant          text COLLATE "C" NOT NULL,
    trace_id        uuid NOT NULL,
    complete        boolean NOT NULL,
    name            text NOT NULL,
    session_id      text NOT NULL,
    agent_id        text NOT NULL,
    agent_version   text NOT NULL,
    user_name       text NOT NULL,
    started_ns      bigint NOT NULL,
    ended_ns        bigint NOT NULL,
    spans           bigint NOT NULL,
    errors          bigint NOT NULL,
    metered_calls   bigint NOT NULL,
    told_calls      bigint NOT NULL,
    platform_tools  bigint NOT NULL,
    told_tools      bigint NOT NULL,
    metered_input   bigint NOT NULL,
    metered_output  bigint NOT NULL,
    told_input      bigint NOT NULL,
    told_output     bigint NOT NULL,
    whole_input     bigint NOT NULL,
    whole_output    bigint NOT NULL,
    metered_cost    double precision,
    told_cost       double precision,
    whole_cost      double precision,
    models          text[] NOT NULL,
    tools           text[] NOT NULL,
    PRIMARY KEY (tenant, trace_id)
) WITH (fillfactor = 85);

CREATE INDEX traces_newest ON traces (tenant, started_ns, trace_id);
CREATE INDEX traces_age ON traces USING brin (started_ns);

-- What series are drawn from, a row for each minute, hour and day and each kind of span. `key` is a hash of the
-- columns from agent_id to told. `family` has bit 1 of a trace's root, 2 of a model call, 4 of a tool
-- call. `told`: by a span that is not the platform's own, of what the platform may have counted too.
-- `histogram`, of durations: see histogram.py.
CREATE TABLE span_minutes (
    tenant        text COLLATE "C" NOT NULL,
    family        smallint NOT NULL,
    at            bigint NOT NULL,
    key           uuid NOT NULL,
    agent_id      text NOT NULL,
    agent_version text NOT NULL,
    operation     text NOT NULL,
    model         text NOT NULL,
    tool          text NOT NULL,
    failed        boolean NOT NULL,
    told          boolean NOT NULL,
    count         bigint NOT NULL,
    input_tokens  bigint NOT NULL,
    output_tokens bigint NOT NULL,
    cost          double precision,
    histogram     numeric NOT NULL,
    PRIMARY KEY (tenant, family, at, key)
) WITH (fillfactor = 80);
CREATE INDEX span_minutes_age ON span_minutes USING brin (at);

CREATE TABLE span_hours (LIKE span_minutes INCLUDING ALL) WITH (fillfactor = 80);
CREATE TABLE span_days (LIKE span_minutes INCLUDING ALL) WITH (fillfactor = 80);

CREATE SEQUENCE otlp_logs_arrival;

-- Log records, a partition a day too. `id` tells apart what was at the same moment.
CREATE TABLE otlp_logs (
    tenant        text COLLATE "C" NOT NULL,
    at_ns         bigint NOT NULL,
    id            bigint NOT NULL DEFAULT nextval('otlp_logs_arrival'),
    origin        smallint NOT NULL,
    severity      smallint NOT NULL,
    resource      uuid,
    severity_text text NOT NULL,
    event         text NOT NULL,
    scope         text NOT NULL,
    trace_id      text COLLATE "C" NOT NULL,
    span_id       text COLLATE "C" NOT NULL,
    agent_id      text COLLATE "C" NOT NULL,
    endpoint      text NOT NULL,
    session_id    text COLLATE "C" NOT NULL,
    body          text NOT NULL,
    attributes    text NOT NULL
) PARTITION BY RANGE (at_ns);

CREATE INDEX otlp_logs_newest ON otlp_logs (tenant, at_ns, id);
CREATE INDEX otlp_logs_agents ON otlp_logs (tenant, agent_id, at_ns, id) WHERE agent_id <> '';
CREATE INDEX otlp_logs_sessions ON otlp_logs (tenant, session_id, at_ns, id)
    WHERE session_id <> '';
CREATE INDEX otlp_logs_traces ON otlp_logs (tenant, trace_id, at_ns, id) WHERE trace_id <> '';

CREATE TABLE otlp_logs_before PARTITION OF otlp_logs
    FOR VALUES FROM (MINVALUE) TO (946684800000000000);
CREATE TABLE otlp_logs_after PARTITION OF otlp_logs
    FOR VALUES FROM (4102444800000000000) TO (MAXVALUE);

CREATE TABLE otlp_points (
    tenant     text COLLATE "C" NOT NULL,
    at_ns      bigint NOT NULL,
    started_ns bigint NOT NULL,
    origin     smallint NOT NULL,
    monotonic  boolean NOT NULL,
    delta      boolean NOT NULL,
    value      double precision,
    count      bigint,
    sum        double precision,
    resource   uuid,
    name       text COLLATE "C" NOT NULL,
    unit       text NOT NULL,
    kind       text NOT NULL,
    agent_id   text COLLATE "C" NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    attributes text NOT NULL,
    -- [bounds, buckets] of a histogram
    histogram  text
) PARTITION BY RANGE (at_ns);

CREATE INDEX otlp_points_name ON otlp_points (tenant, name, at_ns);
CREATE INDEX otlp_points_sessions ON otlp_points (tenant, session_id) WHERE session_id <> '';

CREATE TABLE otlp_points_before PARTITION OF otlp_points
    FOR VALUES FROM (MINVALUE) TO (946684800000000000);
CREATE TABLE otlp_points_after PARTITION OF otlp_points
    FOR VALUES FROM (4102444800000000000) TO (MAXVALUE);

-- Which metrics there are; `last_at` is told once in a while, not with each point.
CREATE TABLE otlp_metrics (
    tenant  text COLLATE "C" NOT NULL,
    name    text COLLATE "C" NOT NULL,
    last_ns bigint NOT NULL,
    PRIMARY KEY (tenant, name)
);

-- lz4 packs and unpacks many times faster than what is the default in some versions; a server may
-- be without it. New partitions take this over.
DO $$
DECLARE
    wide record;
BEGIN
    FOR wide IN SELECT * FROM (VALUES ('spans', 'attributes'), ('spans', 'happenings'),
            ('otlp_logs', 'body'), ('otlp_logs', 'attributes')) AS c (of_table, of_column) LOOP
        EXECUTE format('ALTER TABLE %I ALTER %I SET COMPRESSION lz4', wide.of_table, wide.of_column);
    END LOOP;
EXCEPTION WHEN feature_not_supported THEN
    NULL;
END $$;
