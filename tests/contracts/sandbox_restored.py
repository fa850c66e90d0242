"""A gVisor driver whose sandboxes begin from checkpoints, for the suites of all tiers."""

import itertools
from pathlib import Path
from typing import Any

import msgspec

from freehold.adapters.sandbox.container.sandbox import ContainerSandbox
from freehold.adapters.sandbox.gvisor import GvisorDriver
from freehold.ports.sandbox import LAUNCHER, Limits, SandboxSpec, Template, TemplateSpec

_numbers = itertools.count()


class RestoringDriver(GvisorDriver):
    """Takes a checkpoint where there is none for such a sandbox, and insists on it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._place: Path = options["directory"].parent
        self._made: dict[object, Template] = {}

    async def start(self, spec: SandboxSpec, template: Template | None = None) -> ContainerSandbox:
        template = template or await self._template_for(spec)
        sandbox = await super().start(spec, template)
        suited = template.unsuited(spec)
        assert suited or sandbox.record.template == template.id, sandbox.ordinary_because
        return sandbox

    async def _template_for(self, spec: SandboxSpec) -> Template:
        launched = spec.command[1:2] == (LAUNCHER,)
        scratch = spec.limits.scratch_bytes_max
        key = (spec.command[0], spec.mounts if launched else None, scratch)
        if key not in self._made:
            name = f"template-{next(_numbers)}"
            output = self._place / f"{name}.log"
            output.touch()
            self._made[key] = await self.prepare(
                TemplateSpec(
                    id=name,
                    command=spec.command if launched else (spec.command[0], "-c", ""),
                    mounts=spec.mounts if launched else (),
                    directory=str(self._place / name),
                    output=str(output),
                    modules=() if launched else ("asyncio", "json", "random", "ssl", "uuid"),
                    limits=msgspec.structs.replace(
                        Limits(memory_bytes_max=1 << 30), scratch_bytes_max=scratch
                    ),
                )
            )
            made = self._made[key]
            assert made.state == "ready" or "python" not in spec.command[0], made.reason
        return self._made[key]
