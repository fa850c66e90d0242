"""Sign-in of people with an OpenID provider: npm's certified oidc-provider and its login forms.

Where a test says "a token that ...", the provider's token endpoint is stood in for: a certified
provider gives no such token.
"""

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import pytest
from people_ground import CALLBACK, CLIENT, Ground, Rewriting, new_name

from freehold.kernel.errors import Unavailable
from freehold.ports.sign_in import Begun, SignedIn, SignInRefused
from oidc_ground import OidcProvider

WithProvider = Callable[..., Ground]


async def answered(oidc: OidcProvider, begun: Begun, user: str) -> str:
    """The query that the provider sends the browser back with."""
    back = await oidc.sign_in(begun.url, user)
    address, _, query = back.partition("?")
    assert address == CALLBACK
    return query


async def sign_in(ground: Ground, oidc: OidcProvider, user: str) -> SignedIn:
    begun = await ground.sign_in.begin()
    query = await answered(oidc, begun, user)
    return await ground.sign_in.finish(query, binding=begun.binding, source=ground.source)


async def test_a_person_signs_in_with_the_real_forms_and_has_the_roles_of_their_claims(
    with_provider: WithProvider, oidc: OidcProvider
) -> None:
    ground, user = with_provider(), new_name()
    begun = await ground.sign_in.begin("/console/agents?x=1")
    query = await answered(oidc, begun, user)
    signed_in = await ground.sign_in.finish(query, binding=begun.binding, source=ground.source)
    assert signed_in.next == "/console/agents?x=1"
    caller = await ground.sign_in.session(signed_in.token)
    assert caller is not None
    assert caller.roles == {"developer"}
    assert caller.tenant == ground.first
    [member] = await ground.people.list(ground.first)
    assert (member.person.issuer, member.person.subject) == (oidc.issuer, user)
    assert member.claimed == {"developer"}


async def test_the_request_has_pkce_state_nonce_and_the_exact_redirect(
    with_provider: WithProvider,
) -> None:
    ground = with_provider()
    first, second = [
        dict(parse_qsl(urlsplit((await ground.sign_in.begin()).url).query)) for _ in range(2)
    ]
    assert first["response_type"] == "code"
    assert first["code_challenge_method"] == "S256"
    assert first["redirect_uri"] == CALLBACK
    for name in ("state", "nonce", "code_challenge"):
        assert len(first[name]) >= 43
        assert first[name] != second[name]


async def test_the_same_subject_is_the_same_person_and_lost_claims_are_lost_roles(
    with_provider: WithProvider, oidc: OidcProvider
) -> None:
    user = new_name()
    ground = with_provider(rules="staff=developer,*=invoker")
    assert (await sign_in(ground, oidc, user)).caller.roles == {"developer", "invoker"}
    stricter = with_provider(rules="*=invoker")
    assert (await sign_in(stricter, oidc, user)).caller.roles == {"invoker"}
    assert len(await ground.people.list(ground.first)) == 1


async def test_a_rule_may_name_another_account_and_another_claim(
    with_provider: WithProvider, oidc: OidcProvider
) -> None:
    plain = with_provider()
    other = (await plain.tenants.create("Other")).tenant
    ground = with_provider(rules=f"user=invoker,user=auditor@{other}", roles_claim="role")
    signed_in = await sign_in(ground, oidc, new_name())
    accounts = await ground.sign_in.accounts(signed_in.token)
    assert [(a.tenant, a.roles) for a in accounts] == [
        (ground.first, {"invoker"}), (other, {"auditor"}),
    ]  # fmt: skip


async def test_whom_no_rule_and_no_admin_knows_is_refused_and_not_kept(
    with_provider: WithProvider, oidc: OidcProvider
) -> None:
    ground = with_provider(rules="")
    with pytest.raises(SignInRefused, match="no role here"):
        await sign_in(ground, oidc, new_name())
    assert await ground.people.list(ground.first) == []


async def test_whom_an_admin_added_by_email_is_known_at_the_first_sign_in(
    with_provider: WithProvider, oidc: OidcProvider
) -> None:
    ground, user = with_provider(rules=""), new_name()
    await ground.people.add(
        ground.first, user, email=f"{user}@Example.Test", roles=frozenset({"operator"})
    )
    assert (await sign_in(ground, oidc, user)).caller.roles == {"operator"}
    [member] = await ground.people.list(ground.first)
    assert member.person.subject == user


async def test_nobody_gets_the_name_of_somebody_else(
    with_provider: WithProvider, oidc: OidcProvider
) -> None:
    ground, user = with_provider(), new_name()
    await ground.people.add(
        ground.first, f"{user}@example.test", email=f"x{user}@example.test",
        roles=frozenset({"admin"}),
    )  # fmt: skip
    signed_in = await sign_in(ground, oidc, user)
    assert signed_in.caller.roles == {"developer"}
    assert str(signed_in.caller.user).startswith(f"{user}@example.test-")


async def test_an_answer_is_good_once(with_provider: WithProvider, oidc: OidcProvider) -> None:
    ground = with_provider()
    begun = await ground.sign_in.begin()
    query = await answered(oidc, begun, new_name())
    outcomes = await asyncio.gather(
        *(
            ground.sign_in.finish(query, binding=begun.binding, source=ground.source)
            for _ in range(5)
        ),
        return_exceptions=True,
    )
    assert sorted(type(o).__name__ for o in outcomes) == ["SignInRefused"] * 4 + ["SignedIn"]


async def test_an_attackers_link_signs_nobody_in_as_the_attacker(
    with_provider: WithProvider, oidc: OidcProvider
) -> None:
    """Login CSRF: the attacker's own answer, opened in the victim's browser."""
    ground = with_provider()
    attackers, victims = await ground.sign_in.begin(), await ground.sign_in.begin()
    query = await answered(oidc, attackers, new_name())
    for binding in (victims.binding, "", None):
        with pytest.raises(SignInRefused):
            await ground.sign_in.finish(query, binding=binding, source=ground.source)
    # And it did not spoil the sign-in of the one who began it.
    assert await ground.sign_in.finish(query, binding=attackers.binding, source=ground.source)


async def test_a_stolen_code_is_worth_nothing_in_another_sign_in(
    with_provider: WithProvider, oidc: OidcProvider
) -> None:
    ground = with_provider()
    victims, attackers = await ground.sign_in.begin(), await ground.sign_in.begin()
    stolen = parse_qs(await answered(oidc, victims, new_name()))["code"][0]
    own = dict(parse_qsl(await answered(oidc, attackers, new_name())))
    with pytest.raises(SignInRefused):
        await ground.sign_in.finish(
            urlencode({**own, "code": stolen}), binding=attackers.binding, source=ground.source
        )


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "https://evil.example"}, {"iss": ""}, {"iss": None}, {"state": None},
        {"state": "x"}, {"code": "x"}, {"code": None}, {"error": "access_denied", "code": None},
    ],
)  # fmt: skip
async def test_an_answer_that_was_changed_is_refused(
    with_provider: WithProvider, oidc: OidcProvider, change: dict[str, str | None]
) -> None:
    ground = with_provider()
    begun = await ground.sign_in.begin()
    whole = {**dict(parse_qsl(await answered(oidc, begun, new_name()))), **change}
    query = urlencode({name: value for name, value in whole.items() if value is not None})
    with pytest.raises(SignInRefused):
        await ground.sign_in.finish(query, binding=begun.binding, source=ground.source)
    assert await ground.people.list(ground.first) == []


async def test_a_parameter_that_stands_twice_is_refused(
    with_provider: WithProvider, oidc: OidcProvider
) -> None:
    ground = with_provider()
    begun = await ground.sign_in.begin()
    query = await answered(oidc, begun, new_name())
    with pytest.raises(SignInRefused):
        await ground.sign_in.finish(
            query + "&code=other", binding=begun.binding, source=ground.source
        )


async def test_a_sign_in_that_takes_too_long_is_over(
    with_provider: WithProvider, oidc: OidcProvider
) -> None:
    ground = with_provider()
    begun = await ground.sign_in.begin()
    query = await answered(oidc, begun, new_name())
    ground.clock.later(minutes=11)
    with pytest.raises(SignInRefused):
        await ground.sign_in.finish(query, binding=begun.binding, source=ground.source)


async def test_nothing_that_is_stored_could_finish_a_sign_in(
    with_provider: WithProvider, oidc: OidcProvider
) -> None:
    ground = with_provider()
    begun = await ground.sign_in.begin()
    asked = dict(parse_qsl(urlsplit(begun.url).query))
    stored = await ground.everything_stored()
    for secret in (begun.binding, asked["state"], asked["nonce"], asked["code_challenge"]):
        assert secret not in stored
    assert begun.binding not in repr(begun)


def _claims(ground: Ground, begun: Begun, **changed: Any) -> dict[str, Any]:
    nonce = parse_qs(urlsplit(begun.url).query)["nonce"][0]
    user = new_name()
    claims = {
        "sub": user, "aud": CLIENT["client_id"], "nonce": nonce, "groups": ["staff"],
        "email": f"{user}@example.test", "email_verified": True, **changed,
    }  # fmt: skip
    return {name: value for name, value in claims.items() if value is not None}


async def _finish_with(
    ground: Ground, oidc: OidcProvider, web: Rewriting, begun: Begun, id_token: str
) -> SignedIn:
    web.prepare("/token", {"id_token": id_token, "token_type": "Bearer"})
    state = parse_qs(urlsplit(begun.url).query)["state"][0]
    query = urlencode({"code": "any", "state": state, "iss": oidc.issuer})
    return await ground.sign_in.finish(query, binding=begun.binding, source=ground.source)


async def test_a_token_like_the_providers_own_is_accepted(
    with_provider: WithProvider, oidc: OidcProvider, web: Rewriting
) -> None:
    """So that those below are refused for what they say and nothing else."""
    ground = with_provider()
    begun = await ground.sign_in.begin()
    token = oidc.sign(_claims(ground, begun), typ="JWT")
    assert (await _finish_with(ground, oidc, web, begun, token)).caller.roles == {"developer"}


@pytest.mark.parametrize(
    "changed",
    [
        {"nonce": None}, {"nonce": "another"}, {"nonce": ["x"]}, {"aud": "another-client"},
        {"aud": None}, {"azp": "another-client"}, {"iss": "https://evil.example"}, {"sub": None},
        {"sub": ""}, {"exp": 1},
    ],
)  # fmt: skip
async def test_a_token_that_is_not_of_this_sign_in_is_refused(
    with_provider: WithProvider, oidc: OidcProvider, web: Rewriting, changed: dict[str, Any]
) -> None:
    ground = with_provider()
    begun = await ground.sign_in.begin()
    claims = _claims(ground, begun, **changed)
    token = oidc.sign(claims, typ="JWT")
    with pytest.raises(SignInRefused):
        await _finish_with(ground, oidc, web, begun, token)
    assert await ground.people.list(ground.first) == []


async def test_a_token_that_somebody_else_signed_is_refused(
    with_provider: WithProvider, oidc: OidcProvider, web: Rewriting
) -> None:
    ground = with_provider()
    begun = await ground.sign_in.begin()
    header, payload, signature = oidc.sign(_claims(ground, begun), typ="JWT").split(".")
    for forged in (
        f"{header}.{payload}.{signature[:-8]}AAAAAAAA", f"{header}.{payload}.", "", "x",
        f"eyJhbGciOiJub25lIn0.{payload}.",
    ):  # fmt: skip
        begun = await ground.sign_in.begin()
        with pytest.raises(SignInRefused):
            await _finish_with(ground, oidc, web, begun, forged)


@pytest.mark.parametrize("verified", [False, None, "true", 1])
async def test_an_email_that_the_provider_does_not_vouch_for_opens_nobodys_door(
    with_provider: WithProvider, oidc: OidcProvider, web: Rewriting, verified: Any
) -> None:
    ground, victim = with_provider(rules=""), new_name()
    await ground.people.add(
        ground.first, victim, email=f"{victim}@example.test", roles=frozenset({"admin"})
    )
    begun = await ground.sign_in.begin()
    claims = _claims(
        ground, begun, email=f"{victim}@example.test", email_verified=verified, sub=new_name()
    )
    with pytest.raises(SignInRefused):
        await _finish_with(ground, oidc, web, begun, oidc.sign(claims, typ="JWT"))
    [member] = await ground.people.list(ground.first)
    assert member.person.subject is None


async def test_a_provider_that_fails_is_told_apart_from_a_person_who_may_not(
    with_provider: WithProvider, oidc: OidcProvider, web: Rewriting
) -> None:
    ground = with_provider()
    begun = await ground.sign_in.begin()
    query = await answered(oidc, begun, new_name())
    web.prepare("/token", {"error": "server_error"}, 503)
    with pytest.raises(Unavailable):
        await ground.sign_in.finish(query, binding=begun.binding, source=ground.source)
    web.prepare("/.well-known/openid-configuration", {"issuer": "https://evil.example"})
    with pytest.raises(Unavailable):
        await with_provider().sign_in.begin()
    assert ground.audit.events[-1].outcome == "failed"
