"""Sign-in with a password, and the sessions that it gives."""

import asyncio

import pytest
from people_ground import Ground, Nowhere, new_source

from freehold.adapters.oidc.verifier import OidcVerifier
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.kernel.caller import CallerKind
from freehold.kernel.errors import AccessDenied, Throttled, Unauthorized
from freehold.ports.sign_in import SignInRefused
from freehold.services.people.guesses import FROM_ONE_MAX, Guesses


async def test_a_right_password_gives_a_session_of_that_person(ground: Ground) -> None:
    member, password = await ground.person("developer", "auditor")
    signed_in = await ground.sign_in.local(member.person.name, password, source=ground.source)
    caller = await ground.sign_in.session(signed_in.token)
    assert caller == signed_in.caller
    assert caller.kind is CallerKind.PERSON
    assert (caller.tenant, caller.user) == (ground.first, member.person.name)
    assert caller.roles == {"developer", "auditor"}
    assert caller.access_key_id is None


async def test_a_wrong_password_and_an_unknown_name_are_told_alike(ground: Ground) -> None:
    member, password = await ground.person()
    said = set()
    for name, guess in ((member.person.name, password + "x"), ("nobody", password), ("", "")):
        with pytest.raises(SignInRefused) as caught:
            await ground.sign_in.local(name, guess, source=ground.source)
        said.add(caught.value.message)
    assert len(said) == 1


async def test_guesses_are_throttled_across_workers_however_many_come_at_once(
    ground: Ground, database: PostgresDatabase
) -> None:
    workers = [ground, Ground(database, ground.first)]
    member, password = await ground.person()
    guesses = [
        workers[n % 2].sign_in.local(member.person.name, f"guess-{n}", source=ground.source)
        for n in range(12)
    ]
    outcomes = [type(o) for o in await asyncio.gather(*guesses, return_exceptions=True)]
    assert outcomes.count(SignInRefused) == 5
    assert outcomes.count(Throttled) == 7
    with pytest.raises(Throttled):  # also the right one
        await workers[1].sign_in.local(member.person.name, password, source=ground.source)


async def test_another_address_and_a_later_time_may_go_on(ground: Ground) -> None:
    throttled, elsewhere = new_source(), new_source()
    member, password = await ground.person()
    for n in range(6):
        with pytest.raises((SignInRefused, Throttled)):
            await ground.sign_in.local(member.person.name, f"guess-{n}", source=throttled)
    assert await ground.sign_in.local(member.person.name, password, source=elsewhere)
    ground.clock.later(minutes=16)
    assert await ground.sign_in.local(member.person.name, password, source=throttled)


async def test_from_one_address_many_names_cannot_be_tried(ground: Ground) -> None:
    guesses = Guesses(ground.database, ground.clock)
    for n in range(FROM_ONE_MAX):
        await guesses.at_password(ground.first, f"name-{n}", ground.source)
    member, password = await ground.person()
    with pytest.raises(Throttled):
        await ground.sign_in.local(member.person.name, password, source=ground.source)


async def test_a_right_password_buys_no_guesses_at_others(ground: Ground) -> None:
    guesses = Guesses(ground.database, ground.clock)
    member, password = await ground.person()
    for n in range(FROM_ONE_MAX - 1):
        await guesses.at_password(ground.first, f"name-{n}", ground.source)
    await ground.sign_in.local(member.person.name, password, source=ground.source)
    await guesses.at_password(ground.first, "the-last", ground.source)
    with pytest.raises(Throttled):
        await guesses.at_password(ground.first, "one-more", ground.source)


async def test_a_token_is_new_at_every_sign_in_and_no_other_opens_anything(ground: Ground) -> None:
    member, password = await ground.person()
    first = await ground.sign_in.local(member.person.name, password, source=ground.source)
    second = await ground.sign_in.local(member.person.name, password, source=ground.source)
    assert first.token != second.token
    for token in ("", "x", first.token[:-1], first.token.upper(), "\0"):
        assert await ground.sign_in.session(token) is None


async def test_a_session_ends_when_it_is_idle_too_old_or_ended(ground: Ground) -> None:
    member, password = await ground.person()

    async def fresh() -> str:
        return (
            await ground.sign_in.local(member.person.name, password, source=ground.source)
        ).token

    idle = await fresh()
    ground.clock.later(minutes=61)
    assert await ground.sign_in.session(idle) is None
    used = await fresh()
    for _ in range(24):
        assert await ground.sign_in.session(used)
        ground.clock.later(minutes=30)
    assert await ground.sign_in.session(used) is None
    ended = await fresh()
    await ground.sign_in.end(ended)
    assert await ground.sign_in.session(ended) is None


async def test_what_changes_of_a_person_changes_their_session_at_once(ground: Ground) -> None:
    await ground.person("admin")
    member, password = await ground.person("admin")
    name = member.person.name
    token = (await ground.sign_in.local(name, password, source=ground.source)).token
    await ground.people.set_roles(ground.first, name, frozenset({"invoker"}))
    caller = await ground.sign_in.session(token)
    assert caller is not None
    assert caller.roles == {"invoker"}
    await ground.people.set_active(ground.first, name, active=False)
    assert await ground.sign_in.session(token) is None
    with pytest.raises(SignInRefused):
        await ground.sign_in.local(name, password, source=ground.source)
    await ground.people.set_active(ground.first, name, active=True)
    assert await ground.sign_in.session(token) is None


async def test_a_new_password_ends_the_old_one_and_its_sessions(ground: Ground) -> None:
    member, password = await ground.person()
    token = (await ground.sign_in.local(member.person.name, password, source=ground.source)).token
    changed = await ground.people.new_password(ground.first, member.person.name)
    assert await ground.sign_in.session(token) is None
    with pytest.raises(SignInRefused):
        await ground.sign_in.local(member.person.name, password, source=ground.source)
    assert await ground.sign_in.local(member.person.name, changed, source=ground.source)


async def test_a_person_of_two_tenants_may_switch_and_gets_another_token(ground: Ground) -> None:
    other = (await ground.tenants.create("Other")).tenant
    member, password = await ground.person("developer")
    await ground.people.set_roles(other, member.person.id, frozenset({"auditor"}))
    before = await ground.sign_in.local(member.person.name, password, source=ground.source)
    accounts = await ground.sign_in.accounts(before.token)
    assert {a.tenant: a.roles for a in accounts} == {
        ground.first: {"developer"},
        other: {"auditor"},
    }
    after = await ground.sign_in.switch(before.token, other)
    assert await ground.sign_in.session(before.token) is None
    caller = await ground.sign_in.session(after.token)
    assert caller is not None
    assert (caller.tenant, caller.roles) == (other, {"auditor"})
    with pytest.raises(AccessDenied):
        await ground.sign_in.switch(after.token, "999999999999")
    with pytest.raises(Unauthorized):
        await ground.sign_in.switch(before.token, ground.first)


async def test_nobody_of_a_disabled_tenant_is_let_in(ground: Ground) -> None:
    other = (await ground.tenants.create("Other")).tenant
    member, password = await ground.person("admin", tenant=other)
    token = (await ground.sign_in.local(member.person.name, password, source=ground.source)).token
    await ground.tenants.set_active(other, active=False)
    assert await ground.sign_in.session(token) is None
    with pytest.raises(SignInRefused):
        await ground.sign_in.local(member.person.name, password, source=ground.source)


@pytest.mark.parametrize(
    "next",
    [
        "https://evil.example", "//evil.example", "/\\evil.example", "\\/evil.example",
        "/a\r\nSet-Cookie: x=y", "javascript:alert(1)", "", "console", "/a b", "/\tevil", "/" * 3,
        "/" + "a" * 2001,
    ],
)  # fmt: skip
async def test_it_never_leads_to_another_server(ground: Ground, next: str) -> None:
    member, password = await ground.person()
    signed_in = await ground.sign_in.local(
        member.person.name, password, next=next, source=ground.source
    )
    assert signed_in.next == "/console"


async def test_every_sign_in_and_every_refusal_is_audited_without_a_secret(ground: Ground) -> None:
    member, password = await ground.person()
    with pytest.raises(SignInRefused):
        await ground.sign_in.local(member.person.name, "a-wrong-guess", source=ground.source)
    signed_in = await ground.sign_in.local(member.person.name, password, source=ground.source)
    denied, allowed = ground.audit.events
    assert (denied.outcome, denied.status, denied.source) == ("denied", 401, ground.source)
    assert (allowed.outcome, allowed.user) == ("allowed", member.person.name)
    for secret in ("a-wrong-guess", password, signed_in.token):
        assert secret not in repr(ground.audit.events)


async def test_tokens_are_stored_as_hashes_alone(ground: Ground) -> None:
    member, password = await ground.person()
    signed_in = await ground.sign_in.local(member.person.name, password, source=ground.source)
    stored = await ground.everything_stored()
    assert signed_in.token not in stored + repr(signed_in)
    assert password not in stored


async def test_with_a_provider_no_password_is_taken(
    ground: Ground, database: PostgresDatabase
) -> None:
    member, password = await ground.person()

    verifier = OidcVerifier(Nowhere())
    with_provider = Ground(
        database, ground.first, issuer="https://idp.example.test", verifier=verifier
    )
    with pytest.raises(SignInRefused, match="provider"):
        await with_provider.sign_in.local(member.person.name, password, source=ground.source)
    await verifier.close()


async def test_the_addresses_of_one_network_count_as_one(ground: Ground) -> None:
    network = ground.source.removesuffix("7")
    for n in range(5):
        with pytest.raises(SignInRefused):
            await ground.sign_in.local("nobody", "x", source=f"{network}{n}")
    with pytest.raises(Throttled):
        await ground.sign_in.local("nobody", "x", source=f"{network}ffff")
