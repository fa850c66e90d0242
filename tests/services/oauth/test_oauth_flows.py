"""The three flows of GetResourceOauth2Token against a certified OpenID provider."""

import asyncio
import time
import uuid
from datetime import timedelta

import aiohttp
import msgspec
import pytest
from joserfc import jwt
from oauth_ground import RETURN_URL, Browser, Ground, Worker, asked_of, person, request_of, workload

from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import AccessDenied, NotFound, Unavailable, ValidationFailed
from freehold.ports.credentials import OnBehalfOf
from freehold.services.oauth.model import Flow

API = "https://api.example.test/calendar"


def claims(ground: Ground, token: str) -> dict[str, object]:
    return dict(jwt.decode(token, ground.oidc.key("RS256"), algorithms=["RS256"]).claims)


async def who_is(ground: Ground, token: str) -> str:
    """What the provider's own API says to this token: its user."""
    headers = {"authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{ground.oidc.issuer}/me", headers=headers) as answer,
    ):
        return str((await answer.json())["sub"])


class TestM2M:
    @pytest.mark.parametrize(
        ("client", "method"),
        [("machine", "client_secret_basic"), ("machine-post", "client_secret_post")],
    )
    async def test_an_agent_gets_a_token_of_its_own(
        self, ground: Ground, worker: Worker, tenant: str, client: str, method: str
    ) -> None:
        ground.add_provider(tenant, client_id=client, auth_method=method)
        given = await worker.ask(
            workload(tenant, user=None), Flow.M2M, scopes=("tools:read",), resources=(API,)
        )
        assert given.access_token is not None
        said = claims(ground, given.access_token)
        assert (said["aud"], said["scope"], said["client_id"]) == (API, "tools:read", client)

    async def test_a_client_with_a_key_signs_for_itself(
        self, ground: Ground, worker: Worker, tenant: str
    ) -> None:
        signer = SignsWith(ground)
        ground.add_provider(
            tenant, client_id="machine-key", client_secret=None,
            auth_method="private_key_jwt", signer=signer,
        )  # fmt: skip
        given = await worker.ask(workload(tenant), Flow.M2M, scopes=("tools:read",))
        assert given.access_token

    async def test_it_is_fetched_once_and_kept_for_each_agent_and_scope(
        self, ground: Ground, worker: Worker, tenant: str
    ) -> None:
        ground.add_provider(tenant, client_id="machine")
        before = ground.oidc.count("/token")

        async def ask(name: str, *scopes: str) -> str | None:
            agent = workload(tenant, name, user=None)
            return (await worker.ask(agent, Flow.M2M, scopes=scopes)).access_token

        first = await ask("planner", "tools:read", "tools:write")
        assert await ask("planner", "tools:write", "tools:read") == first
        assert ground.oidc.count("/token") == before + 1
        assert len({first, await ask("planner", "tools:read"), await ask("writer")}) == 3
        async with ground.worker() as other:
            agent = workload(tenant, user=None)
            again = await other.ask(agent, Flow.M2M, scopes=("tools:read", "tools:write"))
        assert again.access_token == first
        assert ground.oidc.count("/token") == before + 3

    async def test_50_at_once_are_one_request_over_several_workers(
        self, ground: Ground, worker: Worker, tenant: str
    ) -> None:
        ground.add_provider(tenant, client_id="machine")
        ground.oidc.delay("/token", 0.3)
        before = ground.oidc.count("/token")
        try:
            async with ground.worker() as other:
                given = await asyncio.gather(
                    *[w.ask(workload(tenant), Flow.M2M) for w in (worker, other) for _ in range(25)]
                )
        finally:
            ground.oidc.delay("/token", 0)
        assert len({each.access_token for each in given} - {None}) == 1
        assert ground.oidc.count("/token") == before + 1

    async def test_another_one_is_fetched_before_the_end_or_when_asked_for(
        self, ground: Ground, worker: Worker, tenant: str
    ) -> None:
        ground.add_provider(tenant, client_id="machine")
        agent = workload(tenant)
        first = (await worker.ask(agent, Flow.M2M)).access_token
        second = (await worker.ask(agent, Flow.M2M, force=True)).access_token
        assert second != first
        ground.later = timedelta(seconds=250)
        assert (await worker.ask(agent, Flow.M2M)).access_token not in (None, first, second)

    async def test_a_wrong_secret_is_a_refusal_without_it(
        self, ground: Ground, worker: Worker, tenant: str
    ) -> None:
        ground.add_provider(tenant, client_id="machine", client_secret="canary-secret")
        with pytest.raises(AccessDenied) as refused:
            await worker.ask(workload(tenant), Flow.M2M)
        assert refused.value.message == "provider calendar refuses a token: invalid_client"
        assert "canary-secret" not in repr(ground.audit.events)

    async def test_the_next_secret_is_tried_while_a_secret_is_changed(
        self, ground: Ground, worker: Worker, tenant: str
    ) -> None:
        ground.add_provider(
            tenant, client_id="machine", client_secret="the-old-one",
            client_secret_next="secret-of-machine",
        )  # fmt: skip
        assert (await worker.ask(workload(tenant), Flow.M2M)).access_token

    async def test_a_provider_that_is_down_is_not_a_refusal(
        self, ground: Ground, worker: Worker, tenant: str
    ) -> None:
        ground.add_provider(tenant, client_id="machine")
        ground.oidc.fail("/token", 503)
        with pytest.raises(Unavailable, match="answers 503"):
            await worker.ask(workload(tenant), Flow.M2M)
        ground.oidc.heal("/token")
        assert (await worker.ask(workload(tenant), Flow.M2M)).access_token


class TestUserFederation:
    async def test_a_person_agrees_and_the_application_completes(
        self, ground: Ground, worker: Worker, tenant: str
    ) -> None:
        ground.add_provider(tenant)
        ada = workload(tenant)
        given = await worker.ask(ada, custom_state="theirs & mine")
        assert given.access_token is None
        assert given.session_uri is not None
        assert given.authorization_url is not None
        async with Browser(worker) as browser:
            back = await browser.go(given.authorization_url, user="ada")
        assert back.startswith(RETURN_URL)
        assert asked_of(back) == {
            "from": "agent", "session_id": given.session_uri, "state": "theirs & mine",
        }  # fmt: skip
        waiting = await worker.ask(ada, session_uri=given.session_uri)
        assert (waiting.access_token, waiting.failed) == (None, False)

        await worker.complete(tenant, given.session_uri, user_id="ada")
        for uri in (given.session_uri, None):
            token = (await worker.ask(ada, session_uri=uri)).access_token
            assert token is not None
            assert await who_is(ground, token) == "ada"
        await worker.complete(tenant, given.session_uri, user_id="ada")  # a client tried again

    async def test_a_user_known_by_a_token_is_proven_by_one(
        self, ground: Ground, worker: Worker, tenant: str
    ) -> None:
        ground.add_provider(tenant)
        token = ground.oidc.sign({"sub": "ada"})
        ada = workload(tenant, user=f"{ground.oidc.issuer}|ada", user_token=token)
        for proof in ({"user_id": f"{ground.oidc.issuer}|ada"},
                      {"user_token": ground.oidc.sign({"sub": "eve"})}):  # fmt: skip
            given = await worker.ask(ada)
            async with Browser(worker) as browser:
                await browser.go(str(given.authorization_url), user="ada")
            with pytest.raises(AccessDenied):
                await worker.complete(tenant, str(given.session_uri), **proof)
        given = await worker.ask(ada)
        async with Browser(worker) as browser:
            await browser.go(str(given.authorization_url), user="ada")
        await worker.complete(
            tenant, str(given.session_uri), user_token=ground.oidc.sign({"sub": "ada"})
        )
        assert (await worker.ask(ada)).access_token

    async def test_a_person_agrees_on_the_consoles_page(
        self, ground: Ground, worker: Worker, tenant: str
    ) -> None:
        ground.add_provider(tenant, vendor="GoogleOauth2")
        given = await worker.ask(workload(tenant), return_url=None)
        url = str(given.authorization_url)
        id = url.rpartition("/")[2]
        assert url == f"{worker.public_url}/console/consent/{id}"
        ada = person(tenant, "ada")
        asked = await worker.consents.asked(id, ada)
        assert (asked.agent, asked.vendor, asked.user, asked.status) == (
            "planner", "Google", "ada", "ASKED",
        )  # fmt: skip
        assert asked.scopes[0].words == "Know who you are"
        assert asked.account_origin == ground.oidc.issuer
        async with Browser(worker) as browser:
            end = await browser.go(await worker.consents.approve(id, ada), user="ada")
        assert end == url
        assert (await worker.consents.asked(id, ada)).status == "GRANTED"
        assert (await worker.ask(workload(tenant), session_uri=given.session_uri)).access_token

    async def test_at_the_console_a_user_known_by_a_token_is_who_signs_in_with_that_provider(
        self, ground: Ground, worker: Worker, tenant: str
    ) -> None:
        ground.add_provider(tenant)
        issuer = ground.oidc.issuer
        known = workload(tenant, user=f"{issuer}|ada", user_token="a.b.c")
        given = await worker.ask(known, return_url=None)
        id = str(given.authorization_url).rpartition("/")[2]

        def signed_in(**claims: str) -> Caller:
            return msgspec.structs.replace(person(tenant, f"{issuer}|ada"), claims=claims)

        assert (await worker.consents.asked(id, signed_in(iss=issuer, sub="ada"))).status == "ASKED"
        for claims in ({}, {"iss": issuer, "sub": "eve"}, {"iss": "https://x", "sub": "ada"}):
            with pytest.raises(AccessDenied):
                await worker.consents.asked(id, signed_in(**claims))
        key = msgspec.structs.replace(signed_in(iss=issuer, sub="ada"), kind=CallerKind.ACCESS_KEY)
        with pytest.raises(AccessDenied):
            await worker.consents.asked(id, key)

    @pytest.mark.parametrize("at", ["console", "provider"])
    async def test_a_person_who_says_no_ends_it(
        self, ground: Ground, worker: Worker, tenant: str, at: str
    ) -> None:
        ground.add_provider(tenant)
        by_console = at == "console"
        given = await worker.ask(workload(tenant), return_url=None if by_console else RETURN_URL)
        url = str(given.authorization_url)
        if by_console:
            await worker.consents.deny(url.rpartition("/")[2], person(tenant, "ada"))
        else:
            async with Browser(worker) as browser:
                back = await browser.go(url, user="ada", agree=False)
            assert asked_of(back)["error"] == "access_denied"
        after = await worker.ask(workload(tenant), session_uri=given.session_uri)
        assert (after.failed, after.access_token) == (True, None)
        assert await worker.stored(tenant) == 0

    async def test_a_new_consent_is_asked_for_when_forced(
        self, ground: Ground, worker: Worker, tenant: str
    ) -> None:
        ground.add_provider(tenant)
        ada = workload(tenant)
        first = await worker.consented(ada)
        forced = await worker.ask(ada, force=True)
        assert forced.access_token is None
        # While it is open the earlier token is not an answer to it, and one to everything else.
        waiting = await worker.ask(ada, session_uri=forced.session_uri)
        assert waiting.authorization_url == forced.authorization_url
        assert (await worker.ask(ada)).access_token == first
        async with Browser(worker) as browser:
            await browser.go(str(forced.authorization_url), user="ada")
        await worker.complete(tenant, str(forced.session_uri), user_id="ada")
        assert (await worker.ask(ada)).access_token not in (None, first)

    async def test_custom_parameters_add_and_never_replace(
        self, ground: Ground, worker: Worker, tenant: str
    ) -> None:
        ground.add_provider(tenant)
        given = await worker.ask(
            workload(tenant),
            parameters={"login_hint": "ada", "redirect_uri": "https://evil.test", "State": "x"},
            resources=(API,),
        )
        async with Browser(worker) as browser:
            sent = asked_of(await browser.leave(str(given.authorization_url)))
        assert sent["login_hint"] == "ada"
        assert sent["redirect_uri"].startswith(f"{worker.public_url}/identities/oauth2/callback/")
        assert "State" not in sent
        assert (sent["resource"], sent["code_challenge_method"]) == (API, "S256")

    @pytest.mark.parametrize(
        "url", ["https://app.example.test/back", "https://evil.test/", RETURN_URL + "&more"]
    )
    async def test_a_return_url_is_exactly_one_of_the_workloads(
        self, ground: Ground, worker: Worker, tenant: str, url: str
    ) -> None:
        ground.add_provider(tenant)
        with pytest.raises(ValidationFailed, match="allowedResourceOauth2ReturnUrls"):
            await worker.ask(workload(tenant), return_url=url)

    async def test_it_needs_a_user(self, ground: Ground, worker: Worker, tenant: str) -> None:
        ground.add_provider(tenant)
        with pytest.raises(ValidationFailed, match="names a user"):
            await worker.ask(workload(tenant, user=None))

    async def test_what_a_person_gave_can_be_seen_and_taken_back(
        self, ground: Ground, worker: Worker, tenant: str
    ) -> None:
        ground.add_provider(tenant)
        await worker.consented(workload(tenant))
        (row,) = await worker.service.grants(tenant, "ada")
        assert row[1:4] == ("calendar", "planner", "id:ada")
        assert await worker.service.grants(tenant, "eve") == []
        with pytest.raises(NotFound):
            await worker.service.revoke(request_of("999999999999"), row[0])
        await worker.service.revoke(request_of(tenant), row[0])
        assert (await worker.ask(workload(tenant))).access_token is None


class TestOnBehalfOf:
    async def exchanged(self, ground: Ground, worker: Worker, tenant: str, **how: object) -> dict:
        ground.add_provider(tenant, client_id="machine", on_behalf_of=OnBehalfOf(**how))  # type: ignore[arg-type]
        user_token = (await ground.oidc.user_tokens("ada", resource=API))["access_token"]
        ada = workload(tenant, user=f"{ground.oidc.issuer}|ada", user_token=user_token)
        given = await worker.ask(ada, Flow.ON_BEHALF_OF, scopes=("tools:read",), resources=(API,))
        assert given.access_token not in (None, user_token)
        return claims(ground, str(given.access_token))

    async def test_token_exchange_rfc_8693_as_a_custom_grant_of_the_provider(
        self, ground: Ground, worker: Worker, tenant: str
    ) -> None:
        said = await self.exchanged(ground, worker, tenant, grant="TOKEN_EXCHANGE")
        assert (said["sub"], said["client_id"]) == ("ada", "machine")

    async def test_jwt_bearer_rfc_7523_as_a_custom_grant_of_the_provider(
        self, ground: Ground, worker: Worker, tenant: str
    ) -> None:
        said = await self.exchanged(ground, worker, tenant, grant="JWT_AUTHORIZATION_GRANT")
        assert said["sub"] == "ada"

    async def test_it_needs_the_users_own_token(
        self, ground: Ground, worker: Worker, tenant: str
    ) -> None:
        ground.add_provider(
            tenant, client_id="machine", on_behalf_of=OnBehalfOf(grant="TOKEN_EXCHANGE")
        )
        with pytest.raises(ValidationFailed, match="user's own token"):
            await worker.ask(workload(tenant), Flow.ON_BEHALF_OF)


async def test_a_token_made_for_one_session_is_of_no_use_in_another(
    ground: Ground, worker: Worker, tenant: str
) -> None:
    ground.add_provider(tenant, client_id="machine")
    arn = f"arn:aws:bedrock-agentcore:us-east-1:{tenant}:runtime/planner"
    inside = Caller(tenant=tenant, principal=f"{arn}/session/mine", kind=CallerKind.SESSION)
    with pytest.raises(AccessDenied, match="another session"):
        await worker.ask(workload(tenant, session="theirs"), Flow.M2M, caller=inside)
    with pytest.raises(AccessDenied, match="another session"):
        await worker.ask(workload(tenant, "writer", session="mine"), Flow.M2M, caller=inside)
    assert (
        await worker.ask(workload(tenant, session="mine"), Flow.M2M, caller=inside)
    ).access_token


async def test_every_use_is_in_the_audit_and_no_value_is(
    ground: Ground, worker: Worker, tenant: str
) -> None:
    ground.add_provider(tenant)
    token = await worker.consented(workload(tenant))
    used = ground.audit.of("GetResourceOauth2Token")
    assert [(e.outcome, e.detail["result"]) for e in used] == [
        ("allowed", "consent_asked"), ("allowed", "token"),
    ]  # fmt: skip
    assert {(e.user, e.detail["workload"], e.detail["provider"]) for e in used} == {
        ("ada", "planner", "calendar")
    }
    steps = [e.operation for e in ground.audit.events if e.phase == "decision"]
    assert steps == ["freehold:OAuthAuthorizationReturned", "freehold:OAuthConsentGranted"]
    assert token not in repr([e.detail for e in ground.audit.events])


class SignsWith:
    """`ports.credentials.AssertionSigner` with the key of the provider's client."""

    def __init__(self, ground: Ground) -> None:
        self._key = ground.oidc.client_key
        self.public_jwk = self._key.as_dict(private=False)

    def sign(self, *, audience: str) -> str:
        now = int(time.time())
        said = {
            "iss": "machine-key", "sub": "machine-key", "aud": audience, "jti": str(uuid.uuid4()),
            "iat": now, "exp": now + 60,
        }  # fmt: skip
        return jwt.encode({"alg": "ES256", "kid": "of-machine-key"}, said, self._key)
