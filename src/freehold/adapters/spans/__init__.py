"""Spans, log records and points of metrics in Postgres: a partition a day, sums as they come."""
