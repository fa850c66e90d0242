"""Where a client without a token learns who gives one (RFC 9728). It says nothing else."""

import re
from urllib.parse import quote

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from freehold.edges.mcp.admission import Headers
from freehold.edges.mcp.authentication import takes_tokens
from freehold.kernel.errors import FreeholdError
from freehold.ports.authorizer import BearerTarget, BearerTokens
from freehold.ports.mcp import INVOKE, Gateways

WELL_KNOWN = "/.well-known/oauth-protected-resource"
# Before the resource's path, as the RFC has it, and behind it, as AWS has it.
_PATH = re.compile(
    rb"(?:/\.well-known/oauth-protected-resource(?P<path>%(resource)b)"
    rb"|(?P<behind>%(resource)b)/\.well-known/oauth-protected-resource)/?"
    % {b"resource": rb"/(?:gateway/[A-Za-z0-9_-]{1,128}/mcp|mcp/[A-Za-z0-9_-]{1,128})"}
)
_RESOURCE = re.compile(rb"/(?:gateway/([A-Za-z0-9_-]{1,128})/mcp|mcp/([A-Za-z0-9_-]{1,128}))/?")


def gateway_of(path: bytes) -> str | None:
    """The gateway whose MCP endpoint this path is."""
    found = _RESOURCE.fullmatch(path)
    return (found[1] or found[2]).decode("ascii") if found else None


def resource_of(path: bytes) -> bytes | None:
    """The endpoint whose metadata this path is."""
    found = _PATH.fullmatch(path)
    return (found["path"] or found["behind"]) if found else None


class ResourceMetadata:
    """ASGI, for `/.well-known/...` and the paths behind endpoints; the rest goes `otherwise`.

    `public_url` is how clients reach the platform; where it is empty, as this one did.
    """

    def __init__(
        self, gateways: Gateways, bearer: BearerTokens, *, public_url: str, otherwise: ASGIApp
    ) -> None:
        self._gateways, self._bearer = gateways, bearer
        self._public_url, self._otherwise = public_url.rstrip("/"), otherwise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = resource_of(scope["raw_path"]) if scope["type"] == "http" else None
        if path is None:
            await self._otherwise(scope, receive, send)
            return
        status, document = 200, None
        if scope["method"] not in ("GET", "HEAD"):
            status = 405
        else:
            try:
                document = await self._document(path, self.origin(scope, Headers(scope)))
                status = 200 if document is not None else 404
            except FreeholdError as error:
                status = error.status
        if document is None:
            document = {"message": "There is no such metadata."}
        body = msgspec.json.encode(document)
        headers = [
            (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)),
            # Clients in browsers read it before they have anything to show.
            (b"access-control-allow-origin", b"*"),
        ]  # fmt: skip
        await send({"type": "http.response.start", "status": status, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else body
        await send({"type": "http.response.body", "body": body, "more_body": False})

    def origin(self, scope: Scope, headers: Headers) -> str:
        return self._public_url or f"{scope['scheme']}://{headers.get('host', '')}"

    def url(self, scope: Scope, headers: Headers) -> str:
        """Of the metadata of the endpoint that a request came to."""
        path = scope["raw_path"].decode("latin-1").rstrip("/")
        return f"{self.origin(scope, headers)}{WELL_KNOWN}{quote(path)}"

    async def _document(self, path: bytes, origin: str) -> dict[str, object] | None:
        gateway_id = gateway_of(path)
        assert gateway_id is not None, "only an endpoint has metadata"
        door = await self._gateways.door(gateway_id)
        if door is None or not takes_tokens(door):
            return None
        target = BearerTarget(operation=INVOKE, resource=door.arn)
        document = await self._bearer.metadata(target, f"{origin}{path.decode('ascii')}")
        if document is None:
            return None
        scopes = {"scopes_supported": list(door.scopes)} if door.scopes else {}
        return {**document, **scopes, "resource_name": door.name}
