-- Keys that were made before there were roles could do everything, and still can.
ALTER TABLE access_keys ADD COLUMN roles text[] NOT NULL DEFAULT '{admin}';
ALTER TABLE access_keys ALTER COLUMN roles DROP DEFAULT;
