"""How a version becomes a sandbox: AgentCore's contract, as command and variables.

A code bundle is at /var/task, read-only, and is the working directory; what it may write is $HOME
and /tmp. A container image has its own files, command, variables and working directory. Source:
AWS's developer guide, "Direct code deployment"; the SDK's `BedrockAgentCoreApp`.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from freehold.kernel.errors import RuntimeClientFailed
from freehold.ports.images import CONFIG_FILE, ImageConfig
from freehold.ports.interpreters import Interpreter
from freehold.ports.placement import Launch
from freehold.ports.sandbox import LAUNCHER, Mount, SandboxSpec
from freehold.services.runtime.network import EGRESS_PORT, proxy_environment
from freehold.services.runtime.telemetry import is_telemetry, telemetry_environment

CODE_INSIDE = "/var/task"
LAYERS_INSIDE = "/opt/layers"
DOORWAY_PORT = 7400

# The launcher knows it; Node.js does not.
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
    if launch.image:
        return _image_spec(
            launch,
            build_root / launch.image,
            sandbox_id=sandbox_id,
            directory=directory,
            output=output,
            doorway_environment=doorway_environment,
        )
    interpreter = interpreters.get(launch.interpreter)
    if interpreter is None:
        raise RuntimeClientFailed(
            f"{launch.interpreter} is not installed on this machine any more; it has "
            f"{', '.join(sorted(interpreters)) or 'none'}"
        )
    sources = [build_root / launch.code, *(build_root / layer for layer in launch.layers)]
    for source in sources:
        if not source.is_dir():
            raise _gone(launch, source)
    layers = [f"{LAYERS_INSIDE}/{number}" for number in range(len(launch.layers))]
    mounts = [Mount(str(s), t) for s, t in zip(sources, [CODE_INSIDE, *layers], strict=True)]
    return SandboxSpec(
        id=sandbox_id,
        command=_command(interpreter, launch.entry_point, layers),
        environment={
            **_without_telemetry(doorway_environment),
            **proxy_environment(launch.egress),
            **_contract(),
            **launch.environment,
            **telemetry_environment(launch, doorway_environment, launch.environment),
        },
        mounts=tuple(mounts),
        workdir=CODE_INSIDE,
        directory=str(directory / "sandbox"),
        output=str(output),
        limits=launch.limits,
        loopback_ports=_ports(launch),
    )


def _image_spec(
    launch: Launch,
    folder: Path,
    *,
    sandbox_id: str,
    directory: Path,
    output: Path,
    doorway_environment: Mapping[str, str],
) -> SandboxSpec:
    try:
        config = msgspec.json.decode((folder / CONFIG_FILE).read_bytes(), type=ImageConfig)
    except FileNotFoundError as error:
        raise _gone(launch, folder) from error
    own = {**config.environment, **launch.environment}
    return SandboxSpec(
        id=sandbox_id,
        command=config.command,
        environment={
            **config.environment,
            **_without_telemetry(doorway_environment),
            **_contract(),
            **launch.environment,
            **telemetry_environment(launch, doorway_environment, own),
        },
        workdir=config.workdir,
        directory=str(directory / "sandbox"),
        output=str(output),
        limits=launch.limits,
        loopback_ports=(DOORWAY_PORT,),
        root=str(folder),
    )


def _gone(launch: Launch, source: Path) -> RuntimeClientFailed:
    return RuntimeClientFailed(
        f"what was built for version {launch.version} is gone from this machine "
        f"({source.name}); update the agent runtime to build it again"
    )


def _command(
    interpreter: Interpreter, entry_point: tuple[str, ...], layers: list[str]
) -> tuple[str, ...]:
    if interpreter.name.startswith("NODE"):
        wrapped = entry_point[0] in _WRAPPERS and len(entry_point) > 1
        entry = entry_point[1:] if wrapped else entry_point
        return (interpreter.executable, f"{CODE_INSIDE}/{entry[0]}", *entry[1:])
    options = [word for layer in layers for word in ("--layer", layer)]
    return (interpreter.executable, LAUNCHER, "--code", CODE_INSIDE, *options, *entry_point)


def _ports(launch: Launch) -> tuple[int, ...]:
    return (DOORWAY_PORT,) if launch.egress.reach == "none" else (DOORWAY_PORT, EGRESS_PORT)


def _without_telemetry(doorway: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in doorway.items() if not is_telemetry(name)}


def _contract() -> dict[str, str]:
    return {
        "DOCKER_CONTAINER": "1",  # the SDK's app then takes itself for hosted
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
