"""Instrumented agents begin from templates too: instrumentors before the fork, the SDK after it."""

import itertools
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sandbox_ground import PYTHON, Ground, Running, ground_of

import instrumented_layer
from freehold.adapters.sandbox.container import ContainerDriver
from freehold.adapters.sandbox.container.sandbox import ContainerSandbox
from freehold.adapters.sandbox.gvisor import GvisorDriver
from freehold.ports.sandbox import LAUNCHER, Mount, Template, TemplateSpec

MAIN = """
import dependency, os, threading
print("main", dependency.App.traced, os.environ["OF_THE_DISTRO"], threading.active_count())
"""
_numbers = itertools.count()


@pytest.fixture(scope="module", params=["container", "gvisor"])
async def ground(request: pytest.FixtureRequest) -> AsyncIterator[Ground]:
    root = Path(tempfile.mkdtemp(prefix="freehold-instrumented-"))
    async with ground_of(request.param, root) as made:
        if not (probe := await made.driver.probe()).available:
            pytest.skip(probe.detail)
        yield made


def agent(ground: Ground, main: str = MAIN, **environment: str) -> dict[str, Any]:
    """The options of its sandboxes."""
    number = next(_numbers)
    code, layer = (ground.root / f"{kind}-{number}" for kind in ("code", "layer"))
    for folder in (code, layer):
        folder.mkdir(mode=0o755)
    (code / "main.py").write_text(main)
    (layer / "dependency.py").write_text(instrumented_layer.DEPENDENCY)
    instrumented_layer.fill(layer)
    command = (PYTHON, LAUNCHER, "--code", "/task", "--layer", "/layer", *instrumented_layer.ENTRY)
    return {
        "command": command,
        "mounts": (Mount(str(code), "/task"), Mount(str(layer), "/layer")),
        "workdir": "/task",
        "environment": {"PYTHONUNBUFFERED": "1", **environment},
    }


async def prepared(ground: Ground, options: dict[str, Any]) -> tuple[Template, str]:
    """A template, and what was said while it was made."""
    name = f"instrumented-{next(_numbers)}"
    output = ground.root / f"{name}.log"
    output.touch()
    spec = TemplateSpec(
        id=name,
        command=options["command"],
        mounts=options["mounts"],
        environment=dict(options["environment"]),
        directory=str(ground.root / "boxes" / name),
        output=str(output),
        limits=ground.spec("").limits,
        spares=0,
    )
    assert isinstance(ground.driver, (ContainerDriver, GvisorDriver))
    template = await ground.driver.prepare(spec)
    assert template.state == "ready", template.reason
    return template, output.read_text()


async def session(ground: Ground, options: dict[str, Any], template: Template) -> Running:
    """One that has ended."""
    spec = ground.spec(**options)
    assert isinstance(ground.driver, (ContainerDriver, GvisorDriver))
    running = Running(await ground.driver.start(spec, template), spec)
    await running.end()
    await running.sandbox.stop()
    return running


def ordinary_because(running: Running) -> str | None:
    assert isinstance(running.sandbox, ContainerSandbox)  # gVisor's as well
    return running.sandbox.ordinary_because


async def test_only_the_sdk_starts_in_the_session(ground: Ground) -> None:
    options = agent(ground, OTEL_SERVICE_NAME="of-the-template")
    template, before = await prepared(ground, options)
    distro, instrumentors = (line for line in before.splitlines() if " in " in line)
    assert distro.startswith("distro")
    assert instrumentors.endswith("before True")
    options["environment"]["OTEL_SERVICE_NAME"] = "of-the-session"
    for _ in range(2):
        running = await session(ground, options, template)
        assert ordinary_because(running) is None
        configurator, main, flushed = running.output.splitlines()
        assert configurator.startswith("configurator in ")
        assert configurator.endswith(" of-the-session")
        assert (main, flushed) == ("main True set 2", "flushed")
    await template.close()


async def test_a_session_whose_distribution_would_decide_otherwise_starts_on_its_own(
    ground: Ground,
) -> None:
    options = agent(ground)
    template, _ = await prepared(ground, options)
    options["environment"]["OF_THE_DISTRO"] = "the customer's"
    running = await session(ground, options, template)
    assert "OF_THE_DISTRO was read" in str(ordinary_because(running))
    assert "main True the customer's 2" in running.output
    await template.close()


async def test_without_the_packages_a_session_begins_there_all_the_same(ground: Ground) -> None:
    options = agent(ground, "import dependency; print('runs')")
    (Path(options["mounts"][1].source) / "stand_in-1.0.dist-info" / "entry_points.txt").write_text(
        ""
    )
    template, _ = await prepared(ground, options)
    running = await session(ground, options, template)
    assert ordinary_because(running) is None
    assert "opentelemetry-distro" in running.output
    assert running.output.splitlines()[-1] == "runs"
    await template.close()
