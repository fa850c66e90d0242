"""Connectors through the real API, and their authorization with the vendors' stand-ins."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import outbound_ground
import pytest
from control_ground import API_KEYS, OAUTH2, ControlGround
from outbound_ground import RETURN_URL, Ground, loopback_web, place

from connector_ground import ADDRESSES, LIBRARY, Connected, Detour, Every, configuration, registered
from connector_vendors.manners import Grant
from connector_vendors.server import StandIn
from edge_ground import refused
from freehold.adapters.targets.connectors.client import ConnectorTargets
from freehold.adapters.targets.connectors.credentials import filled
from freehold.adapters.targets.openapi.client import OpenApiTargets
from freehold.kernel import ids
from freehold.kernel.request import Request
from freehold.ports.connectors import Way
from freehold.ports.targets import Json
from freehold.services.gateway.ports import ConsentNeeded
from freehold.services.vault.model import oauth2_document
from oidc_ground import OidcProvider


@pytest.fixture(scope="module")
async def dsn(fresh_dsn: Any) -> str:
    made: str = await fresh_dsn()
    return made


@pytest.fixture
async def ground(dsn: str, tmp_path: Path) -> AsyncIterator[ControlGround]:
    ground = ControlGround(dsn, tmp_path, connectors=Every())
    web = loopback_web()
    ground.clients["mcp.connector"] = ConnectorTargets(LIBRARY, OpenApiTargets(web))
    async with ground.open():
        yield ground


@pytest.fixture
async def provider(ground: ControlGround, tenant: str) -> Json:
    made = await ground.resources.create(
        tenant, OAUTH2, id=secrets.token_hex(5), name="app", status="READY", document={}
    )
    return oauth(made[0].arn)


def oauth(arn: str, **more: Any) -> Json:
    given = {"providerArn": arn, "scopes": [], **more}
    return {
        "credentialProviderType": "OAUTH",
        "credentialProvider": {"oauthCredentialProvider": given},
    }


async def add(
    ground: ControlGround, tenant: str, connector: Json, *credentials: Json, name: str = "it"
) -> Json:
    gateway_id = await ground.gateway(tenant, f"g-{secrets.token_hex(4)}")
    given = {"credentialProviderConfigurations": list(credentials)} if credentials else {}
    made = await ground.control(tenant).create_gateway_target(
        gatewayIdentifier=gateway_id, name=name,
        targetConfiguration={"mcp": {"connector": connector}}, **given,
    )  # fmt: skip
    return await ground.settled(tenant, gateway_id, made["targetId"])


async def tools(ground: ControlGround, tenant: str, target: Json) -> dict[str, Json]:
    gateway_id = target["gatewayArn"].rsplit("/", 1)[-1]
    row = await ground.store.of(tenant, gateway_id)
    return {d.name: d.document for t in row.targets for d in t.definitions}


async def test_a_connector_becomes_tools_with_its_authorization_filled_in(
    ground: ControlGround, tenant: str, provider: Json
) -> None:
    target = await add(ground, tenant, configuration("slack"), provider)
    assert target["status"] == "READY", target
    given = target["credentialProviderConfigurations"][0]["credentialProvider"]
    asked = given["oauthCredentialProvider"]
    assert asked["grantType"] == "AUTHORIZATION_CODE"
    assert "search:read" in asked["customParameters"]["user_scope"].split(",")
    made = await tools(ground, tenant, target)
    assert set(made) == set(LIBRARY.get("slack").traits)
    assert made["read_channel"]["annotations"]["readOnlyHint"] is True
    assert made["delete_message"]["annotations"]["destructiveHint"] is True
    assert made["post_message"]["annotations"]["destructiveHint"] is False


async def test_only_what_is_enabled_is_offered_and_asked_scopes_for(
    ground: ControlGround, tenant: str, provider: Json
) -> None:
    connector = configuration("asana", enabled=["list_tasks", "get_task"])
    target = await add(ground, tenant, connector, provider)
    assert set(await tools(ground, tenant, target)) == {"list_tasks", "get_task"}
    given = target["credentialProviderConfigurations"][0]["credentialProvider"]
    assert given["oauthCredentialProvider"]["scopes"] == ["tasks:read"]
    why = await refused(add(ground, tenant, configuration("asana", enabled=["fly"]), provider))
    assert "'fly'" in why
    assert "list_tasks" in why


async def test_what_a_target_says_itself_stays(
    ground: ControlGround, tenant: str, provider: Json
) -> None:
    inner = provider["credentialProvider"]["oauthCredentialProvider"]
    own = oauth(inner["providerArn"], scopes=["public_repo"], grantType="AUTHORIZATION_CODE")
    target = await add(ground, tenant, configuration("github"), own)
    given = target["credentialProviderConfigurations"][0]["credentialProvider"]
    assert given["oauthCredentialProvider"]["scopes"] == ["public_repo"]


async def test_fixed_values_are_hidden_and_defaults_may_be_overruled(
    ground: ControlGround, tenant: str, provider: Json
) -> None:
    connector = configuration(
        "github",
        configurations=[
            {"name": "all", "parameterValues": {"owner": "octo"}},
            {
                "name": "create_issue", "description": "Tell the team.",
                "parameterValues": {"repo": "app", "labels": ["from-agent"]},
                "parameterOverrides": [
                    {"path": "/labels", "visible": True, "description": "Ours are a, b."},
                    {"path": "/milestone", "visible": False},
                ],
            },
        ],
    )  # fmt: skip
    made = await tools(ground, tenant, await add(ground, tenant, connector, provider))
    assert "owner" not in made["get_issue"]["inputSchema"]["properties"]
    assert made["get_issue"]["inputSchema"]["required"] == ["repo", "issue_number"]
    issue = made["create_issue"]
    assert issue["description"] == "Tell the team."
    assert set(issue["inputSchema"]["properties"]) == {"title", "body", "labels", "assignees"}
    assert issue["inputSchema"]["properties"]["labels"]["default"] == ["from-agent"]
    assert issue["inputSchema"]["properties"]["labels"]["description"] == "Ours are a, b."


@pytest.mark.parametrize(
    ("id", "configurations", "why"),
    [
        ("zendesk", [], "subdomain"),
        ("zendesk", [{"name": "all", "parameterValues": {"subdomain": "evil.com/"}}], "subdomain"),
        ("salesforce", [{"name": "all", "parameterValues": {"domain": "evil.example"}}], "domain"),
        ("slack", [{"name": "fly"}], "fly"),
        ("slack", [{"name": "all", "parameterValues": {"fly": 1}}], "fly"),
        ("slack", [{"name": "all", "description": "x"}], "parameterValues alone"),
        ("slack", [{"name": "get_user"}, {"name": "get_user"}], "twice"),
        ("slack", [{"name": "get_user", "parameterValues": {"user": 5}}], "user"),
        ("slack", [{"name": "get_user", "parameterValues": [1]}], "an object"),
        ("slack", [{"name": "get_user", "parameterOverrides": [{"path": "/x"}]}], "/x"),
        (
            "slack",
            [{"name": "get_user", "parameterOverrides": [{"path": "/user", "visible": False}]}],
            "required",
        ),
    ],
)
async def test_a_configuration_that_cannot_be_used_is_refused_with_the_reason(
    ground: ControlGround, tenant: str, provider: Json, id: str, configurations: Any, why: str
) -> None:
    connector = {"source": {"connectorId": id}, "configurations": configurations}
    assert why in await refused(add(ground, tenant, connector, provider))


async def test_credentials_that_the_service_does_not_take_are_refused(
    ground: ControlGround, tenant: str, provider: Json
) -> None:
    assert "needs one" in await refused(add(ground, tenant, configuration("slack")))
    inner = provider["credentialProvider"]["oauthCredentialProvider"]["providerArn"]
    machine = oauth(inner, grantType="CLIENT_CREDENTIALS")
    why = await refused(add(ground, tenant, configuration("slack"), machine))
    assert "AUTHORIZATION_CODE" in why
    why = await refused(add(ground, tenant, configuration("zoom"), machine))
    assert "account_id" in why
    signed = {"credentialProviderType": "GATEWAY_IAM_ROLE"}
    assert "GATEWAY_IAM_ROLE" in await refused(add(ground, tenant, configuration("jira"), signed))
    newer = {**configuration("slack"), "source": {"connectorId": "slack", "version": "9.0.0"}}
    assert "9.0.0" in await refused(add(ground, tenant, newer, provider))


async def test_an_api_key_goes_where_the_service_looks_for_it(
    ground: ControlGround, tenant: str
) -> None:
    made = await ground.resources.create(
        tenant, API_KEYS, id=secrets.token_hex(5), name="key", status="READY", document={}
    )
    key = {
        "credentialProviderType": "API_KEY",
        "credentialProvider": {"apiKeyCredentialProvider": {"providerArn": made[0].arn}},
    }
    target = await add(ground, tenant, configuration("zendesk"), key)
    given = target["credentialProviderConfigurations"][0]["credentialProvider"]
    assert given["apiKeyCredentialProvider"]["credentialPrefix"] == "Basic"
    assert given["apiKeyCredentialProvider"]["credentialParameterName"] == "Authorization"


async def test_our_own_api_tells_what_a_person_has_to_bring(
    ground: ControlGround, tenant: str
) -> None:
    _, listed = await ground.own(tenant, "GET", "/connectors")
    assert [c["id"] for c in listed["connectors"]] == sorted(LIBRARY.ids())
    _, zendesk = await ground.own(tenant, "GET", "/connectors/zendesk")
    status, _ = await ground.own(tenant, "GET", "/connectors/fax")
    assert status == 404
    assert zendesk["parameters"][0]["name"] == "subdomain"
    assert zendesk["ways"][0]["registration"]["tokenEndpoint"].startswith("https://{subdomain}.")
    assert {"tickets:read"} == set(
        next(o for o in zendesk["operations"] if o["name"] == "get_ticket")["scopes"]
    )


# -- authorization

WAYS = [
    (id, way)
    for id in LIBRARY.ids()
    for way in LIBRARY.get(id).ways
    if way.type == "OAUTH"
]  # fmt: skip
ACCOUNT = {"customParameters": {"account_id": "the-account"}}


@pytest.fixture(scope="module")
def oidc() -> Iterator[OidcProvider]:
    with OidcProvider() as provider:
        yield provider


async def agreed(ground: Ground, detour: Detour, needed: ConsentNeeded, user: Any) -> None:
    """In the person's browser, at a vendor where whoever comes has agreed."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:

        async def opened(url: str) -> str:
            async with browser.get(url, allow_redirects=False) as answer:
                assert answer.status == 302, await answer.text()
                return answer.headers["Location"]

        callback = await opened(detour.led(await opened(needed.url)))
        assert (await opened(callback)).startswith(RETURN_URL)
    caller = outbound_ground.access_key(user.tenant)
    request = Request(caller=caller, request_id=ids.request_id())
    await ground.oauth.complete(request, needed.session, user_id=None, user_token=user.token)


@pytest.mark.parametrize(("id", "way"), WAYS, ids=[f"{id}-{way.name}" for id, way in WAYS])
async def test_each_way_in_ends_with_a_call_that_the_vendor_takes(
    database_dsn: str, oidc: OidcProvider, tmp_path: Path, tenant: str, id: str, way: Way
) -> None:
    roles = tmp_path / "roles.json"
    roles.write_text('{"roles": []}')
    roles.chmod(0o600)
    plain = loopback_web()
    await plain.start()
    try:
        async with StandIn(id) as vendor:
            if id == "salesforce":  # whose document of metadata says where it is
                vendor.oauth.url = "https://login.salesforce.com"
            detour = Detour(plain, vendor)
            async with Ground(database_dsn, oidc, detour, tmp_path).open() as ground:
                await _goes_in(ground, detour, vendor, tenant, way, plain)
    finally:
        await plain.close()


async def _goes_in(
    ground: Ground, detour: Detour, vendor: StandIn, tenant: str, way: Way, plain: Any
) -> None:
    id, address = vendor.vendor, ADDRESSES.get(vendor.vendor, {})
    client, secret = vendor.oauth.client_id, vendor.oauth.client_secret
    given = {"name": "app", **registered(way, address, client, secret)}
    made = await ground.providers.create_oauth2(tenant, given)
    assert oauth2_document(made).vendor == given["credentialProviderVendor"]
    more = {
        "grantType": way.grant,
        "defaultReturnUrl": RETURN_URL,
        **(ACCOUNT if way.parameters else {}),
    }
    (credential,) = filled(LIBRARY.get(id), configuration(id), [oauth(made.arn, **more)])
    user = ground.user(tenant)
    where = place(tenant, "mcp.connector", configuration=configuration(id))
    try:
        shown = await ground.ask(where, credential, user)
    except ConsentNeeded as needed:
        assert way.grant == "AUTHORIZATION_CODE"
        await agreed(ground, detour, needed, user)
        shown = await ground.ask(where, credential, user)
    else:
        assert way.grant == "CLIENT_CREDENTIALS"
    if not way.asks_scopes:  # then the app has what was ticked where it was made
        for token in vendor.manners.tokens:
            vendor.manners.tokens[token] = Grant(None)
    connected = await Connected(plain, vendor).describe()
    async with asyncio.timeout(20):
        for tool in ("list_channels", "get_current_user", "list_workspaces", "get_user"):
            if tool in connected.tools:
                result = await connected.call(tool, shown)
                assert not result.get("isError"), result["content"]
                return
    raise AssertionError(f"nothing of {id} was called")
