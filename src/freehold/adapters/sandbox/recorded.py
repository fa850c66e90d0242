"""What every driver does with the records of its sandboxes: start once, adopt, sweep."""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from freehold.adapters.sandbox import records
from freehold.adapters.sandbox.records import Record, Records
from freehold.ports.sandbox import Limits, Sandbox, SandboxFailed, SandboxSpec

_SETUP_SECONDS_MAX = 20.0


class RecordedSandbox(Sandbox, Protocol):
    record: Record
    spec: SandboxSpec | None
    """Without its environment when it was adopted; None while it is only swept away."""

    async def listen(self, ports: tuple[int, ...]) -> None: ...

    def let_go(self) -> None: ...


S = TypeVar("S", bound=RecordedSandbox)


class RecordedDriver(ABC, Generic[S]):
    """A tier adds how one of its sandboxes is made, and how a recorded one is found again."""

    tier: str
    setup_seconds_max = _SETUP_SECONDS_MAX

    def __init__(self, directory: Path) -> None:
        self._records = Records(directory / "records")
        self._running: dict[str, S] = {}
        self._starting: set[str] = set()

    @abstractmethod
    def _new_record(self, spec: SandboxSpec) -> Record: ...

    @abstractmethod
    def _sandbox(self, record: Record, limits: Limits) -> S:
        """The object alone; nothing runs yet."""

    @abstractmethod
    async def _bring_up(self, spec: SandboxSpec, sandbox: S) -> None:
        """What is half made when this fails, `stop` clears away."""

    @abstractmethod
    def _found(self, sandbox: S) -> bool:
        """Whether it still runs whole. Takes hold of what is left of it, for `stop`."""

    async def start(self, spec: SandboxSpec) -> S:
        if spec.id in self._running or spec.id in self._starting or self._records.load(spec.id):
            raise SandboxFailed(f"a sandbox {spec.id} exists already")
        sandbox = self._sandbox(self._new_record(spec), spec.limits)
        sandbox.spec = spec
        self._starting.add(spec.id)
        try:
            async with asyncio.timeout(self.setup_seconds_max):
                await self._bring_up(spec, sandbox)
        except TimeoutError as error:
            await sandbox.stop()
            raise SandboxFailed("the sandbox was not set up in time") from error
        except OSError as error:
            await sandbox.stop()
            raise SandboxFailed(f"the sandbox could not be set up: {error}") from error
        except BaseException:  # a cancelled start leaves nothing behind either
            await asyncio.shield(sandbox.stop())
            raise
        finally:
            self._starting.discard(spec.id)
        self._running[spec.id] = sandbox
        return sandbox

    async def adopt(self, spec: SandboxSpec) -> S | None:
        if running := self._running.get(spec.id):
            return running
        record = self._records.load(spec.id)
        if record is None:
            return None
        sandbox = self._sandbox(record, spec.limits)
        sandbox.spec = spec
        # It may die in between, or have taken the doorway's port while nobody listened there.
        with contextlib.suppress(OSError, SandboxFailed):
            if record.of_this_boot and self._found(sandbox):
                await sandbox.listen(spec.loopback_ports)
                self._running[spec.id] = sandbox
                return sandbox
        await sandbox.stop()
        return None

    async def sweep(self, keep: set[str]) -> list[str]:
        unwanted = [
            record
            for record in self._records.all()
            if record.id not in keep and record.id not in self._starting
        ]
        for record in unwanted:
            sandbox = self._running.get(record.id)
            if sandbox is None:
                sandbox = self._sandbox(record, Limits())
                with contextlib.suppress(OSError, SandboxFailed):
                    if record.of_this_boot:
                        self._found(sandbox)
            await sandbox.stop()
        return [record.id for record in unwanted]

    async def close(self) -> None:
        for sandbox in list(self._running.values()):
            sandbox.let_go()
        self._running.clear()

    def _forget(self, sandbox: S) -> None:
        self._running.pop(sandbox.id, None)
        self._records.forget(sandbox.id)

    def _record(self, spec: SandboxSpec) -> Record:
        return records.new(spec.id, spec.directory)
