"""Prometheus' way in."""
