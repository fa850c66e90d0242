-- A session's totals as they stood when each day (UTC) ended: a day's own usage is the difference
-- to the day before, and writing twice is harmless.
create table session_days (
    sandbox_id text not null,
    day date not null,
    invocations bigint not null,
    cpu_seconds double precision,
    memory_gb_seconds double precision,
    primary key (sandbox_id, day)
);
