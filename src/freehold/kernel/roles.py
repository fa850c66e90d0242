"""The roles of a tenant. What each may do: services/access/roles.cedar."""

from typing import Literal, get_args

PersonRole = Literal["admin", "developer", "operator", "invoker", "auditor"]
Role = Literal[PersonRole, "ingester"]

PERSON_ROLES: tuple[str, ...] = get_args(PersonRole)
ROLES: tuple[str, ...] = get_args(Role)
"""Those of keys: what no person does, a program may be for."""
