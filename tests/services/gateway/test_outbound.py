"""What a gateway shows its targets, by every type of credential provider."""

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from outbound_ground import (
    AWS_KEY,
    AWS_SECRET,
    RETURN_URL,
    ROLE,
    Ground,
    access_key,
    canary,
    loopback_web,
    person,
    place,
)

from freehold.kernel import tracing
from freehold.kernel.caller import Caller
from freehold.kernel.errors import (
    AccessDenied,
    FreeholdError,
    NotFound,
    Unavailable,
    ValidationFailed,
)
from freehold.kernel.tracing import Kind, Span, Trail
from freehold.ports.targets import Json, RpcRefused
from freehold.services.gateway.consent import consent_result
from freehold.services.gateway.ports import ConsentNeeded
from kept_spans import KeptSpans
from oidc_ground import OidcProvider

API = "https://api.example.test/"
CALLERS = {"credentialProviderType": "CALLER_IAM_CREDENTIALS"}
PASSED = {"credentialProviderType": "JWT_PASSTHROUGH"}


@pytest.fixture(scope="module")
def oidc() -> Iterator[OidcProvider]:
    with OidcProvider() as provider:
        yield provider


@pytest.fixture
async def ground(
    database_dsn: str, oidc: OidcProvider, tmp_path: Path, tenant: str
) -> AsyncIterator[Ground]:
    entry = {
        "tenant": tenant, "role": ROLE, "access_key_id": AWS_KEY, "secret_access_key": AWS_SECRET,
    }  # fmt: skip
    roles = tmp_path / "roles.json"
    roles.write_text(json.dumps({"roles": [entry]}))
    roles.chmod(0o600)
    web = loopback_web()
    await web.start()
    try:
        async with Ground(database_dsn, oidc, web, tmp_path).open() as ground:
            yield ground
    finally:
        await web.close()


def api_key(provider: Json, **more: Any) -> Json:
    return {
        "credentialProviderType": "API_KEY",
        "credentialProvider": {"apiKeyCredentialProvider": {**provider, **more}},
    }


def oauth(provider: Json, grant: str | None = None, **more: Any) -> Json:
    given = {**provider, "scopes": ["tools:read"], **more}
    if grant:
        given["grantType"] = grant
    return {
        "credentialProviderType": "OAUTH",
        "credentialProvider": {"oauthCredentialProvider": given},
    }


def of_user(provider: Json) -> Json:
    return oauth(
        provider, "AUTHORIZATION_CODE", scopes=["openid", "offline_access"],
        defaultReturnUrl=RETURN_URL, customParameters={"prompt": "consent"},
    )  # fmt: skip


def role(**given: str) -> Json:
    provider = {"credentialProvider": {"iamCredentialProvider": given}} if given else {}
    return {"credentialProviderType": "GATEWAY_IAM_ROLE", **provider}


async def test_a_target_without_a_provider_gets_nothing(ground: Ground, tenant: str) -> None:
    found = await ground.ask(place(tenant), {})
    assert (found.headers, found.query, found.signer) == ({}, {}, None)


async def test_a_type_that_is_not_known_is_refused(ground: Ground, tenant: str) -> None:
    with pytest.raises(ValidationFailed, match="not known"):
        await ground.ask(place(tenant), {"credentialProviderType": "NEW"})


class TestApiKeys:
    @pytest.mark.parametrize(
        ("more", "headers", "query"),
        [
            ({}, {"Authorization": "Bearer KEY"}, {}),
            ({"credentialPrefix": "Token"}, {"Authorization": "Token KEY"}, {}),
            ({"credentialParameterName": "X-API-Key"}, {"X-API-Key": "KEY"}, {}),
            ({"credentialLocation": "QUERY_PARAMETER"}, {}, {"api_key": "KEY"}),
            (
                {"credentialLocation": "QUERY_PARAMETER", "credentialParameterName": "k"},
                {},
                {"k": "KEY"},
            ),
        ],
    )
    async def test_a_key_goes_where_the_target_wants_it(
        self, ground: Ground, tenant: str, more: Json, headers: Json, query: Json
    ) -> None:
        configuration = api_key(await ground.api_key(tenant, "KEY"), **more)
        found = await ground.ask(place(tenant), configuration, access_key(tenant))
        assert (found.headers, found.query, found.owner) == (headers, query, "gateway")

    async def test_each_use_is_in_the_audit_for_the_gateways_own_identity(
        self, ground: Ground, tenant: str
    ) -> None:
        key = canary()
        configuration = api_key(await ground.api_key(tenant, key))
        for _ in range(2):
            await ground.ask(place(tenant), configuration, access_key(tenant))
        first, second = ground.audit.events
        assert (first.operation, first.outcome, first.tenant) == (
            "GetResourceApiKey", "allowed", tenant,
        )  # fmt: skip
        assert first.detail["workload"] == "tools-1"
        assert second.call_id == "call-1"
        assert key not in repr(ground.audit.events)

    async def test_a_changed_key_is_used_and_a_deleted_one_is_not(
        self, ground: Ground, tenant: str
    ) -> None:
        configuration = api_key(await ground.api_key(tenant, "old"))
        await ground.ask(place(tenant), configuration)
        await ground.change_api_key(tenant, "new")

        async def newest() -> str:
            found = await ground.ask(place(tenant), configuration)
            return found.headers["Authorization"]

        async with asyncio.timeout(10):
            while await newest() != "Bearer new":
                await asyncio.sleep(0.01)
        await ground.delete_api_key(tenant)
        with pytest.raises(NotFound):
            async with asyncio.timeout(10):
                while True:
                    await newest()
                    await asyncio.sleep(0.01)

    async def test_another_accounts_provider_is_never_asked(
        self, ground: Ground, tenant: str
    ) -> None:
        provider = await ground.api_key("999900001111", canary(), name=f"theirs-{tenant}")
        with pytest.raises(AccessDenied, match="another account"):
            await ground.ask(place(tenant), api_key(provider))

    async def test_a_provider_of_another_kind_is_refused(self, ground: Ground, tenant: str) -> None:
        with pytest.raises(ValidationFailed, match="providerArn"):
            await ground.ask(place(tenant), api_key(await ground.oauth2(tenant)))

    async def test_a_key_that_cannot_stand_in_a_header_is_refused_without_its_words(
        self, ground: Ground, tenant: str
    ) -> None:
        provider = await ground.api_key(tenant, "canary\r\nX-Injected: 1")
        with pytest.raises(ValidationFailed, match="cannot stand in a header") as refused:
            await ground.ask(place(tenant), api_key(provider))
        assert "canary" not in str(refused.value)

    @pytest.mark.parametrize("name", ["Host", "Content-Length", "a b"])
    async def test_a_header_that_is_not_for_keys_is_refused(
        self, ground: Ground, tenant: str, name: str
    ) -> None:
        provider = await ground.api_key(tenant, "KEY")
        with pytest.raises(ValidationFailed, match="no header for a key"):
            await ground.ask(place(tenant), api_key(provider, credentialParameterName=name))


class TestOauth:
    async def test_the_gateway_gets_a_token_of_its_own_once(
        self, ground: Ground, tenant: str
    ) -> None:
        configuration = oauth(
            await ground.oauth2(tenant, "machine"), customParameters={"resource": API}
        )
        asked = ground.oidc.count("/token")
        first = await ground.ask(place(tenant), configuration, ground.user(tenant))
        again = await ground.ask(place(tenant), configuration)
        assert first.owner == "gateway"
        assert first.headers == again.headers
        said = _claims(ground, first.headers["Authorization"])
        assert (said["client_id"], said["aud"], said["scope"]) == ("machine", API, "tools:read")
        assert ground.oidc.count("/token") == asked + 1
        uses = [e for e in ground.audit.events if e.phase == "use"]
        assert [e.outcome for e in uses] == ["allowed", "allowed"]
        assert {e.detail["workload"] for e in uses} == {"tools-1"}

    async def test_a_deleted_provider_gives_nothing_more(self, ground: Ground, tenant: str) -> None:
        configuration = oauth(await ground.oauth2(tenant, "machine"))
        await ground.ask(place(tenant), configuration)
        await ground.delete_oauth2(tenant)
        with pytest.raises(NotFound):
            async with asyncio.timeout(10):
                while True:
                    await ground.ask(place(tenant), configuration)
                    await asyncio.sleep(0.01)

    async def test_a_person_is_asked_once_and_then_the_target_is_called_with_their_account(
        self, ground: Ground, tenant: str
    ) -> None:
        configuration, ada = of_user(await ground.oauth2(tenant)), ground.user(tenant)
        with pytest.raises(ConsentNeeded) as needed:
            await ground.ask(place(tenant), configuration, ada)
        assert needed.value.url.startswith(f"{ground.public_url}/identities/oauth2/authorize")
        await ground.consent(needed.value.url, needed.value.session, ada)
        found = await ground.ask(place(tenant), configuration, ada)
        assert found.owner == ada.user
        assert found.headers["Authorization"].startswith("Bearer ")

    async def test_what_one_person_gave_serves_nobody_else(
        self, ground: Ground, tenant: str
    ) -> None:
        configuration, ada = of_user(await ground.oauth2(tenant)), ground.user(tenant)
        with pytest.raises(ConsentNeeded) as needed:
            await ground.ask(place(tenant), configuration, ada)
        await ground.consent(needed.value.url, needed.value.session, ada)
        await ground.ask(place(tenant), configuration, ada)
        for other in (ground.user(tenant, "eve"), person(tenant, "ada")):
            with pytest.raises(ConsentNeeded):
                await ground.ask(place(tenant), configuration, other)
        with pytest.raises(ConsentNeeded):
            await ground.ask(place(tenant, gateway_id="tools-2"), configuration, ada)

    async def test_somebody_else_at_the_browser_gives_nothing(
        self, ground: Ground, tenant: str
    ) -> None:
        configuration, ada = of_user(await ground.oauth2(tenant)), ground.user(tenant)
        with pytest.raises(ConsentNeeded) as needed:
            await ground.ask(place(tenant), configuration, ada)
        with pytest.raises(AccessDenied, match="not the one"):
            await ground.consent(needed.value.url, needed.value.session, ground.user(tenant, "eve"))
        with pytest.raises(ConsentNeeded):
            await ground.ask(place(tenant), configuration, ada)

    async def test_a_signed_in_person_is_known_by_what_their_provider_calls_them(
        self, ground: Ground, tenant: str
    ) -> None:
        configuration, ada = of_user(await ground.oauth2(tenant)), ground.user(tenant)
        with pytest.raises(ConsentNeeded) as needed:
            await ground.ask(place(tenant), configuration, ada)
        await ground.consent(needed.value.url, needed.value.session, ada)
        signed_in = person(tenant, "Ada", iss=ground.oidc.issuer, sub="ada")
        found = await ground.ask(place(tenant), configuration, signed_in)
        assert found.headers["Authorization"].startswith("Bearer ")

    @pytest.mark.parametrize("grant", ["AUTHORIZATION_CODE", "TOKEN_EXCHANGE"])
    async def test_without_a_user_nothing_is_asked_on_anybodys_behalf(
        self, ground: Ground, tenant: str, grant: str
    ) -> None:
        configuration = oauth(await ground.oauth2(tenant), grant)
        stranger = access_key(tenant)
        claimed = Caller(
            tenant=tenant, principal="key", kind=stranger.kind, user="https://idp.test|ada"
        )  # an id that somebody names is nobody's
        for caller in (None, stranger, claimed):
            with pytest.raises(AccessDenied):
                await ground.ask(place(tenant), configuration, caller)

    async def test_the_callers_token_is_exchanged_and_never_sent_on(
        self, ground: Ground, tenant: str
    ) -> None:
        provider = await ground.oauth2(
            tenant, "machine",
            onBehalfOfTokenExchangeConfig={
                "grantType": "TOKEN_EXCHANGE",
                "tokenExchangeGrantTypeConfig": {"actorTokenContent": "NONE"},
            },
        )  # fmt: skip
        token = (await ground.oidc.user_tokens("ada", resource=API))["access_token"]
        ada = ground.user(tenant, token=token)
        configuration = oauth(provider, "TOKEN_EXCHANGE", customParameters={"resource": API})
        found = await ground.ask(place(tenant), configuration, ada)
        assert found.owner == ada.user
        assert token not in found.headers["Authorization"]
        assert _claims(ground, found.headers["Authorization"])["sub"] == "ada"
        with pytest.raises(AccessDenied, match="bearer token"):
            await ground.ask(place(tenant), configuration, person(tenant))

    async def test_a_provider_that_is_away_is_told_in_words(
        self, ground: Ground, tenant: str
    ) -> None:
        configuration = oauth(await ground.oauth2(tenant, "machine"))
        ground.oidc.fail("/token")
        try:
            with pytest.raises(Unavailable, match="crm gives no token"):
                await ground.ask(place(tenant), configuration)
        finally:
            ground.oidc.heal("/token")


class TestSignatures:
    async def test_requests_are_signed_with_the_keys_of_the_gateways_role(
        self, ground: Ground, tenant: str
    ) -> None:
        found = await ground.ask(place(tenant), role(service="dynamodb", region="eu-west-1"))
        assert found.signer is not None
        url = "https://dynamodb.eu-west-1.amazonaws.com/"
        sent = found.signer("POST", url, {"Content-Type": "application/json"}, b"{}")
        assert f"Credential={AWS_KEY}/" in sent["Authorization"]
        assert "/eu-west-1/dynamodb/aws4_request" in sent["Authorization"]
        assert "content-type;host;x-amz-date" in sent["Authorization"]
        assert sent["Content-Type"] == "application/json"
        assert AWS_SECRET not in repr(found) + repr(sent)

    @pytest.mark.parametrize(
        ("endpoint", "scope"),
        [
            ("https://sqs.us-west-2.amazonaws.com/q", "us-west-2/sqs"),
            ("https://a1.execute-api.eu-central-1.amazonaws.com/p", "eu-central-1/execute-api"),
            ("https://x.lambda-url.us-east-2.on.aws/", "us-east-2/lambda"),
            ("https://bedrock-agentcore.us-east-1.amazonaws.com/r", "us-east-1/bedrock-agentcore"),
        ],
    )
    async def test_service_and_region_are_those_of_the_host(
        self, ground: Ground, tenant: str, endpoint: str, scope: str
    ) -> None:
        target = place(tenant, "mcp.mcpServer", configuration={"endpoint": endpoint})
        found = await ground.ask(target, role())
        assert found.signer is not None
        assert f"/{scope}/aws4_request" in found.signer("GET", endpoint, {}, b"")["Authorization"]

    async def test_a_host_that_says_nothing_needs_the_service_named(
        self, ground: Ground, tenant: str
    ) -> None:
        target = place(tenant, configuration={"endpoint": "https://api.example.test/"})
        with pytest.raises(ValidationFailed, match="for which service"):
            await ground.ask(target, role())

    @pytest.mark.parametrize("given", ["", "arn:aws:iam::444455556666:role/other"])
    async def test_a_role_that_the_operator_gave_no_keys_signs_nothing(
        self, ground: Ground, tenant: str, given: str
    ) -> None:
        with pytest.raises(AccessDenied, match="gave no keys"):
            await ground.ask(place(tenant, role_arn=given), role(service="sqs"))
        with pytest.raises(AccessDenied, match="gave no keys"):
            await ground.ask(place("999900001111"), role(service="sqs"))

    async def test_what_is_on_this_platform_needs_no_secret(
        self, ground: Ground, tenant: str
    ) -> None:
        runtime = f"arn:aws:bedrock-agentcore:us-east-1:{tenant}:runtime/a-1"
        own = place(tenant, "http.agentcoreRuntime", configuration={"arn": runtime})
        function = place(tenant, "mcp.lambda", configuration={"lambdaArn": "arn:aws:lambda:..."})
        for target in (own, function):
            found = await ground.ask(target, role())
            assert (found.signer, found.headers, found.owner) == (None, {}, "gateway")


class TestTheCallersOwn:
    async def test_credentials_of_a_caller_are_for_targets_on_this_platform(
        self, ground: Ground, tenant: str
    ) -> None:
        runtime = f"arn:aws:bedrock-agentcore:us-east-1:{tenant}:runtime/a-1"
        own = place(tenant, "http.agentcoreRuntime", configuration={"arn": runtime})
        found = await ground.ask(own, CALLERS, access_key(tenant))
        assert (found.owner, found.headers) == (access_key(tenant).principal, {})
        elsewhere = place(tenant, configuration={"endpoint": "https://api.example.test/"})
        with pytest.raises(ValidationFailed, match="targets on this platform"):
            await ground.ask(elsewhere, CALLERS, access_key(tenant))
        theirs = place(
            tenant, "http.agentcoreRuntime",
            configuration={"arn": runtime.replace(tenant, "999900001111")},
        )  # fmt: skip
        with pytest.raises(ValidationFailed, match="targets on this platform"):
            await ground.ask(theirs, CALLERS, access_key(tenant))

    async def test_a_stranger_has_no_credentials_here(self, ground: Ground, tenant: str) -> None:
        runtime = f"arn:aws:bedrock-agentcore:us-east-1:{tenant}:runtime/a-1"
        own = place(tenant, "http.agentcoreRuntime", configuration={"arn": runtime})
        for caller in (access_key("999900001111"), ground.user(tenant)):
            with pytest.raises(AccessDenied):
                await ground.ask(own, CALLERS, caller)

    async def test_the_bearer_token_goes_on_only_where_it_is_configured(
        self, ground: Ground, tenant: str
    ) -> None:
        ada = ground.user(tenant)
        found = await ground.ask(place(tenant), PASSED, ada)
        assert found.headers == {"Authorization": f"Bearer {ada.token}"}
        assert found.owner == ada.user
        for caller in (access_key(tenant), person(tenant)):
            with pytest.raises(AccessDenied, match="bearer token"):
                await ground.ask(place(tenant), PASSED, caller)
        assert (await ground.ask(place(tenant), PASSED)).headers == {}


async def test_no_secret_is_in_an_error_a_log_or_a_repr(
    ground: Ground, tenant: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    key, ada = canary(), ground.user(tenant)
    machine = oauth(await ground.oauth2(tenant, "machine"))
    secrets = {key, ground.oidc.secret("machine"), ground.oidc.secret("web"), AWS_SECRET}
    secrets.add(str(ada.token))
    said: list[str] = []
    configurations = [
        api_key(await ground.api_key(tenant, key)), machine, role(service="sqs"),
        PASSED, of_user(await ground.oauth2(tenant, name="web")),
    ]  # fmt: skip
    for configuration in configurations:
        try:
            found = await ground.ask(place(tenant), configuration, ada)
            said += [repr(found), str(found)]
            secrets |= {value.removeprefix("Bearer ") for value in found.headers.values()}
            if found.signer is not None:
                found.signer("GET", "https://sqs.us-east-1.amazonaws.com/", {}, b"")
        except ConsentNeeded as needed:
            said += [repr(needed), str(needed)]
    ground.oidc.fail("/token", 400)
    try:
        await ground.delete_oauth2(tenant, "crm")
        await ground.oauth2(tenant, "machine")
        with pytest.raises(FreeholdError) as failed:
            await ground.ask(place(tenant, gateway_id="another"), machine)
    finally:
        ground.oidc.heal("/token")
    said += [repr(failed.value), str(failed.value), repr(failed.value.__cause__)]
    said += [repr(ground.audit.events), caplog.text]
    everything = "\n".join(said)
    assert [secret for secret in secrets if secret in everything] == []


# -- how a client is told that a person is needed

NEEDED = ConsentNeeded("https://freehold.test/authorize?request_uri=1", "urn:session")


def test_a_stateless_client_is_asked_for_input() -> None:
    result = consent_result("modern", {"elicitation": {"url": {}}}, "crm", NEEDED)
    assert result["resultType"] == "input_required"
    (asked,) = result["inputRequests"].values()
    assert asked["method"] == "elicitation/create"
    assert (asked["params"]["mode"], asked["params"]["url"]) == ("url", NEEDED.url)


def test_a_client_with_a_session_gets_the_error_that_carries_the_page() -> None:
    with pytest.raises(RpcRefused) as refused:
        consent_result("legacy", {"elicitation": {"url": {}}}, "crm", NEEDED)
    assert refused.value.code == -32042
    (asked,) = refused.value.data["elicitations"]
    assert (asked["mode"], asked["url"], asked["elicitationId"]) == (
        "url", NEEDED.url, NEEDED.session,
    )  # fmt: skip


@pytest.mark.parametrize("capabilities", [{}, {"elicitation": {}}, {"elicitation": {"form": {}}}])
def test_a_client_that_opens_no_pages_gets_words_for_its_model(capabilities: Json) -> None:
    for era in ("legacy", "modern"):
        result = consent_result(era, capabilities, "crm", NEEDED)  # type: ignore[arg-type]
        assert result["isError"] is True
        assert NEEDED.url in result["content"][0]["text"]


def _claims(ground: Ground, header: str) -> dict[str, Any]:
    token = header.removeprefix("Bearer ")
    assert base64.urlsafe_b64decode(token.split(".")[0] + "==")
    found = jwt.decode(token, ground.oidc.key("RS256"), algorithms=["RS256"]).claims
    return dict(found)


async def test_a_trace_says_which_credential_was_used_and_never_its_value(
    ground: Ground, tenant: str
) -> None:
    kept, key = KeptSpans(), canary()
    keyed = api_key(await ground.api_key(tenant, key))
    machine = await ground.oauth2(tenant, "machine")
    granted = oauth(machine, customParameters={"resource": API})
    around = Span(Trail(kept), "a call", kind=Kind.INTERNAL, parent=None)
    with tracing.within(around):
        await ground.ask(place(tenant), keyed)
        for _ in range(2):
            token = (await ground.ask(place(tenant), granted)).headers["Authorization"]
    of_key, *of_token = kept.named("credential ")
    assert of_key.attributes["freehold.credential.provider"] == "weather"
    assert of_key.attributes["freehold.credential.kind"] == "API_KEY"
    told = [span.attributes for span in of_token]
    assert [each["freehold.credential.provider"] for each in told] == ["crm", "crm"]
    assert [each["freehold.credential.cached"] for each in told] == [False, True]
    assert key not in repr(of_key.attributes)
    assert token.removeprefix("Bearer ") not in repr(told)
