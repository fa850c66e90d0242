create table sessions (
    tenant text not null,
    sandbox_id text not null,
    node text not null,
    runtime_id text not null,
    runtime_name text not null,
    endpoint text not null,
    version int not null,
    session_id text not null,
    user_id text,
    tier text not null,
    status text not null,
    started_at timestamptz not null,
    last_used_at timestamptz not null,
    ended_at timestamptz,
    end_reason text,
    invocations bigint not null default 0,
    cpu_seconds double precision,
    memory_gb_seconds double precision,
    primary key (tenant, sandbox_id)
);

-- At most one live sandbox answers to a session key.
create unique index sessions_live on sessions (tenant, runtime_id, endpoint, session_id)
    where ended_at is null;
create index sessions_of_node on sessions (node) where ended_at is null;
create unique index sessions_by_sandbox on sessions (sandbox_id);
create index sessions_by_start on sessions (tenant, started_at desc, sandbox_id);
create index sessions_of_runtime on sessions (tenant, runtime_id, started_at desc, sandbox_id);
