"""Durable jobs on the platform's Postgres. Why not a library: docs/decisions/0006-jobs.md."""

from freehold.adapters.jobs.postgres import PostgresJobs

__all__ = ["PostgresJobs"]
