"""Connectors against the vendors' stand-ins: the vendors' addresses lead to loopback."""

import base64
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from connector_vendors.server import StandIn
from freehold.adapters.egress.addresses import denied, forbidden
from freehold.adapters.targets.connectors.client import ConnectorTargets
from freehold.adapters.targets.connectors.library import Library
from freehold.adapters.targets.connectors.offered import OfferedConnectors
from freehold.adapters.targets.openapi.client import OpenApiTargets
from freehold.adapters.web.client import CheckedWeb
from freehold.adapters.web.destination import Destinations
from freehold.ports.connectors import Connector, Way
from freehold.ports.targets import Credential, Definition, Errand, Json, Place
from freehold.ports.web import Web, WebAnswer, WebStream

LIBRARY = Library()
ADDRESSES: dict[str, Json] = {
    "salesforce": {"domain": "acme.my.salesforce.com"},
    "jira": {"cloudId": "11223344-a1b2-3b33-c444-def123456789"},
    "zendesk": {"subdomain": "acme"},
}
HOSTS = {
    "salesforce": ("acme.my.salesforce.com", "login.salesforce.com"),
    "slack": ("slack.com", "files.slack.com"),
    "jira": ("api.atlassian.com", "auth.atlassian.com"),
    "asana": ("app.asana.com",),
    "zendesk": ("acme.zendesk.com",),
    "zoom": ("api.zoom.us", "zoom.us"),
    "github": ("api.github.com", "github.com"),
}


@contextlib.asynccontextmanager
async def checked_web() -> AsyncIterator[CheckedWeb]:
    destinations = Destinations(
        denied=denied, forbidden=forbidden, listed=frozenset(["127.0.0.1"]),
        setting="FREEHOLD_OUTBOUND_PRIVATE_HOSTS",
    )  # fmt: skip
    web = CheckedWeb(destinations)
    await web.start()
    try:
        yield web
    finally:
        await web.close()


class Detour:
    """`ports.web.Web`: what is for a vendor's host, by https alone, goes to its stand-in."""

    def __init__(self, web: Web, stand_in: StandIn) -> None:
        self._web, self._stand_in = web, stand_in

    async def ask(self, method: str, url: str, **more: Any) -> WebAnswer:
        return await self._web.ask(method, self.led(url), **more)

    async def open(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | AsyncIterator[bytes] | None = None,
        seconds_max: float = 30.0,
        idle_seconds_max: float = 300.0,
    ) -> WebStream:
        return await self._web.open(
            method, self.led(url), headers=headers, body=body, seconds_max=seconds_max,
            idle_seconds_max=idle_seconds_max,
        )  # fmt: skip

    def led(self, url: str) -> str:
        parts = urlsplit(url)
        if parts.hostname in ("127.0.0.1", "localhost"):
            return url
        assert parts.scheme == "https", url
        assert parts.hostname in HOSTS[self._stand_in.vendor], url
        return self._stand_in.url + url.removeprefix(f"https://{parts.netloc}")


def configuration(id: str, **more: Any) -> Json:
    """With the parts of its address, where it has any; `more` as AWS's API has it."""
    found: Json = {"source": {"connectorId": id}, **more}
    if id in ADDRESSES:
        address = {"name": "all", "parameterValues": ADDRESSES[id]}
        found["configurations"] = [address, *more.get("configurations", ())]
    return found


def place(id: str, **more: Any) -> Place:
    return Place(
        tenant="111122223333", gateway_id="g", gateway_arn="arn", target_id="T", name=id,
        kind="mcp.connector", configuration=configuration(id, **more),
    )  # fmt: skip


def errand(credential: Credential | None = None) -> Errand:
    return Errand(
        request_id="r", owner="someone", seconds_max=10.0, credential=credential or Credential()
    )


def bearer(token: str) -> Credential:
    return Credential(headers={"Authorization": f"Bearer {token}"})


def basic(user: str, secret: str) -> Credential:
    key = base64.b64encode(f"{user}:{secret}".encode()).decode()
    return Credential(headers={"Authorization": f"Basic {key}"})


class Every:
    """`services.gateway.ports.Connectors`, without those for models."""

    def __init__(self) -> None:
        self._offered = OfferedConnectors(LIBRARY)

    def ids(self, family: str) -> Sequence[str]:
        return self._offered.ids() if family == "mcp" else ()

    async def settled(self, configuration: Json, credentials: list[Json]) -> list[Json]:
        return await self._offered.settled(configuration, credentials)

    async def all(self) -> Sequence[Connector]:
        return await self._offered.all()


def registered(way: Way, address: Mapping[str, str], client: str, secret: str) -> Json:
    """What `CreateOauth2CredentialProvider` is given for a way in, but for its name."""
    registration = way.registration
    assert registration is not None

    def filled(text: str) -> str:
        for name, value in address.items():
            text = text.replace("{" + name + "}", value)
        return text

    found: Json = {"clientId": client, "clientSecret": secret}
    if registration.vendor == "CustomOauth2":
        metadata = {
            "issuer": filled(registration.issuer),
            "authorizationEndpoint": filled(registration.authorization_endpoint),
            "tokenEndpoint": filled(registration.token_endpoint),
        }
        found["oauthDiscovery"] = {"authorizationServerMetadata": metadata}
        found["clientAuthenticationMethod"] = registration.auth_method
    return {
        "credentialProviderVendor": registration.vendor,
        "oauth2ProviderConfigInput": {registration.member: found},
    }


class Connected:
    """One connector, its tools, and the vendor behind it."""

    def __init__(self, web: Web, stand_in: StandIn, **more: Any) -> None:
        self.stand_in, self.place = stand_in, place(stand_in.vendor, **more)
        self.targets = ConnectorTargets(LIBRARY, OpenApiTargets(Detour(web, stand_in)))
        self.tools: dict[str, Definition] = {}

    async def describe(self) -> "Connected":
        described = await self.targets.describe(self.place, errand())
        assert described.problems == ()
        self.tools = {definition.name: definition for definition in described.definitions}
        return self

    async def call(self, tool: str, credential: Credential, **arguments: Any) -> Json:
        found: Json = await self.targets.call(
            self.place, self.tools[tool], arguments, errand(credential)
        )
        return found
