"""How a session's sandbox comes to be, and what is cleared away after it."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from freehold.adapters.placement.local.logs import SessionLog, log_path, older
from freehold.adapters.placement.local.session import LiveSession
from freehold.adapters.placement.local.tiers import Tiers
from freehold.kernel import ids
from freehold.kernel.errors import FreeholdError
from freehold.ports.placement import Launch, SessionKey
from freehold.ports.sandbox import (
    LAUNCHER,
    SandboxSpec,
    Template,
    TemplateDriver,
    TemplateSpec,
)

log = logging.getLogger(__name__)

SpecOf = Callable[[Launch, str, Path, Path], SandboxSpec]
"""(launch, sandbox id, directory, output) -> what to run: plugged in by the composition root."""

_FROM_TEMPLATE = {"container": "forked"}
_TEMPLATE_LOG_BYTES_MAX = 1 << 20


class Starter:
    def __init__(
        self,
        *,
        tiers: Tiers,
        spec_of: SpecOf,
        state: Path,
        start_seconds_max: float,
        log_bytes_max: int,
    ) -> None:
        self.tiers = tiers
        self.directories, self.logs = state / "sessions", state / "logs"
        self._templates = state / "templates"
        self._spec_of = spec_of
        self.start_seconds_max, self._log_bytes_max = start_seconds_max, log_bytes_max

    def session(self, launch: Launch) -> LiveSession:
        """Nothing of it is there yet."""
        sandbox_id = "s-" + ids.random_text(16).lower()
        directory = self.directories / sandbox_id
        session = LiveSession(
            key=launch.key, sandbox_id=sandbox_id, runtime_arn=launch.runtime_arn,
            user=launch.user, version=launch.version, port=launch.port,
            protocol=launch.protocol,
            idle_seconds=launch.idle_seconds, lifetime_seconds=launch.lifetime_seconds,
            directory=directory,
            session_log=self.session_log(launch.key, sandbox_id, directory),
        )  # fmt: skip
        session.tier = launch.tier or self.tiers.default
        session.egress = launch.egress
        session.ready.add_done_callback(lambda f: f.cancelled() or f.exception())
        return session

    def session_log(self, key: SessionKey, sandbox_id: str, directory: Path) -> SessionLog:
        return SessionLog(
            directory / "output",
            log_path(self.logs, key.tenant, key.runtime_id, sandbox_id),
            bytes_max=self._log_bytes_max,
        )

    def begin(self, session: LiveSession, launch: Launch) -> SandboxSpec:
        """Its folder, its log, and what is to run. Raises RuntimeClientFailed."""
        session.directory.mkdir(mode=0o711)
        session.log.open()
        session.spec = self._spec_of(
            launch, session.sandbox_id, session.directory, session.directory / "output"
        )
        return session.spec

    async def start(self, session: LiveSession, template: Template | None, note: str) -> None:
        """`note`: why there is no template, when there is none."""
        assert session.spec is not None
        driver = await self.tiers.driver(session.tier)
        session.start_note = note
        if template is None or not isinstance(driver, TemplateDriver):
            session.sandbox = await driver.start(session.spec)
            return
        sandbox = await driver.start(session.spec, template)
        session.sandbox = sandbox
        if sandbox.ordinary_because is None:
            session.start = _FROM_TEMPLATE.get(session.tier, "restored")
        else:
            session.start_note = sandbox.ordinary_because

    async def until_ready(self, session: LiveSession) -> None:
        await session.until_ready(seconds_max=self.start_seconds_max)

    async def discard(self, session: LiveSession) -> None:
        """Of one that nobody was ever given, the log as well."""
        session.doom("nobody needed it")
        try:
            await session.tear_down(grace_seconds=0)
        except (FreeholdError, OSError):
            log.exception("something of sandbox %s is left", session.sandbox_id)
        shutil.rmtree(session.directory, ignore_errors=True)
        for path in (session.log.path, older(session.log.path)):
            path.unlink(missing_ok=True)

    # -- templates

    async def prepared(self, launch: Launch) -> Template | str:
        """Or why there can be none. Takes as long as the agent's imports."""
        driver = await self.tiers.driver(launch.tier or self.tiers.default)
        if not isinstance(driver, TemplateDriver):
            return f"the {driver.tier} tier starts every session from nothing"
        name = "t-" + ids.random_text(16).lower()
        folder = self._templates / name
        # The customer's variables are no template's: they may be secrets, and stay in memory.
        public = msgspec.structs.replace(launch, environment={})
        spec = self._spec_of(public, name, folder, folder / "output")
        if spec.command[1:2] != (LAUNCHER,):
            return "what it runs is no Python program of the launcher's"
        folder.mkdir(parents=True, mode=0o711)
        folder.parent.chmod(0o711)
        # Read like that of a session: what is imported may say more than the disk holds.
        said = SessionLog(folder / "output", folder / "log", bytes_max=_TEMPLATE_LOG_BYTES_MAX)
        said.open()
        try:
            template = await driver.prepare(
                TemplateSpec(
                    id=name,
                    command=spec.command,
                    environment=spec.environment,
                    mounts=tuple(mount for mount in spec.mounts if not mount.writable),
                    directory=spec.directory,
                    output=spec.output,
                    limits=spec.limits,
                )
            )
        finally:
            said.close()
        if template.state != "ready":
            await self.close_template(template)
            return template.reason
        return template

    async def close_template(self, template: Template) -> None:
        """Sessions that came from it go on."""
        try:
            await template.close()
        except (FreeholdError, OSError):
            log.exception("something of template %s is left", template.id)
        shutil.rmtree(self._templates / template.id, ignore_errors=True)

    def forget_templates(self) -> None:
        """Folders of those that an earlier node made: their drivers have ended them."""
        shutil.rmtree(self._templates, ignore_errors=True)
