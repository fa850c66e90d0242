"""What targets are shown, end to end: keys, tokens, signatures; and what they never see.

The inbound token is a canary, as is each secret: none is in an answer, a log or the audit.
"""

import json
import secrets
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urljoin, urlsplit

import aiohttp
import mcp_types as types
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from joserfc import jwt
from mcp import MCPError

from gateway_ground import (
    AUDIENCE,
    AWS_KEY_ID,
    AWS_SECRET,
    ROLE,
    Gateway,
    MakeGateway,
    api_key,
    api_key_provider,
    at_every_worker,
    bearer,
    client_of,
    jwt_rules,
    oauth,
    openapi,
)
from gateway_upstreams import Loop, McpUpstream, Seen, Tool, Upstream
from oidc_ground import OidcProvider
from oidc_visitor import Visitor
from running import RunningPlatform

RESOURCE = "https://tools.example.test"
BACK = "https://app.example.test/back"
HELLO = {"/hello": {"get": {"operationId": "hello", "responses": {"200": {"description": "ok"}}}}}


class Ground(NamedTuple):
    platform: RunningPlatform
    oidc: OidcProvider
    make: MakeGateway

    def gateway(self, authorizer: str = "CUSTOM_JWT", **params: Any) -> Gateway:
        rules = jwt_rules(self.oidc)
        return self.make(authorizerType=authorizer, authorizerConfiguration=rules, **params)

    async def user(self, name: str) -> str:
        """A token of theirs for gateways."""
        return str((await self.oidc.user_tokens(name, resource=AUDIENCE))["access_token"])

    def provider(self, client: str, **more: Any) -> str:
        """The ARN of an OAuth provider at the test's own; its callback is registered there."""
        made = self.platform.client("bedrock-agentcore-control").create_oauth2_credential_provider(
            name=f"tools-{uuid.uuid4().hex[:8]}",
            credentialProviderVendor="CustomOauth2",
            oauth2ProviderConfigInput={
                "customOauth2ProviderConfig": {
                    "oauthDiscovery": {"discoveryUrl": self.oidc.discovery_url},
                    "clientId": client,
                    "clientSecret": self.oidc.secret(client),
                    **more,
                }
            },
        )
        known = next(c for c in self.oidc.clients if c["client_id"] == client)
        if known["redirect_uris"]:
            at = urlsplit(made["callbackUrl"])
            known["redirect_uris"].append(f"http://127.0.0.1{at.path}")
            self.oidc._serve()
        return str(made["credentialProviderArn"])

    def claims(self, seen: Seen) -> dict[str, Any]:
        """Of the bearer token that an upstream was shown."""
        token = seen.headers["authorization"].removeprefix("Bearer ")
        return dict(jwt.decode(token, self.oidc.key("RS256"), algorithms=["RS256"]).claims)

    def written(self, since: int) -> str:
        """The platform's log from there on, and its audit."""
        return self.platform.log.read_text()[since:] + json.dumps(self.platform.own("/audit"))


@pytest.fixture
def ground(
    platform: RunningPlatform, oidc: OidcProvider, make_gateway: MakeGateway
) -> Iterator[Ground]:
    return Ground(platform, oidc, make_gateway)


# -- keys


@pytest.mark.parametrize("place", ["header", "query", "own header"])
async def test_a_key_of_the_vault(ground: Ground, upstream: Upstream, place: str) -> None:
    key = f"canary-{secrets.token_hex(12)}"
    more = {
        "header": {},
        "query": {"credentialLocation": "QUERY_PARAMETER", "credentialParameterName": "k"},
        "own header": {"credentialLocation": "HEADER", "credentialParameterName": "X-Key"},
    }[place]
    token, since = await ground.user("ada"), len(ground.platform.log.read_text())
    gateway = ground.gateway(exceptionLevel="DEBUG")
    arn = api_key_provider(ground.platform, key)
    gateway.add("api", openapi(upstream.url, HELLO), api_key(arn, **more))
    upstream.answer = lambda seen: {"hello": 1}
    answer = gateway.call("api___hello", headers=bearer(token))
    assert '"hello"' in answer.text
    [seen] = upstream.seen
    shown = {
        "header": seen.headers.get("authorization"),
        "query": seen.query.get("k"),
        "own header": seen.headers.get("x-key"),
    }
    assert shown[place] == (f"Bearer {key}" if place == "header" else key)
    assert token not in json.dumps([seen.headers, seen.query])
    upstream.stop()
    failed = gateway.call("api___hello", headers=bearer(token))
    assert failed.result["isError"]
    everything = ground.written(since) + answer.body.decode() + failed.body.decode()
    assert gateway.id in everything, "the audit has no line of it"
    assert key not in everything
    assert token not in everything


async def test_a_changed_key_counts_from_the_next_call(ground: Ground, upstream: Upstream) -> None:
    gateway = ground.make()
    arn = api_key_provider(ground.platform, "the-first-key")
    name = arn.rpartition("/")[2]
    gateway.add("api", openapi(upstream.url, HELLO), api_key(arn))

    def shown() -> str:
        gateway.call("api___hello")
        return upstream.seen[-1].headers["authorization"]

    at_every_worker(lambda: shown() == "Bearer the-first-key")
    control = gateway.control
    control.update_api_key_credential_provider(name=name, apiKey="the-second-key")
    at_every_worker(lambda: shown() == "Bearer the-second-key")
    control.delete_api_key_credential_provider(name=name)
    at_every_worker(lambda: gateway.call("api___hello").result.get("isError"))
    before = upstream.count()
    answer = gateway.call("api___hello")
    assert "no credential" in answer.text
    assert "the-second-key" not in answer.text
    assert upstream.count() == before


# -- what the caller sent


@pytest.mark.parametrize("kind", ["mcp", "openapi", "passthrough"])
async def test_of_a_callers_headers_only_those_that_are_listed_go_on(
    ground: Ground, served: Loop, upstream: Upstream, kind: str
) -> None:
    """And never what says who it is."""
    gateway = ground.make(authorizerType="AWS_IAM")
    metadata = {"metadataConfiguration": {"allowedRequestHeaders": ["X-Team"]}}
    sent = {"X-Team": "search", "X-Other": "canary-other", "Cookie": "canary-cookie"}
    if kind == "mcp":
        with McpUpstream(served, Tool("echo")) as server:
            gateway.add_mcp_server("t", server.endpoint, **metadata)
            gateway.call("t___echo", {}, sent, signed_by=ground.platform)
            [seen] = [s for s in server.seen if b"tools/call" in s.body]
    else:
        through = {"endpoint": upstream.url, "protocolType": "CUSTOM"}
        configuration = {
            "openapi": openapi(upstream.url, HELLO),
            "passthrough": {"http": {"passthrough": through}},
        }[kind]
        gateway.add("t", configuration, **metadata)
        url = f"{gateway.base}/t/x" if kind == "passthrough" else ""
        gateway.call("t___hello", {}, sent, signed_by=ground.platform, url=url)
        [seen] = upstream.seen
    assert seen.headers["x-team"] == "search"
    text = json.dumps(seen.headers)
    assert "canary" not in text
    assert ground.platform.access_key_id not in text
    assert "authorization" not in seen.headers


# -- tokens


async def test_a_token_of_the_gateways_own(ground: Ground, upstream: Upstream) -> None:
    gateway, token = ground.gateway(), await ground.user("ada")
    more = {"customParameters": {"resource": RESOURCE}}
    credential = oauth(ground.provider("machine"), **more)
    gateway.add("api", openapi(upstream.url, HELLO), credential)
    before = ground.oidc.count("/token")
    for _ in range(6):
        assert "isError" not in gateway.call("api___hello", headers=bearer(token)).result
    assert len(upstream.seen) == 6
    for seen in upstream.seen:
        claims = ground.claims(seen)
        assert (claims["client_id"], claims["aud"]) == ("machine", RESOURCE)
        assert token not in json.dumps(seen.headers)
    # One for each worker at most: it is kept for as long as it is good.
    assert ground.oidc.count("/token") - before <= 2


async def test_a_token_in_exchange_for_the_callers(ground: Ground, upstream: Upstream) -> None:
    gateway = ground.gateway()
    exchange = {"grantType": "TOKEN_EXCHANGE"}
    arn = ground.provider("machine", onBehalfOfTokenExchangeConfig=exchange)
    more = {"customParameters": {"resource": RESOURCE}}
    gateway.add("api", openapi(upstream.url, HELLO), oauth(arn, "TOKEN_EXCHANGE", **more))
    for name in ("ada", "bob"):
        token = await ground.user(name)
        answer = gateway.call("api___hello", headers=bearer(token))
        assert "isError" not in answer.result, answer.text
        claims = ground.claims(upstream.seen[-1])
        assert (claims["sub"], claims["aud"]) == (name, RESOURCE)
        assert token not in json.dumps(upstream.seen[-1].headers)


async def test_a_token_of_a_person_who_agrees_first(ground: Ground, upstream: Upstream) -> None:
    """MCP's URL elicitation in the newest era, by the official client."""
    gateway, token = ground.gateway(), await ground.user("ada")
    allow(ground.platform, gateway)
    add_of_people(ground, gateway, upstream)
    opened: list[str] = []

    async def agrees(context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        assert isinstance(params, types.ElicitRequestURLParams)
        opened.append(params.url)
        await consent(ground, params.url, "ada", token)
        return types.ElicitResult(action="accept")

    async with client_of(gateway, bearer(token), elicitation_callback=agrees) as client:
        result = await client.call_tool("api___hello", {})
        assert not result.is_error, result
        await client.call_tool("api___hello", {})
    assert len(opened) == 1
    assert opened[0].startswith(gateway.platform.endpoint)
    assert [ground.claims(seen)["sub"] for seen in upstream.seen] == ["ada", "ada"]
    # It is hers: for bob nothing was agreed to.
    bob = await ground.user("bob")
    capabilities = {"elicitation": {"url": {}}}
    asked = gateway.call("api___hello", headers=bearer(bob), capabilities=capabilities)
    assert asked.result["resultType"] == "input_required"
    assert len(upstream.seen) == 2


async def test_a_person_agrees_in_the_era_with_sessions(ground: Ground, upstream: Upstream) -> None:
    gateway, token = ground.gateway(), await ground.user("eve")
    allow(ground.platform, gateway)
    add_of_people(ground, gateway, upstream)

    async def never(context: Any, params: Any) -> types.ElicitResult:
        raise AssertionError("in this era it comes with an error")

    options = {"mode": "legacy", "elicitation_callback": never}
    async with client_of(gateway, bearer(token), **options) as client:
        with pytest.raises(MCPError) as refused:
            await client.call_tool("api___hello", {})
        assert refused.value.code == -32042
        [asked] = refused.value.error.data["elicitations"]
        assert asked["mode"] == "url"
        await consent(ground, asked["url"], "eve", token)
        result = await client.call_tool("api___hello", {})
        assert not result.is_error, result
    assert [ground.claims(seen)["sub"] for seen in upstream.seen] == ["eve"]


async def test_a_client_that_opens_no_page_gets_words(ground: Ground, upstream: Upstream) -> None:
    gateway, token = ground.gateway(), await ground.user("joe")
    allow(ground.platform, gateway)
    add_of_people(ground, gateway, upstream)
    answer = gateway.call("api___hello", headers=bearer(token))
    assert answer.result["isError"]
    assert f"{gateway.platform.endpoint}/identities/oauth2/" in answer.text
    assert upstream.seen == []


async def test_the_callers_own_token_where_that_is_configured(
    ground: Ground, upstream: Upstream
) -> None:
    gateway, token = ground.gateway("AUTHENTICATE_ONLY"), await ground.user("ada")
    through = {"endpoint": upstream.url, "protocolType": "CUSTOM"}
    gateway.add(
        "own", {"http": {"passthrough": through}}, {"credentialProviderType": "JWT_PASSTHROUGH"}
    )
    gateway.add("other", {"http": {"passthrough": through}})
    answer = gateway.post(b"{}", bearer(token), url=f"{gateway.base}/own/x")
    assert answer.status == 200, answer.body
    gateway.post(b"{}", bearer(token), url=f"{gateway.base}/other/x")
    own, other = upstream.seen
    assert own.headers["authorization"] == f"Bearer {token}"
    assert token not in json.dumps(other.headers)


# -- signatures


@pytest.mark.parametrize("kind", ["mcp", "openapi", "passthrough"])
async def test_a_signature_of_awss(
    ground: Ground, served: Loop, upstream: Upstream, kind: str
) -> None:
    """By the role's keys, over what the upstream got: botocore signs it again."""
    gateway = ground.make(roleArn=ROLE)
    iam = {"iamCredentialProvider": {"service": "execute-api", "region": "eu-west-1"}}
    role = {"credentialProviderType": "GATEWAY_IAM_ROLE", "credentialProvider": iam}
    if kind == "mcp":
        with McpUpstream(served, Tool("echo")) as server:
            gateway.add_mcp_server("t", server.endpoint, role)
            assert "isError" not in gateway.call("t___echo", {"a": "ü"}).result
            seen = server.seen
    elif kind == "openapi":
        gateway.add("t", openapi(upstream.url, HELLO), role)
        assert "isError" not in gateway.call("t___hello").result
        seen = upstream.seen
    else:
        through = {"endpoint": upstream.url, "protocolType": "CUSTOM"}
        gateway.add("t", {"http": {"passthrough": through}}, role)
        assert gateway.post(b'{"a": 1}', url=f"{gateway.base}/t/some/path?b=2&a=1").status == 200
        seen = upstream.seen
    assert seen
    for each in seen:
        assert_signed(each)


def assert_signed(seen: Seen) -> None:
    given = seen.headers["authorization"]
    assert given.startswith(f"AWS4-HMAC-SHA256 Credential={AWS_KEY_ID}/")
    assert "/eu-west-1/execute-api/aws4_request" in given
    names = given.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    headers = {name: seen.headers[name] for name in names}
    again = AWSRequest(method=seen.method, url=seen.url, data=seen.body, headers=headers)
    again.context["timestamp"] = seen.headers["x-amz-date"]
    signer = SigV4Auth(Credentials(AWS_KEY_ID, AWS_SECRET), "execute-api", "eu-west-1")
    text = signer.string_to_sign(again, signer.canonical_request(again))
    assert given.rpartition("Signature=")[2] == signer.signature(text, again)


# -- a person's consent


def allow(platform: RunningPlatform, gateway: Gateway) -> None:
    control = platform.client("bedrock-agentcore-control")
    control.update_workload_identity(name=gateway.id, allowedResourceOauth2ReturnUrls=[BACK])


def add_of_people(ground: Ground, gateway: Gateway, upstream: Upstream) -> None:
    more = {"customParameters": {"resource": RESOURCE}, "defaultReturnUrl": BACK}
    scopes = ["openid", "offline_access", "tools:read"]
    credential = oauth(ground.provider("web"), "AUTHORIZATION_CODE", scopes=scopes, **more)
    gateway.add("api", openapi(upstream.url, HELLO), credential)


async def consent(ground: Ground, url: str, user: str, token: str) -> None:
    """What the person's browser does, and then their application, which knows who they are."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:

        async def opened(address: str) -> str:
            async with browser.get(address, allow_redirects=False) as answer:
                assert answer.status in (302, 303), await answer.text()
                return urljoin(address, answer.headers["Location"])

        async with Visitor(ground.oidc.issuer) as visitor:
            callback = await visitor.go_through(await opened(url), user)
        back = await opened(callback)
    assert back.startswith(BACK), back
    data = ground.platform.client("bedrock-agentcore")
    session = parse_qs(urlsplit(back).query)["session_id"][0]
    data.complete_resource_token_auth(userIdentifier={"userToken": token}, sessionUri=session)
