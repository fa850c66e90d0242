-- Vectors of texts, by what was embedded and by which model: shared by tools that read the same.
CREATE TABLE gateway_vectors (
    tenant text NOT NULL,
    model text NOT NULL,
    text_hash text NOT NULL,
    vector bytea NOT NULL,
    used_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, model, text_hash)
);
