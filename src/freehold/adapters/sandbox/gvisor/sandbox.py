"""One running gVisor sandbox."""

import asyncio
import contextlib
import shutil
import signal
from pathlib import Path
from typing import Any

from freehold.adapters.sandbox.container.sandbox import ContainerSandbox
from freehold.adapters.sandbox.gvisor import beside
from freehold.adapters.sandbox.gvisor.control import Control
from freehold.ports.sandbox import Command, CommandSpec, SandboxFailed


class GvisorSandbox(ContainerSandbox):
    """Held, reached, metered and ended by the namespaces and the group around runsc.

    The payload of bubblewrap is `runsc run`, which ends with the sandbox's exit code. All that
    gVisor starts is in the same process namespace, and dies with its pid 1.
    """

    tier = "gvisor"
    kept_environment = "/proc/1/environ"
    """Where its first process has it, inside."""

    def __init__(self, *, relay: Path, limits_memory_inside: bool, **options: Any) -> None:
        """`relay` is a folder of the host that may be there, and goes with it.
        `limits_memory_inside`: for lack of a control group, per process."""
        super().__init__(**options)
        self._relay = relay
        self._limits_memory_inside = limits_memory_inside

    def _clear_files(self) -> None:
        super()._clear_files()
        shutil.rmtree(self._relay, ignore_errors=True)

    @property
    def _control(self) -> Control:
        if self._init is None:
            raise ConnectionError("the sandbox does not run")
        return Control.within(self._init.process.pid, self.id)

    async def execute(self, spec: CommandSpec) -> Command:
        if self._end.done() or self._gone or not self._init or not self.spec:
            raise SandboxFailed("the session has ended")
        return await beside.executed(
            spec,
            self.spec,
            self._control,
            environment=self.kept_environment if self.environment is None else self.environment,
            uid=self.record.uid,
            limits=beside.limits_inside(self.spec.limits, memory=self._limits_memory_inside),
        )

    async def _set_frozen(self, frozen: bool) -> None:
        if self.group.freezes:
            await super()._set_frozen(frozen)
        elif frozen:
            # Stopping its host processes one by one would make gVisor's kernel wait for some.
            await self._control.pause()
        else:
            await self._control.resume()

    async def _kill(self) -> None:
        if self._monitor and self.record.monitor is None:
            # Cut short while bubblewrap waits for its users to be mapped, and for nothing else.
            self._monitor.send(signal.SIGKILL)
        await super()._kill()

    async def _ask_to_end(self, grace_seconds: float) -> None:
        with contextlib.suppress(ConnectionError):
            await self.thaw()
            # `runsc run` would die of a signal, not hand it on.
            await self._control.signal(signal.SIGTERM)
        await asyncio.wait([self._end], timeout=grace_seconds)
