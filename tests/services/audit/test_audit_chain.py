"""The chain: what it proves, and which changes of the stored rows it tells."""

import asyncio
import hashlib
import json
from datetime import timedelta

import psycopg
import pytest
from audit_ground import Ground, event, ground, sealer, verdict

from freehold.kernel import clock
from freehold.services.audit.model import Filter
from freehold.services.audit.native import _exported
from freehold.services.audit.service import AuditTrail, Retention


async def _filled(audit: Ground, tenant: str, count: int = 6) -> None:
    await audit.wrote(*(event(tenant, detail={"n": str(n)}) for n in range(count)))


def _row(tenant: str, sequence: int) -> str:
    """The entry at that place, as a condition."""
    return (
        f"(writer, number) = (SELECT writer, number FROM audit_links"
        f" WHERE tenant = '{tenant}' AND sequence = {sequence})"
    )


async def test_a_chain_that_nobody_touched_holds(audit: Ground, tenant: str) -> None:
    await _filled(audit, tenant)
    found = await audit.verdict(tenant)
    assert (found.holds, found.checked, found.sequence, found.faults) == (True, 6, 6, [])
    assert found.checkpoints >= 1


async def test_tenants_have_chains_of_their_own(audit: Ground, tenant: str) -> None:
    other = str(int(tenant) // 2).rjust(12, "1")
    await audit.wrote(event(tenant), event(other), event(tenant), event(other), event(other))
    assert (await audit.verdict(tenant)).sequence == 2
    assert (await audit.verdict(other)).sequence == 3


async def test_an_exported_chain_is_verified_with_nothing_but_sha256(
    audit: Ground, tenant: str
) -> None:
    texts = 'grüße \u2028 \x1f "quoted" \\ and \U0001f511'
    await audit.wrote(*(event(tenant, detail={"said": f"{texts}{n}"}) for n in range(5)))
    lines = [_exported(*pair) async for pair in audit.trail.export(tenant, Filter())]
    previous = hashlib.sha256(b"freehold audit " + tenant.encode()).hexdigest()
    for sequence, line in enumerate(lines, 1):
        said = json.loads(line)
        entry = line.rstrip(b"\n").partition(b'"entry":')[2][:-1]
        assert (said["sequence"], said["previous"]) == (sequence, previous)
        previous = hashlib.sha256(bytes.fromhex(previous) + entry).hexdigest()
        assert said["hash"] == previous
    assert previous == (await audit.verdict(tenant)).hash


CHANGED = {
    "its text": "UPDATE audit_entries SET entry = replace(entry::text, 'allowed', 'denied')::json"
    " WHERE {three}",
    "white space in its text": "UPDATE audit_entries SET entry = (entry::text || ' ')::json"
    " WHERE {three}",
    "its time": "UPDATE audit_entries SET at = at - interval '1 hour' WHERE {three}",
    "its tenant": "UPDATE audit_entries SET tenant = '000000000001' WHERE {three}",
    "its hash": "UPDATE audit_links SET hash = sha256(hash)"
    " WHERE tenant = '{tenant}' AND sequence = 3",
}


@pytest.mark.parametrize("what", CHANGED)
async def test_a_changed_entry_is_found(what: str, audit: Ground, tenant: str) -> None:
    await _filled(audit, tenant)
    await audit.tamper(CHANGED[what].format(three=_row(tenant, 3), tenant=tenant))
    found = await audit.verdict(tenant)
    assert not found.holds
    assert ("changed", 3) in [(f.kind, f.sequence) for f in found.faults]


REMOVED = {
    "an entry": ("DELETE FROM audit_entries WHERE {three}",),
    "an entry and its link": (
        "DELETE FROM audit_entries WHERE {three}",
        "DELETE FROM audit_links WHERE tenant = '{tenant}' AND sequence = 3",
    ),
    "the end": (
        "DELETE FROM audit_entries WHERE tenant = '{tenant}' AND {six}",
        "DELETE FROM audit_links WHERE tenant = '{tenant}' AND sequence = 6",
    ),
    "everything": (
        "DELETE FROM audit_entries WHERE tenant = '{tenant}'",
        "DELETE FROM audit_links WHERE tenant = '{tenant}'",
    ),
    "the chain and its head": (
        "DELETE FROM audit_entries WHERE tenant = '{tenant}'",
        "DELETE FROM audit_links WHERE tenant = '{tenant}'",
        "DELETE FROM audit_heads WHERE tenant = '{tenant}'",
    ),
}


@pytest.mark.parametrize("what", REMOVED)
async def test_what_was_removed_is_missed(what: str, audit: Ground, tenant: str) -> None:
    await _filled(audit, tenant)
    rows = {"three": _row(tenant, 3), "six": _row(tenant, 6), "tenant": tenant}
    await audit.tamper(*(statement.format(**rows) for statement in REMOVED[what]))
    found = await audit.verdict(tenant)
    assert not found.holds
    assert "removed" in {fault.kind for fault in found.faults}


async def test_a_chain_that_cannot_go_on_keeps_nobody_from_writing(
    audit: Ground, database_dsn: str, tenant: str
) -> None:
    await _filled(audit, tenant)
    await audit.tamper(f"DELETE FROM audit_heads WHERE tenant = '{tenant}'")
    await audit.writer.write(event(tenant))
    with pytest.raises(psycopg.errors.UniqueViolation):
        await audit.link()
    await audit.writer.write(event(tenant))
    found = await audit.verdict(tenant)
    assert (found.holds, found.waiting) == (False, 2)
    await audit.tamper(f"DELETE FROM audit_links WHERE tenant = '{tenant}'")
    await audit.link()


async def test_entries_that_changed_places_are_found(audit: Ground, tenant: str) -> None:
    await _filled(audit, tenant)
    await audit.tamper(
        f"UPDATE audit_links a SET writer = b.writer, number = b.number FROM audit_links b"
        f" WHERE a.tenant = '{tenant}' AND b.tenant = '{tenant}'"
        f" AND (a.sequence, b.sequence) IN ((2, 4), (4, 2))"
    )
    faults = [(f.kind, f.sequence) for f in (await audit.verdict(tenant)).faults]
    assert faults == [("changed", 2), ("changed", 4)]


async def test_an_entry_that_was_slipped_in_is_found(audit: Ground, tenant: str) -> None:
    await _filled(audit, tenant)
    await audit.tamper(
        f"INSERT INTO audit_entries SELECT writer, -number, tenant, at, entry"
        f" FROM audit_entries WHERE {_row(tenant, 3)}"
    )
    found = await audit.verdict(tenant)
    assert [fault.kind for fault in found.faults] == ["inserted"]


async def test_a_chain_computed_anew_from_a_change_on_breaks_the_seals(
    audit: Ground, tenant: str
) -> None:
    """A superuser can do everything but seal."""
    await _filled(audit, tenant)
    await audit.tamper(
        f"UPDATE audit_entries SET entry = replace(entry::text, 'allowed', 'denied')::json"
        f" WHERE {_row(tenant, 3)}",
        f"DELETE FROM audit_links WHERE tenant = '{tenant}'",
        f"INSERT INTO audit_links SELECT '{tenant}', row_number() OVER w, writer, number,"
        f" audit_chain(audit_genesis('{tenant}'), entry::text) OVER w FROM audit_entries"
        f" WHERE tenant = '{tenant}' WINDOW w AS (ORDER BY number)",
        f"UPDATE audit_heads SET hash = (SELECT hash FROM audit_links WHERE tenant = '{tenant}'"
        f" ORDER BY sequence DESC LIMIT 1) WHERE tenant = '{tenant}'",
    )
    found = await audit.verdict(tenant)
    assert [fault.kind for fault in found.faults] == ["rewritten"]


async def test_a_checkpoint_of_another_key_is_no_checkpoint(audit: Ground, tenant: str) -> None:
    await _filled(audit, tenant)
    stranger = AuditTrail(audit.database, sealer(b"x" * 32))
    assert [f.kind for f in (await verdict(stranger, tenant)).faults] == ["rewritten"]


async def test_a_head_that_was_noted_elsewhere_proves_what_came_before_it(
    audit: Ground, tenant: str
) -> None:
    await _filled(audit, tenant)
    noted = await audit.verdict(tenant)
    await _filled(audit, tenant)
    expected = (noted.sequence, bytes.fromhex(noted.hash))
    assert (await audit.verdict(tenant, expected=expected)).holds
    assert (await audit.verdict(tenant, after=6)).checked == 6
    other = (noted.sequence, b"\0" * 32)
    assert [f.kind for f in (await audit.verdict(tenant, expected=other)).faults] == ["rewritten"]
    beyond = (99, b"\0" * 32)
    assert [f.kind for f in (await audit.verdict(tenant, expected=beyond)).faults] == ["removed"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_entries SET tenant = tenant",
        "DELETE FROM audit_entries",
        "TRUNCATE audit_entries",
        "UPDATE audit_links SET hash = hash",
        "DELETE FROM audit_links",
        "TRUNCATE audit_links",
        "UPDATE audit_heads SET sequence = sequence - 1",
        "DELETE FROM audit_heads",
    ],
)
async def test_the_database_refuses_whoever_does_not_get_around_it(
    statement: str, audit: Ground, tenant: str
) -> None:
    await _filled(audit, tenant, 1)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        async with audit.database.connection() as connection:
            await connection.execute(statement.encode())


async def test_what_is_too_old_goes_and_the_chain_stays_anchored(
    audit: Ground, tenant: str
) -> None:
    old = clock.now() - timedelta(days=40)
    await audit.wrote(*(event(tenant, at=old) for _ in range(5)), event(tenant), event(tenant))
    before = await audit.verdict(tenant)
    await Retention(audit.database, audit.writer, days=30).expire()
    await audit.link()
    after = await audit.verdict(tenant)
    assert (after.holds, after.anchor, after.checked) == (True, 5, 3)
    assert (await audit.verdict(tenant, expected=(7, bytes.fromhex(before.hash)))).holds
    newest = json.loads((await audit.texts(tenant))[0])
    assert (newest["operation"], newest["detail"]["anchor"]) == ("freehold:ExpireAudit", "5")


async def test_writers_that_share_tenants_link_without_getting_in_each_others_way(
    audit: Ground, database_dsn: str, tenant: str
) -> None:
    tenants = [tenant, *(str(int(tenant) // n).rjust(12, "7") for n in range(2, 6))]

    async def work(one: Ground, order: list[str]) -> None:
        for _ in range(15):
            await asyncio.gather(*(one.writer.write(event(name)) for name in order * 2))
            await one.link()

    async with ground(database_dsn, audit.database) as other, asyncio.timeout(30):
        await asyncio.gather(work(audit, tenants), work(other, tenants[::-1]))
    for name in tenants:
        found = await audit.verdict(name)
        assert (found.holds, found.sequence) == (True, 60)
