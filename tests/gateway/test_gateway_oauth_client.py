"""The official client comes to a gateway with no token, and gets one the way the protocol says."""

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

from joserfc import jwt
from mcp.client.auth import OAuthClientProvider
from mcp.shared.auth import (
    AuthorizationCodeResult,
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthToken,
)
from pydantic import AnyUrl

from gateway_ground import MakeGateway, client_of, jwt_rules
from gateway_upstreams import McpUpstream
from oidc_ground import CALLBACK, OidcProvider

ECHO = "there___echo"


class Kept:
    """What the official client keeps of a registration and its tokens."""

    def __init__(self, client: OAuthClientInformationFull) -> None:
        self._client = client
        self.tokens: OAuthToken | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self._client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self._client = client_info


async def test_the_official_client_finds_the_way_to_a_token_by_itself(
    make_gateway: MakeGateway, oidc: OidcProvider, mcp_upstream: McpUpstream
) -> None:
    """From the 401 to the metadata, from there to the provider, where a person signs in."""
    rules = jwt_rules(oidc, allowedScopes=["tools:read"])
    gateway = make_gateway(authorizerType="CUSTOM_JWT", authorizerConfiguration=rules)
    gateway.add_mcp_server("there", mcp_upstream.endpoint)
    rules["customJWTAuthorizer"]["allowedAudience"] = [gateway.url]
    seen = gateway.control.get_gateway(gatewayIdentifier=gateway.id)
    kept = ("name", "roleArn", "authorizerType", "protocolType")
    gateway.control.update_gateway(
        gatewayIdentifier=gateway.id, authorizerConfiguration=rules,
        **{name: seen[name] for name in kept},
    )  # fmt: skip
    metadata = OAuthClientMetadata(
        redirect_uris=[AnyUrl(CALLBACK)], token_endpoint_auth_method="none",
        grant_types=["authorization_code", "refresh_token"],
    )  # fmt: skip
    storage = Kept(OAuthClientInformationFull(client_id="public", **metadata.model_dump()))
    back: dict[str, list[str]] = {}

    async def opened(url: str) -> None:
        back.update(parse_qs(urlsplit(await oidc.sign_in(url, user="ada")).query))

    async def returned() -> Any:
        return AuthorizationCodeResult(
            code=back["code"][0], state=back["state"][0], iss=back.get("iss", [None])[0]
        )

    auth = OAuthClientProvider(gateway.url, metadata, storage, opened, returned)
    async with client_of(gateway, auth=auth) as client:
        [tool] = (await client.list_tools()).tools
        assert tool.name == ECHO
        assert not (await client.call_tool(ECHO, {"a": 1})).is_error
    assert storage.tokens is not None
    claims = jwt.decode(storage.tokens.access_token, oidc.key("RS256"), algorithms=["RS256"]).claims
    assert (claims["sub"], claims["aud"]) == ("ada", gateway.url)
    assert storage.tokens.access_token not in json.dumps([s.headers for s in mcp_upstream.seen])
