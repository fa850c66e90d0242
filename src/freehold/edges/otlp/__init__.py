"""Telemetry from anywhere: OpenTelemetry's HTTP wire at the platform's own door."""
