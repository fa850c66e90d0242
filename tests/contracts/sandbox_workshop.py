"""Agents, templates of them, and sessions that are started from those."""

import itertools
from typing import Any

from sandbox_ground import PYTHON, Ground, Running

from freehold.adapters.sandbox.container import ContainerDriver
from freehold.adapters.sandbox.template.template import ContainerTemplate
from freehold.ports.sandbox import LAUNCHER, Mount, TemplateSpec

WAIT = "import time\nprint('up', flush=True)\ntime.sleep(600)"

_numbers = itertools.count()


class Workshop:
    """Agents of a layer with one module `dependency`, templates of them, and their sessions."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.driver = ground.driver
        assert isinstance(self.driver, ContainerDriver)

    def agent(self, dependency: str, main: str, **files: str) -> dict[str, Any]:
        """The options of its sandboxes."""
        number = next(_numbers)
        code, layer = (self.ground.root / f"{kind}-{number}" for kind in ("code", "layer"))
        for folder in (code, layer):
            folder.mkdir(mode=0o755)
        (layer / "dependency.py").write_text(dependency)
        (code / "main.py").write_text(main)
        for name, text in files.items():
            (code / f"{name}.py").write_text(text)
        return {
            "command": (PYTHON, LAUNCHER, "--code", "/task", "--layer", "/layer", "main.py"),
            "mounts": (Mount(str(code), "/task"), Mount(str(layer), "/layer")),
            "workdir": "/task",
            "environment": {"PYTHONUNBUFFERED": "1"},
        }

    async def template(self, agent: dict[str, Any], **options: Any) -> ContainerTemplate:
        name = f"template-{next(_numbers)}"
        output = self.ground.root / f"{name}.log"
        output.touch()
        spec = TemplateSpec(
            id=name,
            **{key: agent[key] for key in ("command", "mounts", "environment")}
            | {"spares": 0}
            | options,
            directory=str(self.ground.root / "boxes" / name),
            output=str(output),
        )
        assert isinstance(self.driver, ContainerDriver)
        return await self.driver.prepare(spec)

    async def start(self, agent: dict[str, Any], template: ContainerTemplate) -> Running:
        spec = self.ground.spec(**agent)
        assert isinstance(self.driver, ContainerDriver)
        running = Running(await self.driver.start(spec, template), spec)
        self.ground._running.append(running)
        return running

    async def said(self, agent: dict[str, Any], template: ContainerTemplate) -> str:
        """By a session, from its start to its own end."""
        running = await self.start(agent, template)
        assert running.sandbox.record.template == template.id, running.sandbox.ordinary_because
        end = await running.end()
        await running.sandbox.stop()
        assert end.code == 0, running.output
        return running.output
