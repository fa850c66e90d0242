"""Prepared services: small OpenAPI documents of our own, with what OpenAPI has no words for.

`data/*.yaml`, one a service -> `library` (read once, when first asked for) -> `settled` (a target's
own values, overrides and choice of operations, checked) -> `client.ConnectorTargets` (tools and
their calls, made by the OpenAPI adapter) and `credentials` (scopes and headers filled in).
"""
