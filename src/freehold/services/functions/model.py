"""Functions: their kind, and what follows from their documents."""

import re

import msgspec

from freehold.kernel.errors import ValidationFailed
from freehold.ports.resources import Resource, ResourceKind

FUNCTION = ResourceKind(
    name="function",
    noun="function",
    arn_resource="function:{name}",
    service="lambda",
    busy=frozenset(),
)

EVENT_BYTES_MAX = 6 << 20
SECONDS_MAX = 900
SECONDS_DEFAULT = 30
MEMORY_MIB_DEFAULT = 512
DESCRIPTION_MAX = 256
BUCKET = "freehold-functions"
"""Of the tenant's own, for what functions are made of."""
TAG = "freehold-function"
"""On the runtime under the hood: the function's name."""

RUNTIMES = (*(f"PYTHON_3_{minor}" for minor in range(10, 15)), "NODE_22")
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_HANDLER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,120}\.[A-Za-z_][A-Za-z0-9_]{0,63}")


class Code(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A zip in the tenant's own object storage."""

    bucket: str
    key: str


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A function as it is to be. `tags` go to the runtime, where `freehold:*` ones are settings."""

    name: str
    runtime: str
    handler: str
    code: Code
    description: str = ""
    seconds_max: int = SECONDS_DEFAULT
    memory_mib: int = MEMORY_MIB_DEFAULT
    environment: dict[str, str] = {}
    tags: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Wanted({self.name})"


class Function(msgspec.Struct, frozen=True, kw_only=True):
    """What an invocation must know."""

    id: str
    arn: str
    name: str
    runtime_id: str
    seconds_max: int
    memory_mib: int

    @classmethod
    def of(cls, resource: Resource) -> "Function":
        document = resource.document
        return cls(
            id=resource.id,
            arn=resource.arn,
            name=resource.name,
            runtime_id=document["_runtime_id"],
            seconds_max=document["timeoutSeconds"],
            memory_mib=document["memoryMib"],
        )


def check(wanted: Wanted) -> None:
    """Raises ValidationFailed."""
    if not _NAME.fullmatch(wanted.name):
        raise ValidationFailed("name: 1 to 64 letters, digits, '-' and '_'")
    if wanted.runtime not in RUNTIMES:
        raise ValidationFailed(f"runtime: one of {', '.join(RUNTIMES)}")
    if not _HANDLER.fullmatch(wanted.handler) or ".." in wanted.handler:
        raise ValidationFailed("handler: the module and the function in it, such as main.handler")
    if not 1 <= wanted.seconds_max <= SECONDS_MAX:
        raise ValidationFailed(f"timeoutSeconds: 1 to {SECONDS_MAX}")
    if len(wanted.description) > DESCRIPTION_MAX:
        raise ValidationFailed(f"description: at most {DESCRIPTION_MAX} characters")
