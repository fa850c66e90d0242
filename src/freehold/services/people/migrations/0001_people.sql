CREATE TABLE tenants (
    tenant text PRIMARY KEY CHECK (tenant ~ '^[0-9]{12}$'),
    name text NOT NULL,
    active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- `tenant` is where a person was added; roles may be in others too.
CREATE TABLE people (
    tenant text NOT NULL,
    id text PRIMARY KEY,
    name text NOT NULL,
    email text,
    issuer text,
    subject text,
    password_hash text,
    active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_sign_in_at timestamptz,
    CHECK ((issuer IS NULL) = (subject IS NULL))
);
CREATE UNIQUE INDEX people_name ON people (lower(name));
CREATE UNIQUE INDEX people_email ON people (lower(email));
CREATE UNIQUE INDEX people_subject ON people (issuer, subject);

-- `source`: "assigned" by an admin, or "claims" of the last sign-in, which replace one another.
CREATE TABLE people_roles (
    tenant text NOT NULL,
    person text NOT NULL REFERENCES people ON DELETE CASCADE,
    role text NOT NULL,
    source text NOT NULL,
    PRIMARY KEY (tenant, person, role, source)
);
CREATE INDEX people_roles_person ON people_roles (person);

-- What is secret in the tables below is there as its SHA-256, or sealed.
CREATE TABLE people_sign_ins (
    tenant text NOT NULL,
    state_sha256 text PRIMARY KEY,
    binding_sha256 text NOT NULL,
    next text NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX people_sign_ins_end ON people_sign_ins (expires_at);

CREATE TABLE people_sessions (
    tenant text NOT NULL,
    token_sha256 text PRIMARY KEY,
    person text NOT NULL REFERENCES people ON DELETE CASCADE,
    created_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX people_sessions_person ON people_sessions (person);
CREATE INDEX people_sessions_end ON people_sessions (expires_at);

CREATE TABLE people_credentials (
    tenant text NOT NULL,
    id text PRIMARY KEY,
    person text NOT NULL REFERENCES people ON DELETE CASCADE,
    sealed_secret bytea NOT NULL,
    token_sha256 text NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX people_credentials_person ON people_credentials (person);
CREATE INDEX people_credentials_end ON people_credentials (expires_at);

-- A sign-in of a command line that waits. `tenant` is the asked one, or ""; then the approver's.
CREATE TABLE people_devices (
    tenant text NOT NULL,
    device_sha256 text PRIMARY KEY,
    user_code_sha256 text NOT NULL UNIQUE,
    description text NOT NULL,
    source text NOT NULL,
    port integer,
    challenge text,
    state text,
    status text NOT NULL DEFAULT 'pending',
    person text REFERENCES people ON DELETE CASCADE,
    code_sha256 text,
    interval_seconds integer NOT NULL,
    polled_at timestamptz,
    expires_at timestamptz NOT NULL
);
CREATE INDEX people_devices_end ON people_devices (expires_at);

-- Guesses of passwords and codes. `bucket` is a hash of whom and from where.
CREATE TABLE people_guesses (
    tenant text NOT NULL,
    bucket text PRIMARY KEY,
    guesses integer NOT NULL,
    ends_at timestamptz NOT NULL
);
CREATE INDEX people_guesses_end ON people_guesses (ends_at);
