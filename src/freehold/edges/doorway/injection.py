"""Where a provider's key joins a request: outside the sandbox, at the last moment."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Protocol

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, ReadOnlyCredentials
from botocore.exceptions import BotoCoreError
from botocore.session import get_session

from freehold.edges.doorway.refusals import ProviderUnusable
from freehold.ports.models import ModelKind, ModelProvider

# A proxy between us and the provider may rewrite these.
_UNSIGNED = frozenset({"accept-encoding", "content-length", "user-agent"})


class Injection(Protocol):
    signs_body: bool
    """Needs the body's hash, so the body is spooled before it is sent."""

    async def headers(
        self, method: str, url: str, headers: Mapping[str, str], body_sha256: str
    ) -> dict[str, str]:
        """The headers that authenticate the request."""

    def secrets(self) -> tuple[bytes, ...]:
        """What must never come back in an answer."""


def injection_for(provider: ModelProvider) -> Injection:
    if provider.kind is ModelKind.ANTHROPIC:
        return HeaderKey("x-api-key", provider.api_key)
    if provider.kind is ModelKind.GEMINI:
        return HeaderKey("x-goog-api-key", provider.api_key)
    if provider.kind is ModelKind.BEDROCK and (provider.aws_keys or not provider.api_key):
        return SignatureV4(provider)
    return HeaderKey("authorization", provider.api_key, scheme="Bearer ")


class HeaderKey:
    """A key in a header. An empty one sends nothing: a server of one's own may need none."""

    signs_body = False

    def __init__(self, header: str, key: str, scheme: str = "") -> None:
        self._headers = {header: scheme + key} if key else {}
        self._secrets = (key.encode(),) if key else ()

    async def headers(
        self, method: str, url: str, headers: Mapping[str, str], body_sha256: str
    ) -> dict[str, str]:
        return self._headers

    def secrets(self) -> tuple[bytes, ...]:
        return self._secrets


class SignatureV4:
    """Signs for Bedrock with the provider's own keys, or those that botocore's chain finds."""

    signs_body = True

    def __init__(self, provider: ModelProvider) -> None:
        # At DEBUG botocore logs what it signs, the session token with it.
        logging.getLogger("botocore").setLevel(logging.INFO)
        self._region = provider.region
        self._credentials: Credentials | None = None
        if provider.aws_keys is not None:
            key_id, secret, token = provider.aws_keys
            self._credentials = Credentials(key_id, secret, token or None)
        self._last: ReadOnlyCredentials | None = None

    async def headers(
        self, method: str, url: str, headers: Mapping[str, str], body_sha256: str
    ) -> dict[str, str]:
        # In a thread: the chain may ask a metadata service, and refreshes itself when it must.
        credentials = await asyncio.to_thread(self._frozen)
        signed = {name: value for name, value in headers.items() if name not in _UNSIGNED}
        request = AWSRequest(
            method=method, url=url, headers={**signed, "X-Amz-Content-SHA256": body_sha256}
        )
        SigV4Auth(credentials, "bedrock", self._region).add_auth(request)
        return {name.lower(): value for name, value in request.headers.items()}

    def secrets(self) -> tuple[bytes, ...]:
        if self._last is None:
            return ()
        return tuple(part.encode() for part in (self._last.secret_key, self._last.token) if part)

    def _frozen(self) -> ReadOnlyCredentials:
        try:
            if self._credentials is None:
                self._credentials = get_session().get_credentials()
            if self._credentials is None:
                raise ProviderUnusable("the platform has no AWS credentials to sign for Bedrock")
            self._last = self._credentials.get_frozen_credentials()
        except BotoCoreError as error:
            # Its text may name files and roles of the operator's: the class is enough here.
            raise ProviderUnusable(
                f"the platform's AWS credentials cannot be had ({type(error).__name__})"
            ) from None
        return self._last
