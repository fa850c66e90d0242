"""`freehold deploy`: a folder becomes a runtime, or a new version of one."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from freehold.cli import bundle, code_bucket, project, runtimes
from freehold.cli.build import BUSY, wait_until_ready
from freehold.cli.bundle import Bundle
from freehold.cli.failure import CliError
from freehold.cli.options import platform_options
from freehold.cli.output import Progress
from freehold.cli.platform import Platform
from freehold.cli.project import Project

_READY = "READY"


@click.command()
@click.argument(
    "directory",
    metavar="[DIR]",
    default=".",
    type=click.Path(path_type=Path, file_okay=False),
)
@click.option("--image", help="A container image in place of the folder's code.")
@click.option("--force", is_flag=True, help="Make a new version even when nothing changed.")
@platform_options
def deploy(platform: Platform, directory: Path, image: str | None, force: bool) -> None:
    """Deploy the agent in DIR and wait until it is ready.

    DIR is this folder when it is not given. The first time this makes the agent, later a new
    version of it. The build's log is shown as it comes. When the build fails, the reason is
    shown and the exit status is 1.
    """
    agent = project.load(directory, image=image)
    with tempfile.TemporaryFile() as scratch, platform.output.progress("Packing ...") as progress:
        packed = None
        if agent.image is None:
            packed = bundle.write(directory, agent.exclude, scratch)
            scratch.seek(0)
        result = _deploy(platform, agent, packed, scratch, progress, force=force)
    output = platform.output
    if output.as_json:
        output.document(result)
        return
    if result["changed"]:
        output.say(f"{agent.name} version {result['version']} is ready.")
    else:
        output.say(f"{agent.name} is unchanged: version {result['version']} is ready.")
    output.say(result["arn"])
    output.note(f'Next: freehold invoke {agent.name} "Good morning"')


def _deploy(
    platform: Platform,
    agent: Project,
    packed: Bundle | None,
    scratch: Any,
    progress: Progress,
    *,
    force: bool,
) -> dict[str, Any]:
    """The result document. Raises CliError with the reason when the build fails.

    `packed` None: it is an image, and there is nothing to upload.
    """
    control: Any = platform.control  # the stubs cannot follow keyword arguments from a dict
    key = code_bucket.key(agent.name, packed.sha256) if packed else ""
    wanted = _configuration(platform, agent, key)
    runtime = runtimes.by_name(platform, agent.name)
    current: Mapping[str, Any] = {}
    if runtime is not None:
        current = control.get_agent_runtime(agentRuntimeId=runtime.id)
        if current["status"] in BUSY:
            progress.update("Waiting for the build that is under way ...")
            current = wait_until_ready(platform, runtime.id, progress)
        _tag(platform, runtime.arn, agent.tags)
        if not force and current["status"] == _READY and _same(current, wanted, agent):
            return _result(current, packed, changed=False)
    if packed:
        progress.update(f"Uploading {packed.files} files, {_size(packed.bytes)} ...")
        code_bucket.upload(platform, scratch, key)
    if runtime is None:
        made: Mapping[str, Any] = control.create_agent_runtime(
            agentRuntimeName=agent.name,
            **wanted,
            **({"tags": agent.tags} if agent.tags else {}),
        )
    else:
        kept = _kept(current, agent)
        made = control.update_agent_runtime(agentRuntimeId=runtime.id, **{**kept, **wanted})
    progress.update(f"Building {agent.name} version {made['agentRuntimeVersion']} ...")
    got = wait_until_ready(platform, made["agentRuntimeId"], progress)
    if got["status"] != _READY:
        raise CliError(
            f"{agent.name} could not be built: {got.get('failureReason') or got['status']}",
            code=got["status"],
            hint=f"The whole build log: freehold logs {agent.name} --build",
        )
    return _result(got, packed, changed=True)


def _configuration(platform: Platform, agent: Project, key: str) -> dict[str, Any]:
    """What Create and Update take. Complete, so that what left freehold.toml leaves the runtime."""
    wanted: dict[str, Any] = {
        "agentRuntimeArtifact": _artifact(agent, key),
        "roleArn": f"arn:aws:iam::{platform.account}:role/freehold",
        "networkConfiguration": {"networkMode": "PUBLIC"},
        "protocolConfiguration": {"serverProtocol": agent.protocol},
        "lifecycleConfiguration": {
            "idleRuntimeSessionTimeout": agent.idle_timeout_seconds,
            "maxLifetime": agent.lifetime_seconds,
        },
        "environmentVariables": agent.environment,
    }
    if agent.description:
        wanted["description"] = agent.description
    if agent.authorizer:
        wanted["authorizerConfiguration"] = {"customJWTAuthorizer": agent.authorizer}
    return wanted


def _artifact(agent: Project, key: str) -> dict[str, Any]:
    if agent.image is not None:
        return {"containerConfiguration": {"containerUri": agent.image}}
    return {
        "codeConfiguration": {
            "code": {"s3": {"bucket": code_bucket.BUCKET, "prefix": key}},
            "runtime": agent.runtime,
            "entryPoint": list(agent.entry_point),
        }
    }


_AUTHORIZER = "authorizerConfiguration"
# What freehold.toml does not say: an update sends it back as it is, for an update replaces all.
_NOT_IN_PROJECT = (
    _AUTHORIZER,
    "requestHeaderConfiguration",
    "hooksConfiguration",
    "metadataConfiguration",
    "filesystemConfigurations",
    "capacityProviderConfiguration",
    "platformVersion",
    "allowedPorts",
    "resourceConfigurations",
)


def _kept(current: Mapping[str, Any], agent: Project) -> dict[str, Any]:
    kept = {name: current[name] for name in _NOT_IN_PROJECT if current.get(name)}
    if agent.authorizer == {}:
        kept.pop(_AUTHORIZER, None)
    return kept


def _same(current: Mapping[str, Any], wanted: Mapping[str, Any], agent: Project) -> bool:
    """Whether an update would change nothing."""
    if agent.authorizer == {} and current.get(_AUTHORIZER):
        return False
    if current.get("description") != wanted.get("description"):
        return False
    if (current.get("environmentVariables") or {}) != wanted["environmentVariables"]:
        return False
    return all(
        _holds(current.get(name), value)
        for name, value in wanted.items()
        if name != "environmentVariables"
    )


def _holds(there: Any, wanted: Any) -> bool:
    """The platform may answer with more fields than were asked for, never with others."""
    if isinstance(wanted, dict):
        return isinstance(there, dict) and all(_holds(there.get(k), v) for k, v in wanted.items())
    return bool(there == wanted)


def _tag(platform: Platform, arn: str, tags: Mapping[str, str]) -> None:
    """Add and change tags; others may have set more, so none is removed."""
    if not tags:
        return
    there = platform.control.list_tags_for_resource(resourceArn=arn).get("tags", {})
    changed = {name: value for name, value in tags.items() if there.get(name) != value}
    if changed:
        platform.control.tag_resource(resourceArn=arn, tags=changed)


def _result(got: Mapping[str, Any], packed: Bundle | None, *, changed: bool) -> dict[str, Any]:
    return {
        "name": got["agentRuntimeName"],
        "id": got["agentRuntimeId"],
        "arn": got["agentRuntimeArn"],
        "version": got["agentRuntimeVersion"],
        "status": got["status"],
        "changed": changed,
        **({"codeSha256": packed.sha256} if packed else {}),
    }


def _size(count: int) -> str:
    return f"{count / 1024:.0f} KB" if count < 1 << 20 else f"{count / (1 << 20):.1f} MB"
