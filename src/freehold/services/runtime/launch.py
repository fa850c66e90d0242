"""How a version becomes a sandbox: AgentCore's contract for code bundles, as command and variables.

The code is at /var/task, read-only, and is the working directory; what it may write is $HOME and
/tmp. Source: AWS's developer guide, "Direct code deployment"; the SDK's `BedrockAgentCoreApp`.
"""

from collections.abc import Mapping
from pathlib import Path

from freehold.kernel.errors import RuntimeClientFailed
from freehold.ports.interpreters import Interpreter
from freehold.ports.placement import Launch
from freehold.ports.sandbox import LAUNCHER, Mount, SandboxSpec

CODE_INSIDE = "/var/task"
LAYERS_INSIDE = "/opt/layers"
DOORWAY_PORT = 7400

# The AWS distribution of OpenTelemetry starts agents through this; without a collector in place
# it only costs start-up time, so the agent is started plainly.
_WRAPPERS = frozenset({"opentelemetry-instrument"})


def session_spec(
    launch: Launch,
    *,
    sandbox_id: str,
    directory: Path,
    output: Path,
    build_root: Path,
    interpreters: Mapping[str, Interpreter],
    doorway_environment: Mapping[str, str],
) -> SandboxSpec:
    interpreter = interpreters.get(launch.interpreter)
    if interpreter is None:
        raise RuntimeClientFailed(
            f"{launch.interpreter} is not installed on this machine any more; it has "
            f"{', '.join(sorted(interpreters)) or 'none'}"
        )
    sources = [build_root / launch.code, *(build_root / layer for layer in launch.layers)]
    for source in sources:
        if not source.is_dir():
            raise RuntimeClientFailed(
                f"what was built for version {launch.version} is gone from this machine "
                f"({source.name}); update the agent runtime to build it again"
            )
    layers = [f"{LAYERS_INSIDE}/{number}" for number in range(len(launch.layers))]
    mounts = [Mount(str(s), t) for s, t in zip(sources, [CODE_INSIDE, *layers], strict=True)]
    return SandboxSpec(
        id=sandbox_id,
        command=_command(interpreter, launch.entry_point, layers),
        environment={**doorway_environment, **_contract(launch), **launch.environment},
        mounts=tuple(mounts),
        workdir=CODE_INSIDE,
        directory=str(directory / "sandbox"),
        output=str(output),
        limits=launch.limits,
        loopback_ports=(DOORWAY_PORT,),
    )


def _command(
    interpreter: Interpreter, entry_point: tuple[str, ...], layers: list[str]
) -> tuple[str, ...]:
    entry = entry_point[1:] if entry_point[0] in _WRAPPERS and entry_point[1:] else entry_point
    if interpreter.name.startswith("NODE"):
        return (interpreter.executable, f"{CODE_INSIDE}/{entry[0]}", *entry[1:])
    options = [word for layer in layers for word in ("--layer", layer)]
    return (interpreter.executable, LAUNCHER, "--code", CODE_INSIDE, *options, *entry)


def _contract(launch: Launch) -> dict[str, str]:
    return {
        "DOCKER_CONTAINER": "1",  # the SDK's app then takes itself for hosted
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OTEL_RESOURCE_ATTRIBUTES": f"cloud.resource_id={launch.runtime_arn}",
    }
