"""Requests of the platform's own to hosts that tenants name: `ports.web.Web`."""
