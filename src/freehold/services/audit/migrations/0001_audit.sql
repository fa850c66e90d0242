-- A writer is one process at one time. It numbers its entries, and its commits come one after the
-- other: what others can see of a writer is always its first n entries, without a hole.
CREATE TABLE audit_writers (
    id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT now(),
    -- Entries up to this number stand in their chains.
    linked      bigint NOT NULL DEFAULT 0,
    -- No call whose intent has a lower number is still under way.
    open_from   bigint NOT NULL DEFAULT 1,
    ended_at    timestamptz
);

CREATE INDEX audit_writers_not_ended ON audit_writers (id) WHERE ended_at IS NULL;

CREATE TABLE audit_entries (
    writer  integer NOT NULL,
    number  bigint NOT NULL,
    tenant  text NOT NULL,
    at      timestamptz NOT NULL,
    -- json, not jsonb: the very text is what the chain is computed over.
    entry   json NOT NULL,
    PRIMARY KEY (writer, number)
);

CREATE INDEX audit_entries_time ON audit_entries (tenant, at, writer, number);
CREATE INDEX audit_entries_principal ON audit_entries (tenant, (entry->>'principal'), at)
    WHERE (entry->>'phase') <> 'intent';
CREATE INDEX audit_entries_operation ON audit_entries (tenant, (entry->>'operation'), at)
    WHERE (entry->>'phase') <> 'intent';
CREATE INDEX audit_entries_resource ON audit_entries (tenant, (entry->>'resource'), at)
    WHERE (entry->>'phase') <> 'intent' AND (entry->>'resource') IS NOT NULL;
CREATE INDEX audit_entries_user ON audit_entries (tenant, (entry->>'user'), at)
    WHERE (entry->>'phase') <> 'intent' AND (entry->>'user') IS NOT NULL;
CREATE INDEX audit_entries_not_allowed ON audit_entries (tenant, (entry->>'outcome'), at)
    WHERE (entry->>'phase') <> 'intent' AND (entry->>'outcome') <> 'allowed';
CREATE INDEX audit_entries_call ON audit_entries ((entry->>'call_id'))
    WHERE (entry->>'phase') <> 'intent';

-- Where an entry stands in its tenant's chain: hash = SHA-256(hash before | text of the entry).
CREATE TABLE audit_links (
    tenant    text NOT NULL,
    sequence  bigint NOT NULL,
    writer    integer NOT NULL,
    number    bigint NOT NULL,
    hash      bytea NOT NULL,
    PRIMARY KEY (tenant, sequence)
);

-- The end of each chain, and where it begins since retention took what came before.
CREATE TABLE audit_heads (
    tenant           text PRIMARY KEY,
    sequence         bigint NOT NULL DEFAULT 0,
    hash             bytea NOT NULL,
    anchor_sequence  bigint NOT NULL DEFAULT 0,
    anchor_hash      bytea NOT NULL
);

-- Hashes of the chain sealed under a key that the database does not have.
CREATE TABLE audit_checkpoints (
    tenant       text NOT NULL,
    sequence     bigint NOT NULL,
    sealed_hash  bytea NOT NULL,
    at           timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, sequence)
);

-- What makes the tables append-only for whoever does not set out to get around it: retention says
-- so within its transaction.
CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('freehold.audit_retention', true) = 'on' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'the audit is append-only: % of % is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit_entries
    FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit_entries
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit_links
    FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit_links
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();

CREATE FUNCTION audit_forward_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.tenant = OLD.tenant AND NEW.sequence >= OLD.sequence
        AND NEW.anchor_sequence >= OLD.anchor_sequence THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'a chain of the audit only grows' USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE TRIGGER audit_forward_only BEFORE UPDATE OR DELETE ON audit_heads
    FOR EACH ROW EXECUTE FUNCTION audit_forward_only();

CREATE FUNCTION audit_genesis(tenant text) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT sha256(convert_to('freehold audit ' || tenant, 'UTF8'))
$$;

CREATE FUNCTION audit_hash(state bytea, head bytea, entry text) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN sha256(coalesce(state, head) || convert_to(entry, 'UTF8'));
END $$;

CREATE AGGREGATE audit_chain(bytea, text) (SFUNC = audit_hash, STYPE = bytea);

-- Links a writer's next entries, of all tenants: one at a time for each writer (its row's lock) and
-- for each tenant (its head's, taken in order). Answers with the new heads.
CREATE FUNCTION audit_link(by_writer integer, entries_max integer)
RETURNS TABLE (of_tenant text, to_sequence bigint, to_hash bytea) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    first bigint;
    last bigint;
BEGIN
    SELECT w.linked INTO first FROM audit_writers w WHERE w.id = by_writer FOR UPDATE;
    SELECT max(n.number) INTO last FROM (
        SELECT number FROM audit_entries
        WHERE writer = by_writer AND number > first ORDER BY number LIMIT entries_max) n;
    IF last IS NULL THEN
        RETURN;
    END IF;
    INSERT INTO audit_heads (tenant, hash, anchor_hash)
        SELECT t.tenant, audit_genesis(t.tenant), audit_genesis(t.tenant) FROM (
            SELECT DISTINCT tenant FROM audit_entries
            WHERE writer = by_writer AND number > first AND number <= last) t
        WHERE NOT EXISTS (SELECT 1 FROM audit_heads h WHERE h.tenant = t.tenant)
        ORDER BY t.tenant ON CONFLICT DO NOTHING;
    PERFORM 1 FROM audit_heads WHERE tenant IN (
            SELECT tenant FROM audit_entries
            WHERE writer = by_writer AND number > first AND number <= last)
        ORDER BY tenant FOR UPDATE;
    RETURN QUERY
    WITH links AS (
        INSERT INTO audit_links (tenant, sequence, writer, number, hash)
        SELECT e.tenant, h.sequence + row_number() OVER w, e.writer, e.number,
               audit_chain(h.hash, e.entry::text) OVER w
        FROM audit_entries e JOIN audit_heads h ON h.tenant = e.tenant
        WHERE e.writer = by_writer AND e.number > first AND e.number <= last
        WINDOW w AS (PARTITION BY e.tenant ORDER BY e.number)
        RETURNING tenant, sequence, hash
    ), ends AS (
        SELECT DISTINCT ON (tenant) tenant, sequence, hash FROM links
        ORDER BY tenant, sequence DESC
    ), moved AS (
        UPDATE audit_heads h SET sequence = e.sequence, hash = e.hash
        FROM ends e WHERE h.tenant = e.tenant RETURNING h.tenant, h.sequence, h.hash
    ), told AS (
        SELECT pg_notify('freehold_audit', tenant) FROM moved
    )
    SELECT m.tenant, m.sequence, m.hash FROM moved m, (SELECT count(*) FROM told) t;
    UPDATE audit_writers SET linked = last WHERE id = by_writer;
END $$;

-- Lets go of what was linked before `before`, and keeps the hash it ended with. Answers with the
-- new anchor's sequence, or nothing.
CREATE FUNCTION audit_expire(of_tenant text, before timestamptz, entries_max integer)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    from_sequence bigint;
    to_sequence bigint;
    to_hash bytea;
BEGIN
    SELECT anchor_sequence INTO from_sequence FROM audit_heads
        WHERE tenant = of_tenant FOR UPDATE;
    -- Up to the first entry that is young enough, whatever stands behind it.
    SELECT min(w.sequence) - 1 INTO to_sequence FROM (
        SELECT l.sequence, e.at FROM audit_links l
        JOIN audit_entries e ON e.writer = l.writer AND e.number = l.number
        WHERE l.tenant = of_tenant AND l.sequence > from_sequence
        ORDER BY l.sequence LIMIT entries_max) w
        WHERE w.at >= before;
    IF to_sequence IS NULL THEN
        SELECT max(w.sequence) INTO to_sequence FROM (
            SELECT sequence FROM audit_links WHERE tenant = of_tenant AND sequence > from_sequence
            ORDER BY sequence LIMIT entries_max) w;
    END IF;
    IF to_sequence IS NULL OR to_sequence <= from_sequence THEN
        RETURN NULL;
    END IF;
    SELECT hash INTO to_hash FROM audit_links
        WHERE tenant = of_tenant AND sequence = to_sequence;
    UPDATE audit_heads SET anchor_sequence = to_sequence, anchor_hash = to_hash
        WHERE tenant = of_tenant;
    PERFORM set_config('freehold.audit_retention', 'on', true);
    DELETE FROM audit_entries e USING audit_links l
        WHERE l.tenant = of_tenant AND l.sequence <= to_sequence
        AND e.writer = l.writer AND e.number = l.number;
    DELETE FROM audit_links WHERE tenant = of_tenant AND sequence <= to_sequence;
    DELETE FROM audit_checkpoints WHERE tenant = of_tenant AND sequence < to_sequence;
    PERFORM set_config('freehold.audit_retention', '', true);
    RETURN to_sequence;
END $$;
