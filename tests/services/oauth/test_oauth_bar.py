"""The rows of the security bar on three-legged OAuth: refused, and nothing stored."""

import asyncio
import logging
from collections.abc import Awaitable
from datetime import timedelta
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec
import pytest
from oauth_ground import (
    Browser,
    Ground,
    Sealed,
    Worker,
    asked_of,
    person,
    request_of,
    workload,
)

from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import (
    AccessDenied,
    FreeholdError,
    NotFound,
    Unauthorized,
    Unavailable,
    ValidationFailed,
)
from freehold.kernel.ids import request_id
from freehold.kernel.request import Request
from freehold.ports.oauth import Asked
from freehold.services.oauth import store
from freehold.services.oauth.model import SESSION_URN, Flow, Grant
from freehold.services.oauth.service import TokenAsked


@pytest.fixture(autouse=True)
def a_provider(ground: Ground, tenant: str) -> None:
    ground.add_provider(tenant)


def changed(url: str, **parameters: str | None) -> str:
    """`None` takes one out."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query)) | parameters
    return parts._replace(
        query=urlencode({k: v for k, v in query.items() if v is not None})
    ).geturl()


async def ended(worker: Worker, tenant: str, uri: str | None, **who: str) -> bool:
    """The agent is told so, and nothing is stored."""
    given = await worker.ask(workload(tenant, **who), session_uri=uri)
    return given.failed and await worker.stored(tenant) == 0


class TestPhishing:
    """Mallory's agent asks on behalf of Mallory, and Mallory sends the link to Ada."""

    async def test_3lo_phishing_the_application_sees_who_really_sits_there(
        self, worker: Worker, tenant: str
    ) -> None:
        given = await worker.ask(workload(tenant, user="mallory"))
        async with Browser(worker) as of_ada:
            back = await of_ada.go(str(given.authorization_url), user="ada")
        # Ada's browser is at the application now, which knows that it is Ada's.
        with pytest.raises(AccessDenied, match="nothing was stored"):
            await worker.complete(tenant, asked_of(back)["session_id"], user_id="ada")
        assert await ended(worker, tenant, given.session_uri, user="mallory")
        # And what Ada brought is gone: Mallory's own word comes too late.
        with pytest.raises(ValidationFailed):
            await worker.complete(tenant, str(given.session_uri), user_id="mallory")

    async def test_3lo_phishing_on_the_consoles_page_another_person_sees_nothing(
        self, worker: Worker, tenant: str
    ) -> None:
        given = await worker.ask(workload(tenant, user="mallory"), return_url=None)
        id = str(given.authorization_url).rpartition("/")[2]
        ada = person(tenant, "ada")
        for step in (worker.consents.asked, worker.consents.approve, worker.consents.deny):
            with pytest.raises(AccessDenied):
                await step(id, ada)
        for stranger in (person("999999999999", "mallory"), person("999999999999", "ada")):
            with pytest.raises(NotFound):
                await worker.consents.asked(id, stranger)
        # Nor does the platform's own address go on without the page's answer, or with a guess.
        async with Browser(worker) as of_ada:
            step = f"{worker.public_url}/identities/oauth2/authorize?request_uri={SESSION_URN}{id}"
            assert await of_ada.open(step) == (302, given.authorization_url)
            assert (await of_ada.open(f"{step}&ticket=guess"))[0] == 404
        assert await worker.stored(tenant) == 0

    async def test_3lo_phishing_with_the_providers_address_needs_the_browser_that_began(
        self, worker: Worker, tenant: str
    ) -> None:
        given = await worker.ask(workload(tenant, user="mallory"))
        async with Browser(worker) as of_mallory, Browser(worker) as of_ada:
            at_provider = await of_mallory.leave(str(given.authorization_url))
            callback = await of_ada.sign_in(at_provider, user="ada")
            status, page = await of_ada.open(callback)
            assert (status, "does not belong" in page) == (403, True)
            # Mallory, who has seen the address, has no use of it either.
            assert (await of_mallory.open(callback))[0] == 403
        assert await ended(worker, tenant, given.session_uri, user="mallory")


class TestMixUp:
    """An answer of one provider is taken for another's."""

    @pytest.mark.parametrize("iss", ["https://evil.test", None])
    async def test_mix_up_an_answer_of_another_issuer_or_none_is_refused(
        self, worker: Worker, tenant: str, iss: str | None
    ) -> None:
        given = await worker.ask(workload(tenant))
        async with Browser(worker) as browser:
            at = await browser.leave(str(given.authorization_url))
            callback = await browser.sign_in(at, user="ada")
            assert asked_of(callback)["iss"] == worker.ground.oidc.issuer
            assert (await browser.open(changed(callback, iss=iss)))[0] == 403
            assert (await browser.open(callback))[0] == 403  # the state is used up
        assert await ended(worker, tenant, given.session_uri)

    async def test_mix_up_an_answer_at_another_providers_callback_is_refused(
        self, ground: Ground, worker: Worker, tenant: str
    ) -> None:
        other = ground.add_provider(tenant, "other", issuer="https://evil.test", metadata={})
        given = await worker.ask(workload(tenant))
        async with Browser(worker) as browser:
            at = await browser.leave(str(given.authorization_url))
            callback = await browser.sign_in(at, user="ada")
            path = urlsplit(callback).path.rpartition("/")[0] + f"/{other.callback_id}"
            moved = urlsplit(changed(callback, iss=None))._replace(path=path).geturl()
            assert (await browser.open(moved))[0] == 403
        assert await ended(worker, tenant, given.session_uri)


class TestReplay:
    async def test_code_replay_an_answer_counts_once(
        self, ground: Ground, worker: Worker, tenant: str
    ) -> None:
        given = await worker.ask(workload(tenant))
        uri = str(given.session_uri)
        async with Browser(worker) as browser:
            at = await browser.leave(str(given.authorization_url))
            callback = await browser.sign_in(at, user="ada")
            answers = await asyncio.gather(*[browser.open(callback) for _ in range(5)])
        assert sorted(status for status, _ in answers) == [302, 403, 403, 403, 403]
        before = ground.oidc.count("/token")
        done = await asyncio.gather(
            *[worker.complete(tenant, uri, user_id="ada") for _ in range(5)],
            return_exceptions=True,
        )
        assert sum(each is None for each in done) >= 1
        assert ground.oidc.count("/token") == before + 1

    async def test_code_replay_of_another_persons_code_fails_by_pkce(
        self, worker: Worker, tenant: str
    ) -> None:
        """Mallory has a code of Ada's and puts it into an answer of Mallory's own."""
        of_ada, of_mallory = workload(tenant), workload(tenant, user="mallory")
        stolen_from, used_in = await worker.ask(of_ada), await worker.ask(of_mallory)
        async with Browser(worker) as ada, Browser(worker) as mallory:
            at = await ada.leave(str(stolen_from.authorization_url))
            stolen = asked_of(await ada.sign_in(at, user="ada"))["code"]
            at = await mallory.leave(str(used_in.authorization_url))
            callback = await mallory.sign_in(at, user="mallory")
            status, _ = await mallory.open(changed(callback, code=stolen))
            assert status == 302
        with pytest.raises(AccessDenied, match="invalid_grant"):
            await worker.complete(tenant, str(used_in.session_uri), user_id="mallory")
        assert await ended(worker, tenant, used_in.session_uri, user="mallory")

    async def test_state_replay_or_a_made_up_state_is_refused(
        self, ground: Ground, worker: Worker, tenant: str
    ) -> None:
        first, second = await worker.ask(workload(tenant)), await worker.ask(workload(tenant))
        async with Browser(worker) as browser:
            await browser.go(str(first.authorization_url), user="ada")
            at = await browser.leave(str(second.authorization_url))
            callback = await browser.sign_in(at, user="ada")
            for state in ("made-up", "", asked_of(callback)["state"] + "x"):
                assert (await browser.open(changed(callback, state=state)))[0] in (403, 404)
            doubled = callback + "&state=" + asked_of(callback)["state"]
            assert (await browser.open(doubled))[0] == 400
            assert (await browser.open(callback))[0] == 302
            assert (await browser.open(callback))[0] == 403

    async def test_a_link_opened_anew_makes_the_earlier_state_void(
        self, worker: Worker, tenant: str
    ) -> None:
        given = await worker.ask(workload(tenant))
        async with Browser(worker) as browser:
            at = await browser.leave(str(given.authorization_url))
            await browser.leave(str(given.authorization_url))
            callback = await browser.sign_in(at, user="ada")
            assert (await browser.open(callback))[0] == 403
        assert await worker.stored(tenant) == 0


class TestPkceDowngrade:
    @pytest.mark.parametrize(
        "sent",
        [
            {"code_challenge": None, "code_challenge_method": None},
            {"code_challenge_method": "plain"},
            {"code_challenge": "A" * 43},
        ],
        ids=["taken out", "plain", "another's"],
    )
    async def test_pkce_downgrade_a_code_for_another_challenge_is_of_no_use(
        self, worker: Worker, tenant: str, sent: dict[str, str | None]
    ) -> None:
        given = await worker.ask(workload(tenant))
        async with Browser(worker) as browser:
            at = changed(await browser.leave(str(given.authorization_url)), **sent)
            back = await browser.sign_in(at, user="ada")
            _, location = await browser.open(back)
        if "error" not in asked_of(location):
            with pytest.raises(AccessDenied, match="invalid_grant"):
                await worker.complete(tenant, str(given.session_uri), user_id="ada")
        assert await ended(worker, tenant, given.session_uri)


class TestStrangers:
    async def test_wrong_tenant_another_tenant_has_no_use_of_a_token_session_or_grant(
        self, ground: Ground, worker: Worker, tenant: str
    ) -> None:
        other = str(int(tenant) // 2 + 10**11)
        ground.add_provider(other)
        await worker.consented(workload(tenant))
        given = await worker.ask(workload(tenant), force=True)
        with pytest.raises(NotFound):
            await worker.ask(workload(other), session_uri=given.session_uri)
        with pytest.raises(NotFound):
            await worker.complete(other, str(given.session_uri), user_id="ada")
        assert (await worker.ask(workload(other))).access_token is None
        token = await ground.workloads.issue(workload(tenant))
        wanted = TokenAsked(workload_token=token, provider="calendar", flow=Flow.M2M, asked=Asked())
        with pytest.raises(Unauthorized):
            await worker.service.token(request_of(other), wanted)

    async def test_wrong_workload_or_user_has_no_use_of_a_session_or_grant(
        self, worker: Worker, tenant: str
    ) -> None:
        token = await worker.consented(workload(tenant))
        given = await worker.ask(workload(tenant), force=True)
        issuer = worker.ground.oidc.issuer
        for stranger in (
            workload(tenant, "writer"),
            workload(tenant, user="eve"),
            workload(tenant, user=f"{issuer}|ada"),
        ):
            with pytest.raises(NotFound):
                await worker.ask(stranger, session_uri=given.session_uri)
            assert (await worker.ask(stranger)).access_token is None
        assert (await worker.ask(workload(tenant))).access_token == token

    async def test_what_a_person_gave_an_agent_is_not_for_the_next_of_its_name(
        self, worker: Worker, tenant: str
    ) -> None:
        await worker.consented(workload(tenant))
        other = await worker.consented(workload(tenant, "writer"))
        await worker.service.forget_workload(tenant, "planner")
        assert await worker.stored(tenant) == 1
        assert (await worker.ask(workload(tenant))).access_token is None
        assert (await worker.ask(workload(tenant, "writer"))).access_token == other

    async def test_other_scopes_need_a_consent_of_their_own(
        self, worker: Worker, tenant: str
    ) -> None:
        await worker.consented(workload(tenant))
        more = await worker.ask(workload(tenant), scopes=("openid", "offline_access", "email"))
        assert more.access_token is None

    async def test_an_agent_does_not_complete_for_its_user(
        self, worker: Worker, tenant: str
    ) -> None:
        given = await worker.ask(workload(tenant))
        async with Browser(worker) as browser:
            await browser.go(str(given.authorization_url), user="ada")
        agent = Caller(tenant=tenant, principal="arn/session/s", kind=CallerKind.SESSION)
        with pytest.raises(AccessDenied):
            await worker.service.complete(
                Request(caller=agent, request_id=request_id()), str(given.session_uri),
                user_id="ada", user_token=None,
            )  # fmt: skip
        assert await worker.stored(tenant) == 0


class TestAtRest:
    async def test_database_dump_no_token_code_state_or_verifier_is_in_it(
        self, worker: Worker, tenant: str
    ) -> None:
        given = await worker.ask(workload(tenant), custom_state="canary-state")
        async with Browser(worker) as browser:
            at = await browser.leave(str(given.authorization_url))
            callback = await browser.sign_in(at, user="ada")
            await browser.open(callback)
        dump = await dumped(worker)
        await worker.complete(tenant, str(given.session_uri), user_id="ada")
        token = (await worker.ask(workload(tenant))).access_token
        assert token is not None
        dump += await dumped(worker)
        for secret in (token, "canary-state", asked_of(callback)["code"], asked_of(at)["state"]):
            assert secret not in dump
            assert secret.encode().hex() not in dump
        assert given.session_uri is not None
        assert given.session_uri.removeprefix(SESSION_URN) in dump  # it would have been found

    async def test_swapped_rows_are_an_error_and_no_token(
        self, ground: Ground, worker: Worker, tenant: str
    ) -> None:
        await worker.consented(workload(tenant))
        await worker.consented(workload(tenant, user="eve"))
        async with worker.database.connection() as connection:
            await connection.execute(
                "UPDATE oauth_grants AS mine SET sealed = theirs.sealed FROM oauth_grants theirs"
                " WHERE mine.tenant = %(t)s AND theirs.tenant = %(t)s"
                " AND mine.user_id = 'id:ada' AND theirs.user_id = 'id:eve'",
                {"t": tenant},
            )
        async with ground.worker() as fresh:
            with pytest.raises(Unavailable, match="cannot be opened"):
                await fresh.ask(workload(tenant))


async def test_secrets_in_outputs_no_log_error_or_audit_line_has_one(
    ground: Ground, worker: Worker, tenant: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    said: list[str] = []

    async def refused(asking: Awaitable[object]) -> None:
        with pytest.raises(FreeholdError) as error:
            await asking
        said.append(f"{error.value!r} {error.value.fields} {error.value.__cause__!r}")

    given = await worker.ask(workload(tenant), custom_state="canary-state")
    async with Browser(worker) as browser:
        at = await browser.leave(str(given.authorization_url))
        callback = await browser.sign_in(at, user="ada")
        said.append((await browser.open(changed(callback, state="other")))[1])
        await browser.open(callback)
        said.append((await browser.open(callback))[1])
    await worker.complete(tenant, str(given.session_uri), user_id="ada")
    token = str((await worker.ask(workload(tenant))).access_token)
    (row,) = await worker.service.grants(tenant, None)
    refresh_token = await refresh_token_of(worker, tenant, row[0])
    ground.later = timedelta(seconds=400)
    for secret in ("canary-secret-1", None):
        ground.add_provider(tenant, client_secret=secret)
        await refused(worker.ask(workload(tenant)))
    ground.oidc.fail("/token", 503)
    await refused(worker.ask(workload(tenant), Flow.M2M))
    ground.oidc.heal("/token")

    secrets = {
        "secret-of-web", "canary-secret-1", "canary-state", token, refresh_token,
        asked_of(callback)["code"], asked_of(callback)["state"],
    }  # fmt: skip
    # Uvicorn's access log, which the platform has switched off, pytest switches on again.
    said += [r.getMessage() for r in caplog.records if r.name != "uvicorn.access"]
    said.append(repr(ground.audit.events))
    for output in said:
        assert not [secret for secret in secrets if secret in output]
    assert any("calendar" in output for output in said)  # there was something to search


async def refresh_token_of(worker: Worker, tenant: str, id: str) -> str:
    async with worker.database.connection() as connection:
        held = await store.load(connection, tenant, id)
    assert held is not None
    assert held.sealed is not None
    context = f"oauth_grant|{id}|{held.version}"
    opened = await Sealed().open(tenant, held.sealed, context=context)
    token = msgspec.json.decode(opened, type=Grant).refresh_token
    assert token is not None
    return token


async def dumped(worker: Worker) -> str:
    text = ""
    async with worker.database.connection() as connection:
        for table in ("oauth_grants", "oauth_sessions"):
            rows = await connection.execute(f"SELECT t::text FROM {table} t")
            text += "\n".join(row[0] for row in await rows.fetchall())
    return text


async def test_open_sessions_of_one_user_are_bounded(worker: Worker, tenant: str) -> None:
    first = await worker.ask(workload(tenant))
    for _ in range(20):
        await worker.ask(workload(tenant))
    with pytest.raises(NotFound):
        await worker.ask(workload(tenant), session_uri=first.session_uri)


async def test_the_browsers_edge_leaves_everything_else_alone(worker: Worker) -> None:
    async with Browser(worker) as browser:
        assert await browser.open(f"{worker.public_url}/identities/oauth2/token") == (404, "absent")
        assert (await browser.open(f"{worker.public_url}/identities/oauth2/authorize"))[0] == 404
        callback = f"{worker.public_url}/identities/oauth2/callback/none"
        assert (await browser.open(f"{callback}?state=x&code=y"))[0] == 404
        assert (await browser.open(f"{callback}?{'x' * 20_000}"))[0] == 400
