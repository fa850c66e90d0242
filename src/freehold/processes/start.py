"""What `up` finds out by itself before its processes run: the tier, the database, the first key."""

import os
from dataclasses import replace
from pathlib import Path

import msgspec
import psycopg
from psycopg.conninfo import conninfo_to_dict

import freehold
from freehold import state as state_files
from freehold.ports.sandbox import Probe
from freehold.processes.certificates import authority_of
from freehold.processes.parts import database as make_database
from freehold.processes.parts import sandbox_drivers, sealer
from freehold.processes.people import prepare as prepare_people
from freehold.services.access.service import AccessKeyService
from freehold.settings import Settings, allowed_tiers
from freehold.supervisor import DidNotStart

PACKAGE = Path(freehold.__file__).parent


class Tier(msgspec.Struct, frozen=True):
    """What sessions get when their runtime does not say, and how it works here."""

    name: str
    detail: str


_FASTEST = ("container", "gvisor", "vm")
"""The order in which `auto` tries: see docs/decisions/0015-tiers-and-warmth.md."""


async def chosen_tier(settings: Settings) -> Tier:
    """The tier that sessions get, tried out. Never weaker than what was asked for."""
    wanted = settings.sandbox_tier
    if wanted == "process":
        return Tier("process", (await _probe(settings, "process")).detail)
    closed = state_files.closed_to_others(settings.state) if _other_users() else None
    if closed is not None:
        why = (
            f"sandboxes run as users of their own, and may not enter {closed}: keep the state "
            "elsewhere, such as under /var/lib/freehold"
        )
    else:
        allowed = allowed_tiers(settings)
        candidates = [wanted] if wanted != "auto" else [t for t in _FASTEST if t in allowed]
        whys = []
        for tier in candidates:
            # What is only emulated is for those who ask for it by name.
            given = settings if wanted == tier else replace(settings, vm_emulation=False)
            probe = await _probe(given, tier)
            if probe.available:
                return Tier(tier, probe.detail)
            whys.append(f"the {tier} tier does not work on this machine: {probe.detail}")
        why = "; ".join(whys)
    if wanted == "auto" and "process" in allowed_tiers(settings):
        return Tier("process", f"no container tier: {why}")
    raise DidNotStart(
        f"{why}\nFor development only: --tier process --allow-process-tier runs agents unisolated."
    )


async def _probe(settings: Settings, tier: str) -> Probe:
    drivers = sandbox_drivers(settings, {})
    try:
        return await drivers[tier].probe()
    finally:
        await drivers[tier].close()


def _other_users() -> bool:
    return os.geteuid() == 0


def checked_database_url(url: str) -> str:
    """Raises DidNotStart, which does not repeat the URL: it may hold a password."""
    try:
        named = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        named = {}
    if not url.startswith(("postgresql://", "postgres://")) or not named:
        raise DidNotStart(
            "the database URL cannot be read: expected postgresql://USER:PASSWORD@HOST:PORT/NAME"
        )
    return url


async def connection(settings: Settings, endpoint: str) -> state_files.Connection:
    """Where and how clients connect; an access key is made on the first start."""
    known = state_files.read_connection(settings.state)
    database = make_database(settings, "supervisor")
    keys = AccessKeyService(database, sealer(settings))
    await database.start()
    try:
        if known is None or await keys.active(known.access_key_id) is None:
            new = await keys.create(settings.account, "made at the first start")
            account, id, secret = settings.account, new.id, new.secret
        else:
            account, id, secret = known.account, known.access_key_id, known.secret_access_key
        await prepare_people(settings, database)
    finally:
        await keys.close()
        await database.close()
    made = state_files.Connection(
        endpoint=endpoint, region=settings.region, account=account,
        access_key_id=id, secret_access_key=secret,
        ca_certificate=authority_of(settings),
    )  # fmt: skip
    state_files.write_connection(settings.state, made)
    return made
