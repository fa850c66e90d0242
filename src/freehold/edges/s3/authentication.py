"""Signature Version 4 as S3 uses it: the body is checked while it streams, not before."""

from collections.abc import Mapping

from freehold.edges.pipeline import Call
from freehold.edges.s3.chunked import ChunkSignatures
from freehold.edges.s3.errors import S3Error
from freehold.edges.s3.upload import (
    STREAMING_SIGNED,
    STREAMING_SIGNED_TRAILER,
    STREAMING_UNSIGNED_TRAILER,
    Upload,
)
from freehold.edges.sigv4 import (
    UNSIGNED_PAYLOAD,
    SignatureOutOfTime,
    SignatureRules,
    SignedRequest,
    Verifier,
    signing_key,
)
from freehold.edges.spool import Inbound
from freehold.kernel.caller import Caller
from freehold.ports.authorizer import AccessKeys

_SERVICE = "s3"
_UNSIGNED = frozenset({UNSIGNED_PAYLOAD, STREAMING_UNSIGNED_TRAILER})
_SIGNED_IN_CHUNKS = frozenset({STREAMING_SIGNED, STREAMING_SIGNED_TRAILER})
# S3's own limit: seven days.
_PRESIGNED_SECONDS_MAX = 7 * 24 * 3600


class S3Authenticator:
    """Nothing is spooled: an upload that turns out to be false raises inside `Blobs.put`, which
    then stores nothing.

    An unsigned body needs TLS, or a presigned URL, whose holder may send any body by design;
    `unsigned_over_http` is for a TLS proxy that this process cannot see.
    """

    def __init__(
        self, keys: AccessKeys, *, region: str, upload_bytes_max: int, unsigned_over_http: bool
    ) -> None:
        self._keys = keys
        self._upload_bytes_max = upload_bytes_max
        self._unsigned_over_http = unsigned_over_http
        self._verifier = Verifier(
            keys,
            SignatureRules(
                region=region,
                services=frozenset({_SERVICE}),
                path_encoded_once=True,
                payload_literals=_UNSIGNED | _SIGNED_IN_CHUNKS,
                presigned_seconds_max=_PRESIGNED_SECONDS_MAX,
            ),
        )

    async def authenticate(self, call: Call, headers: Mapping[str, str]) -> Caller:
        """The caller; `call.body` becomes an Upload. `call.receive` is an Inbound.

        `headers` are those that say something of the body.
        """
        assert isinstance(call.receive, Inbound)
        try:
            signed = self._verifier.read(call.scope)
        except SignatureOutOfTime as error:
            # SDKs correct their clock on this code; for an old presigned URL S3 has another.
            code = "RequestTimeTooSkewed" if "authorization" in headers else "AccessDenied"
            raise S3Error(code, error.message) from error
        if signed.payload is None:
            raise S3Error("InvalidRequest", "the header x-amz-content-sha256 is missing")
        if signed.payload in _UNSIGNED and not self._may_be_unsigned(call, signed):
            raise S3Error("AccessDenied", "a body that is not signed is taken over TLS only")
        caller = await self._verifier.verify(signed, None)
        call.body = Upload(
            call.receive,
            headers,
            payload=signed.payload,
            signatures=await self._chunk_signatures(signed),
            bytes_max=self._upload_bytes_max,
        )
        return caller

    def _may_be_unsigned(self, call: Call, signed: SignedRequest) -> bool:
        return signed.presigned or self._unsigned_over_http or call.scope["scheme"] == "https"

    async def _chunk_signatures(self, signed: SignedRequest) -> ChunkSignatures | None:
        if signed.payload not in _SIGNED_IN_CHUNKS:
            return None
        key = await self._keys.active(signed.access_key_id)
        if key is None:
            raise S3Error("AccessDenied", "the access key was disabled just now")
        scope = f"{signed.date}/{signed.region}/{signed.service}/aws4_request"
        return ChunkSignatures(
            key=signing_key(key.secret, signed.date, signed.region, signed.service),
            timestamp=signed.timestamp,
            scope=scope,
            seed=signed.signature,
        )
