"""OTLP, outward."""
