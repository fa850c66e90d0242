"""Sign-in of a command line, and the temporary credentials that it gets."""

import asyncio
import base64
import hashlib
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest
from people_ground import ORIGIN, Ground, new_source

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import (
    AccessDenied,
    FreeholdError,
    NotFound,
    Throttled,
    ValidationFailed,
)
from freehold.services.people.devices import DeviceOver, Loopback, SlowDown, StillPending

VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode()[:43]


def loopback(port: int = 51234) -> Loopback:
    return Loopback(port=port, code_challenge=CHALLENGE, state="s" * 20)


async def somebody(ground: Ground, *roles: str) -> Caller:
    member, password = await ground.person(*roles)
    found = await ground.sign_in.local(member.person.name, password, source=ground.source)
    return found.caller


async def test_leave_given_in_a_browser_gives_the_device_credentials_of_that_person(
    ground: Ground,
) -> None:
    caller = await somebody(ground, "operator")
    started = await ground.devices.start("freehold on laptop", source=ground.source)
    assert started.verification_url == f"{ORIGIN}/console/device"
    with pytest.raises(StillPending):
        await ground.devices.redeem(started.device_code)
    typed = started.user_code.lower().replace("-", " ")
    seen = await ground.devices.pending(typed, caller)
    assert (seen.description, seen.source, seen.nearby, seen.user_code) == (
        "freehold on laptop", ground.source, False, started.user_code,
    )  # fmt: skip
    assert (await ground.devices.approve(typed, caller)).redirect is None
    made = await ground.devices.redeem(started.device_code)
    key = await ground.keys.active(made.access_key_id)
    assert key is not None
    assert made.access_key_id.startswith("FHSA")
    assert (key.tenant, key.user, key.roles) == (ground.first, caller.user, {"operator"})
    assert key.secret == made.secret_access_key
    assert key.token_sha256 == hashlib.sha256(made.session_token.encode()).hexdigest()
    assert key.expires_at == made.expires_at
    event = ground.audit.events[-1]
    assert (event.operation, event.user) == ("freehold:RedeemDeviceSignIn", caller.user)


async def test_the_link_holds_the_code_only_where_the_answer_stays_on_that_machine(
    ground: Ground,
) -> None:
    """A link with the code in it, sent to somebody, is the usual way to fool people here."""
    plain = await ground.devices.start("", source=ground.source)
    assert plain.verification_url_complete is None
    nearby = await ground.devices.start("", source=ground.source, loopback=loopback())
    assert nearby.user_code in str(nearby.verification_url_complete)


async def test_of_many_who_ask_at_once_one_gets_the_credentials(ground: Ground) -> None:
    caller = await somebody(ground)
    started = await ground.devices.start("", source=ground.source)
    await ground.devices.approve(started.user_code, caller)
    outcomes = await asyncio.gather(
        *(ground.devices.redeem(started.device_code) for _ in range(5)), return_exceptions=True
    )
    assert sorted(type(o).__name__ for o in outcomes) == ["Credentials"] + ["DeviceOver"] * 4


async def test_with_a_port_of_its_own_the_code_must_come_by_the_browser(ground: Ground) -> None:
    caller = await somebody(ground)
    started = await ground.devices.start("", source=ground.source, loopback=loopback(40404))
    approved = await ground.devices.approve(started.user_code, caller)
    assert approved.redirect is not None
    back = urlsplit(approved.redirect)
    query = parse_qs(back.query)
    assert (back.scheme, back.netloc) == ("http", "127.0.0.1:40404")
    assert query["state"] == ["s" * 20]
    with pytest.raises(StillPending):
        await ground.devices.redeem(started.device_code)
    made = await ground.devices.redeem(started.device_code, query["code"][0], VERIFIER)
    assert made.user == caller.user
    assert query["code"][0] not in repr(approved)


@pytest.mark.parametrize("wrong", ["code", "verifier", "both"])
async def test_a_wrong_proof_ends_the_sign_in(ground: Ground, wrong: str) -> None:
    caller = await somebody(ground)
    started = await ground.devices.start("", source=ground.source, loopback=loopback())
    approved = await ground.devices.approve(started.user_code, caller)
    code = parse_qs(urlsplit(str(approved.redirect)).query)["code"][0]
    sent = code if wrong == "verifier" else "x" * 43
    verifier = VERIFIER if wrong == "code" else "w" * 43
    for proof in ((sent, verifier), (code, VERIFIER)):
        with pytest.raises(DeviceOver):
            await ground.devices.redeem(started.device_code, *proof)


async def test_a_refusal_is_told_and_final(ground: Ground) -> None:
    caller = await somebody(ground)
    started = await ground.devices.start("", source=ground.source)
    await ground.devices.deny(started.user_code, caller)
    with pytest.raises(AccessDenied):
        await ground.devices.redeem(started.device_code)
    for answer in (ground.devices.approve, ground.devices.deny, ground.devices.pending):
        with pytest.raises(NotFound):
            await answer(started.user_code, caller)


async def test_who_asks_too_often_is_told_to_slow_down(ground: Ground) -> None:
    started = await ground.devices.start("", source=ground.source)
    steps: list[tuple[int, type[FreeholdError]]] = [
        (0, StillPending), (5, StillPending), (1, SlowDown), (6, SlowDown), (15, StillPending),
    ]  # fmt: skip
    for wait, expected in steps:
        ground.clock.later(seconds=wait)
        with pytest.raises(expected):
            await ground.devices.redeem(started.device_code)


async def test_it_is_over_after_ten_minutes(ground: Ground) -> None:
    caller = await somebody(ground)
    started = await ground.devices.start("", source=ground.source)
    ground.clock.later(minutes=11)
    with pytest.raises(DeviceOver):
        await ground.devices.redeem(started.device_code)
    with pytest.raises(NotFound):
        await ground.devices.approve(started.user_code, caller)


async def test_codes_cannot_be_guessed_but_right_ones_may_be_many(ground: Ground) -> None:
    caller = await somebody(ground)
    for _ in range(12):
        started = await ground.devices.start("", source=ground.source)
        await ground.devices.pending(started.user_code, caller)
        await ground.devices.approve(started.user_code, caller)
    waiting = await ground.devices.start("", source=ground.source)
    for _ in range(10):
        with pytest.raises(NotFound):
            await ground.devices.pending("BBBB-BBBB", caller)
    with pytest.raises(Throttled):
        await ground.devices.approve(waiting.user_code, caller)


@pytest.mark.parametrize("kind", [k for k in CallerKind if k is not CallerKind.PERSON])
async def test_only_a_person_gives_leave(ground: Ground, kind: CallerKind) -> None:
    started = await ground.devices.start("", source=ground.source)
    caller = Caller(tenant=ground.first, principal="x", kind=kind, user="admin")
    with pytest.raises(AccessDenied):
        await ground.devices.approve(started.user_code, caller)


async def test_who_lost_their_roles_between_leave_and_answer_gets_nothing(ground: Ground) -> None:
    caller = await somebody(ground)
    started = await ground.devices.start("", source=ground.source)
    await ground.devices.approve(started.user_code, caller)
    await ground.people.set_roles(ground.first, str(caller.user), frozenset())
    with pytest.raises(AccessDenied):
        await ground.devices.redeem(started.device_code)


@pytest.mark.parametrize(
    "bad",
    [
        Loopback(port=80, code_challenge=CHALLENGE, state="s" * 20),
        Loopback(port=70000, code_challenge=CHALLENGE, state="s" * 20),
        Loopback(port=4000, code_challenge="plain", state="s" * 20),
        Loopback(port=4000, code_challenge=CHALLENGE, state="s"),
        Loopback(port=4000, code_challenge=CHALLENGE, state="s" * 20 + "&code=x"),
    ],
)
async def test_a_loopback_that_cannot_be_is_refused(ground: Ground, bad: Loopback) -> None:
    with pytest.raises(ValidationFailed):
        await ground.devices.start("", source=ground.source, loopback=bad)


async def test_one_address_cannot_fill_the_table(ground: Ground) -> None:
    outcomes = await asyncio.gather(
        *(ground.devices.start("", source=ground.source) for _ in range(210)),
        return_exceptions=True,
    )
    assert [type(o) for o in outcomes].count(Throttled) == 10


async def test_no_code_token_or_secret_is_stored(ground: Ground) -> None:
    caller = await somebody(ground)
    waiting = await ground.devices.start("", source=ground.source)
    started = await ground.devices.start("", source=ground.source, loopback=loopback())
    approved = await ground.devices.approve(started.user_code, caller)
    code = parse_qs(urlsplit(str(approved.redirect)).query)["code"][0]
    stored = await ground.everything_stored()
    made = await ground.devices.redeem(started.device_code, code, VERIFIER)
    stored += await ground.everything_stored()
    for secret in (
        waiting.device_code, waiting.user_code, waiting.user_code.replace("-", ""),
        started.device_code, code, VERIFIER, made.secret_access_key, made.session_token,
    ):  # fmt: skip
        assert secret not in stored + repr(made) + repr(started)
    assert made.access_key_id in stored


async def _credentials(ground: Ground, caller: Caller) -> str:
    started = await ground.devices.start("", source=new_source())
    await ground.devices.approve(started.user_code, caller)
    return (await ground.devices.redeem(started.device_code)).access_key_id


async def test_credentials_follow_the_person_in_every_worker_at_once(
    ground: Ground, database: PostgresDatabase
) -> None:
    other_worker = Ground(database, ground.first).keys
    caller = await somebody(ground, "developer")
    name = str(caller.user)
    id = await _credentials(ground, caller)

    async def seen() -> frozenset[str] | None:
        key = await other_worker.active(id)
        return None if key is None else key.roles

    assert await seen() == {"developer"}
    await ground.people.set_roles(ground.first, name, frozenset({"auditor"}))
    await _becomes(seen, frozenset({"auditor"}))
    await ground.people.set_active(ground.first, name, active=False)
    await _becomes(seen, None)


async def test_credentials_that_were_ended_are_nobodys(ground: Ground) -> None:
    caller = await somebody(ground)
    id, other = await _credentials(ground, caller), await _credentials(ground, caller)
    with pytest.raises(NotFound):
        await ground.keys.end("999999999999", id)
    await ground.keys.end(ground.first, id)
    assert await ground.keys.active(id) is None
    assert await ground.keys.active(other) is not None
    await ground.people.new_password(ground.first, str(caller.user))
    await _becomes(lambda: ground.keys.active(other), None)


async def _becomes(seen: Callable[[], object], wanted: object) -> None:
    async with asyncio.timeout(10):
        while await seen() != wanted:  # type: ignore[misc]
            await asyncio.sleep(0.01)
