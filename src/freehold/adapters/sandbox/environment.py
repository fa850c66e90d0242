"""What every tier does to a spec's environment."""

import re
from collections.abc import Mapping

from freehold.ports.sandbox import SandboxFailed, SandboxSpec, TemplateSpec

_LOOPBACK = re.compile(r"\$\{LOOPBACK_(\d{1,5})\}")


def completed(
    spec: SandboxSpec | TemplateSpec, *, ports: Mapping[int, int], defaults: dict[str, str]
) -> dict[str, str]:
    """Loopback ports filled in; `defaults` for what is not set."""

    def port(match: re.Match[str]) -> str:
        try:
            return str(ports[int(match[1])])
        except KeyError:
            raise SandboxFailed(f"{match[0]} is not one of the loopback ports asked for") from None

    given = {name: _LOOPBACK.sub(port, value) for name, value in spec.environment.items()}
    return with_defaults(given, defaults)


def with_defaults(given: dict[str, str], defaults: dict[str, str]) -> dict[str, str]:
    for name, value in given.items():
        if not name or "=" in name or "\0" in name + value:
            raise SandboxFailed(f"{name!r} is not an environment variable that can be set")
    return {**defaults, **given}
