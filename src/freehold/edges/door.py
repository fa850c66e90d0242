"""A gateway's door, for the edges behind it that are not MCP's: one way in, whatever is spoken."""

from starlette.types import Scope

from freehold.edges.mcp.admission import Headers, Names
from freehold.edges.mcp.authentication import DoorAuthenticator, challenge
from freehold.edges.mcp.metadata import WELL_KNOWN
from freehold.edges.pipeline import Authenticator
from freehold.kernel.caller import Caller
from freehold.kernel.errors import FreeholdError
from freehold.ports.authorizer import BearerTokens
from freehold.ports.mcp import Door, Gateways


class GatewayDoors:
    """The MCP edge's own rules. `signed` verifies signatures; `names` are the platform's."""

    def __init__(
        self,
        gateways: Gateways,
        *,
        bearer: BearerTokens,
        signed: Authenticator,
        names: Names,
        public_url: str,
    ) -> None:
        self._gateways, self._bearer, self._signed = gateways, bearer, signed
        self._names, self._public_url = names, public_url.rstrip("/")

    async def door(self, gateway_id: str) -> Door | None:
        return await self._gateways.door(gateway_id)

    def check(self, scope: Scope) -> None:
        """The request's size, host and origin. Raises FreeholdErrors."""
        self._names.check(scope, Headers(scope))

    def authenticator(self, door: Door, scope: Scope) -> Authenticator:
        return DoorAuthenticator(door, Headers(scope), bearer=self._bearer, signed=self._signed)

    def challenge(
        self, error: FreeholdError, door: Door, scope: Scope, caller: Caller | None
    ) -> bytes:
        """Leads to the metadata of the gateway's MCP endpoint: it is the same door."""
        host = Headers(scope).get("host", "")
        origin = self._public_url or f"{scope['scheme']}://{host}"
        url = f"{origin}{WELL_KNOWN}/gateway/{door.gateway_id}/mcp"
        return challenge(error, door, url, caller)
