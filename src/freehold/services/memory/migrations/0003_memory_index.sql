-- The index of texts: words with their statistics, and vectors.

CREATE TABLE memory_index_models (
    no integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    dimensions integer NOT NULL,
    wanted boolean NOT NULL DEFAULT false,
    UNIQUE (name, dimensions)
);
COMMENT ON COLUMN memory_index_models.wanted IS 'of one: what new vectors are made by';
CREATE UNIQUE INDEX memory_index_models_wanted ON memory_index_models (wanted) WHERE wanted;

CREATE TABLE memory_index_namespaces (
    no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text NOT NULL,
    memory_id text NOT NULL,
    namespace text COLLATE "C" NOT NULL,
    speakers text[] NOT NULL DEFAULT '{}',
    model integer,
    graph smallint NOT NULL DEFAULT 0,
    UNIQUE (tenant, memory_id, namespace)
);
COMMENT ON COLUMN memory_index_namespaces.model IS
    'whose vectors answer while those of the wanted model are incomplete; else NULL';
COMMENT ON COLUMN memory_index_namespaces.graph IS
    'its vectors are in the graph: 0 no, 1 some, 2 all';
CREATE INDEX memory_index_namespaces_moving ON memory_index_namespaces (model)
    WHERE model IS NOT NULL;
CREATE INDEX memory_index_namespaces_growing ON memory_index_namespaces (no) WHERE graph = 1;

-- A number stands for one text in one namespace, and is never used again.
CREATE SEQUENCE memory_index_numbers;

CREATE TABLE memory_index_units (
    no bigint PRIMARY KEY,
    tenant text NOT NULL,
    memory_id text NOT NULL,
    id text COLLATE "C" NOT NULL,
    ns bigint NOT NULL,
    strategy_id text NOT NULL,
    speaker text NOT NULL,
    "group" text COLLATE "C" NOT NULL,
    "order" text COLLATE "C" NOT NULL,
    at timestamptz NOT NULL,
    metadata jsonb,
    expires_at timestamptz,
    retired_at timestamptz,
    text text NOT NULL,
    terms text[] NOT NULL,
    length integer NOT NULL,
    UNIQUE (tenant, memory_id, id, ns)
);
CREATE INDEX memory_index_units_ns ON memory_index_units (ns, no);
CREATE INDEX memory_index_units_neighbours ON memory_index_units (ns, "group", "order")
    WHERE "group" <> '';

-- Postings. `units` is how many more units have the term (fewer, for those removed), `packed` which:
-- number (8 bytes), frequency (2, 0: removed), length (2). The term '' has no postings: its rows
-- count the units of the namespace and `terms`, their lengths together.
CREATE TABLE memory_index_postings (
    ns bigint NOT NULL,
    term text COLLATE "C" NOT NULL,
    units integer NOT NULL,
    terms bigint NOT NULL DEFAULT 0,
    packed bytea NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.1);
ALTER TABLE memory_index_postings ALTER COLUMN packed SET STORAGE EXTERNAL;
CREATE INDEX memory_index_postings_term ON memory_index_postings (ns, term);

-- What was not merged into them yet: a text that was added or (`units` -1) removed. `packed` has a
-- posting for each of its terms. Writers only ever add rows, so that none waits for another.
CREATE TABLE memory_index_fresh (
    ns bigint NOT NULL,
    units integer NOT NULL,
    length bigint NOT NULL,
    terms text[] NOT NULL,
    packed bytea NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX memory_index_fresh_ns ON memory_index_fresh (ns);

-- Namespaces in which it is worth merging them.
CREATE TABLE memory_index_untidy (
    no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ns bigint NOT NULL
);

-- `graph`: part of the HNSW graph, as those of large namespaces are.
-- Where the server has no pgvector, or does not let us have it, texts are found by words alone.
DO $body$
DECLARE
    vectors text := 'real[]';
BEGIN
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector') THEN
        BEGIN
            CREATE EXTENSION IF NOT EXISTS vector;
            PERFORM 'halfvec'::regtype;
            vectors := 'halfvec';
        EXCEPTION WHEN insufficient_privilege OR undefined_object THEN
            vectors := 'real[]';
        END;
    END IF;
    EXECUTE format(
        'CREATE TABLE memory_index_vectors (
            ns bigint NOT NULL,
            unit bigint NOT NULL,
            model integer NOT NULL,
            dimensions integer NOT NULL,
            graph boolean NOT NULL,
            vector %s NOT NULL,
            PRIMARY KEY (ns, unit, model)
        ) WITH (autovacuum_vacuum_insert_scale_factor = 0.1)', vectors);
    IF vectors = 'halfvec' THEN
        ALTER TABLE memory_index_vectors ALTER COLUMN vector SET STORAGE MAIN;
        EXECUTE 'CREATE INDEX memory_index_vectors_graph_384 ON memory_index_vectors
            USING hnsw ((vector::halfvec(384)) halfvec_cosine_ops)
            WHERE graph AND dimensions = 384';
    END IF;
END
$body$;

-- Units without a vector of the wanted model. `again`: they have one of another. Who embeds some
-- takes them until `not_before`; whoever finds them after that time takes them over.
CREATE TABLE memory_index_waiting (
    unit bigint PRIMARY KEY,
    ns bigint NOT NULL,
    again boolean NOT NULL DEFAULT false,
    not_before timestamptz NOT NULL DEFAULT '-infinity'
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX memory_index_waiting_next ON memory_index_waiting (again, unit);
CREATE INDEX memory_index_waiting_until ON memory_index_waiting (not_before);
CREATE INDEX memory_index_waiting_ns ON memory_index_waiting (ns) WHERE again;
