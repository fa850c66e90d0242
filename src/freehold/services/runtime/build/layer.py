"""The dependency layer: pip in a sandbox, and what came of it under a name that says what it is."""

import asyncio
import hashlib
import platform
import sysconfig
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from freehold.kernel.threads import in_thread
from freehold.ports.egress import Egress
from freehold.ports.interpreters import Interpreter
from freehold.ports.sandbox import Mount, SandboxDriver
from freehold.services.runtime.build import sandboxed, tools
from freehold.services.runtime.build.index import PackageIndex
from freehold.services.runtime.build.log import BuildLog
from freehold.services.runtime.build.model import BuildFailed, BuildLimits
from freehold.services.runtime.build.requirements import Requirements
from freehold.services.runtime.build.tree import BuildTree, Resolved, TooLarge, seal

_HERE = "/opt/freehold-build"
_TOOLS, _INPUT, _WORK, _CODE = (f"{_HERE}/{name}" for name in ("tools", "input", "work", "code"))


class LayerBuilder:
    """A layer's key is a digest of tenant, interpreter, platform and all that was installed.

    Taken from the installed files, not from what pip or a package says of them: a package's own
    code ran beside them, and must not be able to pass for another layer. Requirements that led to
    a layer are remembered for `resolved_days_max`; after that, ranges are resolved anew.
    """

    def __init__(
        self,
        *,
        tree: BuildTree,
        driver: SandboxDriver,
        egress: Egress,
        index: Callable[[], Awaitable[PackageIndex]],
        limits: BuildLimits,
    ) -> None:
        self._tree = tree
        self._driver = driver
        self._egress = egress
        self._index = index
        self._limits = limits

    def key(
        self, tenant: str, code: Path, interpreter: Interpreter, requirements: Requirements
    ) -> str:
        """Of the question; the same key leads to the same layer for some days."""
        return _digest(
            *_platform(tenant, interpreter),
            requirements.requirements,
            requirements.constraints,
            requirements.find_links,
            code.name if requirements.bundled else "",
        )

    def known(self, tenant: str, key: str) -> Path | None:
        resolved = self._tree.resolved(tenant, key)
        if resolved is None or time.time() - resolved.at > self._limits.resolved_days_max * 86_400:
            return None
        layer = self._tree.layer(resolved.layer)
        return layer if layer.is_dir() else None

    async def install(
        self,
        tenant: str,
        key: str,
        *,
        code: Path,
        interpreter: Interpreter,
        requirements: Requirements,
        staged: Path,
        log: BuildLog,
    ) -> Path:
        index = await self._index()
        log.hide(index.secrets)
        for note in (*requirements.notes, *index.notes):
            log.note(note)
        if index.secrets and requirements.runs_code:
            raise BuildFailed(
                "the package index needs a credential, so only wheels by name can be installed:"
                " code in a requirement's own build could read it"
            )
        work, given = staged / "work", staged / "input"
        for directory in (work, given):
            directory.mkdir()
        _write_lines(given / "requirements.txt", requirements.requirements)
        _write_lines(given / "constraints.txt", requirements.constraints)
        prepared = await in_thread(tools.prepare_tools, self._tree, staged / "tools")
        log.note(f"installing {requirements.source} for {interpreter.name} {interpreter.version}")
        started = time.monotonic()
        end = await sandboxed.run(
            sandboxed.Task(
                command=_command(interpreter, requirements, index),
                environment=_environment(index),
                mounts=(
                    Mount(str(prepared), _TOOLS),
                    Mount(str(given), _INPUT),
                    Mount(str(code), _CODE),
                    *index.mounts,
                ),
                work=work,
                work_inside=_WORK,
                destinations=index.destinations,
                limits=self._limits.sandbox,
                seconds_max=self._limits.seconds_max,
                bytes_max=self._limits.layer_bytes_max,
                entries_max=self._limits.layer_entries_max,
            ),
            driver=self._driver,
            egress=self._egress,
            staged=staged,
            log=log,
        )
        if end.code != 0:
            raise BuildFailed(f"{requirements.source} could not be installed: {end.reason}")
        log.note(f"installed in {time.monotonic() - started:.1f} s")
        return await in_thread(self._publish, tenant, key, interpreter, work / "target")

    def _publish(self, tenant: str, key: str, interpreter: Interpreter, target: Path) -> Path:
        if target.is_symlink() or not target.is_dir():
            raise BuildFailed("what the build left is not a directory")
        try:
            content = seal(
                target,
                bytes_max=self._limits.layer_bytes_max,
                entries_max=self._limits.layer_entries_max,
            )
        except TooLarge as error:
            raise BuildFailed("the installed requirements are too large") from error
        layer = _digest(*_platform(tenant, interpreter), content)
        self._tree.publish(target, self._tree.layer(layer))
        self._tree.remember(tenant, key, Resolved(layer, time.time()))
        return self._tree.layer(layer)


async def compile_code(
    code: Path,
    interpreter: Interpreter,
    *,
    tree: BuildTree,
    driver: SandboxDriver,
    egress: Egress,
    staged: Path,
    limits: BuildLimits,
    log: BuildLog,
) -> None:
    """Bytecode beside the bundle's modules, so that each session need not make its own."""
    prepared = await asyncio.to_thread(tools.prepare_tools, tree, staged / "tools-to-compile")
    try:
        end = await sandboxed.run(
            sandboxed.Task(
                command=(
                    interpreter.executable,
                    "-I",
                    f"{_TOOLS}/{tools.INSIDE}",
                    "compile",
                    _CODE,
                ),
                environment={},
                mounts=(Mount(str(prepared), _TOOLS),),
                work=code,
                work_inside=_CODE,
                destinations=frozenset(),
                limits=limits.sandbox,
                seconds_max=limits.compile_seconds_max,
                bytes_max=limits.unpacked_bytes_max * 2,
                entries_max=limits.entries_max * 3,
            ),
            driver=driver,
            egress=egress,
            staged=staged,
            log=log,
        )
    except BuildFailed as error:
        log.note(f"the bundle's modules are not all compiled: {error.reason}")
    else:
        if end.code != 0:
            log.note(f"the bundle's modules are not all compiled: {end.reason}")


def _command(
    interpreter: Interpreter, requirements: Requirements, index: PackageIndex
) -> tuple[str, ...]:
    """Wheels before source distributions, and nothing but wheels where there is a credential."""
    formats = "--only-binary=:all:" if index.secrets else "--prefer-binary"
    constraints = ("-c", f"{_INPUT}/constraints.txt") if requirements.constraints else ()
    return (
        *(interpreter.executable, "-I", "-B", f"{_TOOLS}/{tools.INSIDE}", "install"),
        *(f"{_TOOLS}/{tools.PIP_RUNNER}", _WORK, _CODE if requirements.bundled else "-"),
        *("--no-compile", "--progress-bar=off", "--no-warn-script-location", formats),
        *index.arguments,
        *(f"--find-links=./{directory}" for directory in requirements.find_links),
        *("-r", f"{_INPUT}/requirements.txt", *constraints),
    )


def _environment(index: PackageIndex) -> dict[str, str]:
    return {
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_NO_INPUT": "1",
        "PIP_NO_COLOR": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
        "PIP_RETRIES": "2",
        **index.environment,
    }


def _platform(tenant: str, interpreter: Interpreter) -> tuple[str, ...]:
    return (
        *(tenant, interpreter.name, interpreter.version, interpreter.executable),
        *(sysconfig.get_platform(), *platform.libc_ver()),
    )


def _digest(*parts: str | list[str]) -> str:
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))
