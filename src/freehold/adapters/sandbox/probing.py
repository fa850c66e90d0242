"""Whether a tier works on this machine: by running a sandbox that does nothing."""

import asyncio
import secrets
import shutil
import tempfile
from pathlib import Path

from freehold.ports.sandbox import SandboxDriver, SandboxFailed, SandboxSpec

_ADVICE = (
    "; user namespaces may be refused here: on Ubuntu give bwrap an AppArmor profile with"
    " `userns,` or set kernel.apparmor_restrict_unprivileged_userns=0; elsewhere see"
    " user.max_user_namespaces and kernel.unprivileged_userns_clone"
)


async def problem_of(driver: SandboxDriver) -> str | None:
    """What went wrong, with what was said and what may help; None when it ran."""
    scratch = Path(tempfile.mkdtemp(prefix="freehold-probe-"))
    output = scratch / "output"
    spec = SandboxSpec(
        id=f"probe-{secrets.token_hex(6)}",
        command=("/usr/bin/env", "true"),
        environment={},
        directory=str(scratch / "sandbox"),
        output=str(output),
    )
    try:
        sandbox = await driver.start(spec)
        try:
            end = await sandbox.wait()
        finally:  # whoever asks may be cancelled
            await asyncio.shield(sandbox.stop())
    except SandboxFailed as error:
        return _explained(error.message, output)
    else:
        return None if end.code == 0 else _explained(end.reason, output)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _explained(problem: str, output: Path) -> str:
    said = output.read_text(errors="replace").strip()[-500:] if output.exists() else ""
    words = ("ermission denied", "not permitted", "namespace")
    refused = any(word in problem + said for word in words)
    return f"{problem}{': ' + said if said else ''}{_ADVICE if refused else ''}"
