"""Gateways: many tools behind one governed endpoint."""
