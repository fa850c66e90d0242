"""The way for further programs into sandboxes that namespaces hold."""

import os
from collections.abc import Callable
from typing import Protocol

from freehold.adapters.sandbox import rlimits
from freehold.adapters.sandbox.cgroups import Cgroups, Group
from freehold.adapters.sandbox.execution import surroundings
from freehold.adapters.sandbox.execution.command import RunningCommand
from freehold.adapters.sandbox.execution.starter import Birth, Starter
from freehold.adapters.sandbox.processes import Watch
from freehold.adapters.sandbox.records import Record
from freehold.ports.sandbox import CommandSpec, SandboxFailed, SandboxSpec


class Held(Protocol):
    """A sandbox as its driver knows it."""

    record: Record
    spec: SandboxSpec | None
    group: Group
    environment: dict[str, str] | None
    """None: an earlier process of ours started it."""


class Entrance:
    """`user` is the one inside. `filter_program`: what the sandboxes' own programs run under."""

    def __init__(self, *, cgroups: Cgroups, user: int, filter_program: Callable[[], bytes]) -> None:
        self._cgroups = cgroups
        self._user = user
        self.starter = Starter(filter_program)

    async def execute(self, spec: CommandSpec, sandbox: Held, init: Watch) -> RunningCommand:
        """`init` is the first process of its namespaces."""
        session = sandbox.spec
        try:
            first = os.pidfd_open(init.process.pid)
        except ProcessLookupError as error:
            raise SandboxFailed("the session has ended") from error
        try:
            if session is None or not init.alive:  # then that pid may be a stranger's
                raise SandboxFailed("the session has ended")
            memory, tasks = (not self._cgroups.limits(each) for each in ("memory", "pids"))
            birth = Birth(
                command=spec.command,
                environment=surroundings.environment_for(spec, _environment(sandbox, init)),
                workdir=spec.workdir or session.workdir,
                terminal=spec.terminal,
                limits=rlimits.wanted(session.limits, memory=memory, processes=tasks),
                groups=sandbox.group.directories,
                namespaces=surroundings.namespaces_of(init.process.pid),
                user=self._user,
                leave_groups=sandbox.record.uid is not None,
                confined=True,
            )
            return await self.starter.start(birth, first=first, owner=sandbox.record.uid)
        finally:
            os.close(first)

    def close(self) -> None:
        self.starter.close()


def _environment(sandbox: Held, init: Watch) -> dict[str, str]:
    if sandbox.environment is not None:
        return sandbox.environment
    if sandbox.record.template:
        return surroundings.environment_kept_by(init.process.pid)
    return surroundings.environment_of(surroundings.payload_of(init.process.pid))
