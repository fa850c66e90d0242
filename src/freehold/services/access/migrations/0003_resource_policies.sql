-- `resource` is the last part of the ARN: what is looked up does not depend on how a caller spells
-- the rest. `policy` is IAM's JSON as it was put.
CREATE TABLE resource_policies (
    tenant text NOT NULL,
    resource text NOT NULL,
    arn text NOT NULL,
    policy text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant, resource),
    UNIQUE (tenant, arn),
    FOREIGN KEY (tenant, arn) REFERENCES resources (tenant, arn) ON DELETE CASCADE
);

-- A policy also goes with its resource, which another component deletes.
CREATE FUNCTION tell_resource_policy() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM pg_notify('freehold_resource_policies', OLD.tenant || '/' || OLD.resource);
    ELSE
        PERFORM pg_notify('freehold_resource_policies', NEW.tenant || '/' || NEW.resource);
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER resource_policies_told AFTER INSERT OR UPDATE OR DELETE ON resource_policies
    FOR EACH ROW EXECUTE FUNCTION tell_resource_policy();
