"""Sessions that outlived their node: found again by the next one, or written off."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from freehold.adapters.placement.local import kept as kept_files
from freehold.adapters.placement.local.logs import SessionLog
from freehold.adapters.placement.local.meter import Meter
from freehold.adapters.placement.local.session import LiveSession
from freehold.kernel.clock import now
from freehold.kernel.errors import FreeholdError
from freehold.ports.placement import SessionKey, SessionRecord, SessionUsage
from freehold.ports.sandbox import Sandbox, SandboxDriver

log = logging.getLogger(__name__)

LOST = "lost: the platform was stopped without warning"

LogOf = Callable[[SessionKey, str, Path], SessionLog]


async def adopted(
    record: SessionRecord,
    directory: Path,
    *,
    drivers: Mapping[str, SandboxDriver],
    log_of: LogOf,
) -> tuple[LiveSession, Sandbox] | None:
    """None: it is gone, or nobody was ever told that it was ready."""
    kept = kept_files.read(directory)
    driver = drivers.get(kept.tier) if kept is not None and kept.ready else None
    if kept is None or driver is None:
        return None
    try:
        sandbox = await driver.adopt(kept.spec)
    except (FreeholdError, OSError):
        log.exception("session %s runs, but cannot be adopted", record.sandbox_id)
        return None
    if sandbox is None:
        return None
    session = LiveSession(
        key=kept.key, sandbox_id=record.sandbox_id, runtime_arn=kept.runtime_arn,
        user=kept.user, version=kept.version, port=kept.port, protocol=kept.protocol,
        idle_seconds=kept.idle_seconds, lifetime_seconds=kept.lifetime_seconds,
        directory=directory, session_log=log_of(kept.key, record.sandbox_id, directory),
    )  # fmt: skip
    session.started_at, session.last_used_at = record.started_at, now()
    session.invocations = record.invocations
    session.meter = Meter(cpu_before=kept.cpu_before)
    if record.cpu_seconds is not None:  # it was measured before
        session.meter.cpu_seconds = record.cpu_seconds
        session.meter.memory_gb_seconds = record.memory_gb_seconds
    session.start, session.start_note = record.start, record.start_note
    session.tier, session.spec, session.is_up = kept.tier, kept.spec, True
    session.egress = kept.egress
    session.recorded = True
    session.ready.set_result(None)
    return session, sandbox


def last_known(record: SessionRecord) -> SessionUsage:
    """What a lost session is charged: as much as was written down."""
    return SessionUsage(
        sandbox_id=record.sandbox_id,
        status="ENDED",
        last_used_at=record.last_used_at,
        invocations=record.invocations,
        cpu_seconds=record.cpu_seconds,
        memory_gb_seconds=record.memory_gb_seconds,
        start=record.start,
        start_note=record.start_note,
    )
