"""The ways in that connectors name, at stand-ins of the vendors' authorization servers."""

from urllib.parse import urlsplit

import pytest

from connector_arguments import arguments
from connector_ground import LIBRARY
from connector_vendors.facts import VENDORS, facts_of
from connector_vendors.server import StandIn
from freehold.adapters.oauth.client import HttpOauthClient
from freehold.adapters.web.client import CheckedWeb
from freehold.ports.connectors import Way
from freehold.ports.credentials import Oauth2Provider
from freehold.ports.oauth import Asked
from freehold.services.vault.vendors import VENDORS as VAULT
from vendor_connector import Connector

_BACK = "https://platform.example/back"
WAYS = [(vendor, way) for vendor in VENDORS for way in LIBRARY.get(vendor).connector.ways]
OAUTH = [(vendor, way) for vendor, way in WAYS if way.type == "OAUTH"]


@pytest.mark.parametrize(("vendor", "way"), OAUTH, ids=[f"{v}.{w.name}" for v, w in OAUTH])
class TestTheWayIn:
    def test_is_registered_with_the_addresses_of_the_vendor(self, vendor: str, way: Way) -> None:
        about = facts_of(vendor).about["oauth"]
        assert way.registration is not None
        known = VAULT[way.registration.vendor]
        addresses = (way.registration.authorization_endpoint or known.authorize_at,
                     way.registration.token_endpoint or known.exchange_at)  # fmt: skip
        method = way.registration.auth_method.removeprefix("CLIENT_SECRET_").lower()
        method = method or known.auth_method.removeprefix("client_secret_")

        if not known.discovery_url or way.registration.token_endpoint:
            paths = [urlsplit(address).path for address in addresses]
            assert paths == [about["authorize"], about["token"]]
        assert method in about["client"]

    async def test_leads_to_a_token_that_every_tool_can_use(
        self, vendor_web: CheckedWeb, vendor: str, way: Way
    ) -> None:
        async with StandIn(vendor) as standin:
            token, lasts = await self._token(vendor_web, standin, way)
            connector = Connector(vendor_web, standin)
            await connector.describe()
            refused = {}
            for tool in connector.tools:
                told = arguments(vendor, tool, connector.schema(tool), every=True)
                standin.store.gone.clear()
                result = await connector.call(tool, told, token)
                if result.get("isError"):
                    refused[tool] = result["content"][0]["text"]

        assert refused == {}
        assert lasts == (way.grant == "AUTHORIZATION_CODE")

    async def _token(self, web: CheckedWeb, standin: StandIn, way: Way) -> tuple[str, bool]:
        """As the vault gets it, for the scopes of all tools."""
        assert way.registration is not None
        about = standin.facts.about["oauth"]
        vendor = VAULT[way.registration.vendor]
        method = way.registration.auth_method.lower() or vendor.auth_method
        provider = Oauth2Provider(
            tenant="t", name="p", arn="arn", vendor=way.registration.vendor, version=1, issuer="",
            callback_id="x", client_id=standin.oauth.client_id,
            client_secret=standin.oauth.client_secret,
            authorization_endpoint=standin.url + about["authorize"],
            token_endpoint=standin.url + about["token"],
            auth_method=method,  # type: ignore[arg-type]
            pkce=vendor.pkce, scope_separator=vendor.scope_separator, extra=vendor.extra,
            machine_grant=vendor.machine_grant,
        )  # fmt: skip
        tools = LIBRARY.get(standin.vendor).connector.operations
        wanted = dict.fromkeys([*(s for tool in tools for s in tool.scopes), *way.scopes])
        parameters = dict.fromkeys(way.parameters, "the-account")
        if way.scopes_parameter:
            parameters[way.scopes_parameter] = way.separator.join(wanted)
        asks = way.asks_scopes and not way.scopes_parameter
        asked = Asked(scopes=tuple(wanted) if asks else (), parameters=parameters)
        if not way.asks_scopes:  # they are those of the app, as its registration has them
            standin.oauth.registered = [*wanted, "api"]
        client = HttpOauthClient(web)
        if way.grant == "CLIENT_CREDENTIALS":
            tokens = await client.client_credentials(provider, asked)
        else:
            url = client.authorization_url(
                provider, asked, redirect_uri=_BACK, state="s", verifier="v" * 43
            )
            answer = await web.ask("GET", url)
            assert answer.status == 302, answer.body
            code = answer.headers["location"].partition("code=")[2].partition("&")[0]
            tokens = await client.redeem(
                provider, asked, code=code, redirect_uri=_BACK, verifier="v" * 43
            )
        return tokens.access_token, tokens.refresh_token is not None
