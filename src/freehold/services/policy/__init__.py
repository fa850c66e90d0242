"""Policies of gateways: kept, proven, enforced, recorded."""
