"""Postgres: the embedded server, the pool, migrations, and the resources repository."""
