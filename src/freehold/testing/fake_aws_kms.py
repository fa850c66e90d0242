"""A fake of AWS KMS: Encrypt and Decrypt of its JSON protocol, over HTTP on loopback.

It checks signatures as KMS does, by having botocore sign the request again, and its keys really
encrypt. What it does not do: grants, key policies, asymmetric keys, throttling.

    async with FakeAwsKms(access_key_id="AKIA...", secret_access_key="...") as kms:
        arn = kms.create_key()
        client = boto3.client("kms", endpoint_url=kms.endpoint, ...)
"""

import base64
import hmac
import json
import os
import uuid
from typing import Any

from aiohttp import web
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_PLAINTEXT_BYTES_MAX = 4096
_NONCE_BYTES = 12


class FakeAwsKms:
    """`calls` are the operations asked for, in order. Keys may be disabled and deleted."""

    def __init__(
        self,
        *,
        access_key_id: str,
        secret_access_key: str,
        region: str = "us-east-1",
        account: str = "111122223333",
    ) -> None:
        self._credentials = Credentials(access_key_id, secret_access_key)
        self._region, self._account = region, account
        self._keys: dict[str, AESGCM] = {}
        self._disabled: set[str] = set()
        self.calls: list[str] = []
        self.away = False
        self.endpoint = ""

    async def __aenter__(self) -> "FakeAwsKms":
        app = web.Application()
        app.router.add_post("/", self._answer)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.endpoint = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def create_key(self) -> str:
        arn = f"arn:aws:kms:{self._region}:{self._account}:key/{uuid.uuid4()}"
        self._keys[arn] = AESGCM(AESGCM.generate_key(256))
        return arn

    def disable_key(self, arn: str) -> None:
        self._disabled.add(arn)

    def enable_key(self, arn: str) -> None:
        self._disabled.discard(arn)

    def delete_key(self, arn: str) -> None:
        """At once; the real one waits at least seven days."""
        del self._keys[arn]

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        target = request.headers.get("X-Amz-Target", "")
        self.calls.append(target.removeprefix("TrentService."))
        if self.away:
            return _failed(500, "KMSInternalException")
        if not self._signed(request, body):
            return _failed(400, "InvalidSignatureException")
        try:
            fields = json.loads(body)
            act = {"TrentService.Encrypt": self._encrypt, "TrentService.Decrypt": self._decrypt}
            return act[target](fields)
        except (KeyError, ValueError):
            return _failed(400, "ValidationException")

    def _encrypt(self, fields: dict[str, Any]) -> web.Response:
        arn = fields["KeyId"]
        refused = self._usable(arn)
        if refused is not None:
            return refused
        plaintext = base64.b64decode(fields["Plaintext"])
        if not 0 < len(plaintext) <= _PLAINTEXT_BYTES_MAX:
            return _failed(400, "ValidationException")
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._keys[arn].encrypt(nonce, plaintext, _context(fields))
        blob = len(arn).to_bytes(2) + arn.encode() + nonce + sealed
        return _done(CiphertextBlob=base64.b64encode(blob).decode(), KeyId=arn)

    def _decrypt(self, fields: dict[str, Any]) -> web.Response:
        blob = base64.b64decode(fields["CiphertextBlob"])
        size = int.from_bytes(blob[:2])
        arn, rest = blob[2 : 2 + size].decode(errors="replace"), blob[2 + size :]
        if arn != fields.get("KeyId", arn):
            return _failed(400, "IncorrectKeyException")
        refused = self._usable(arn)
        if refused is not None:
            return refused
        try:
            plaintext = self._keys[arn].decrypt(
                rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], _context(fields)
            )
        except (InvalidTag, ValueError):
            return _failed(400, "InvalidCiphertextException")
        return _done(Plaintext=base64.b64encode(plaintext).decode(), KeyId=arn)

    def _usable(self, arn: str) -> web.Response | None:
        if arn not in self._keys:
            return _failed(400, "NotFoundException")
        return _failed(400, "DisabledException") if arn in self._disabled else None

    def _signed(self, request: web.Request, body: bytes) -> bool:
        given = request.headers.get("Authorization", "")
        names = given.partition("SignedHeaders=")[2].partition(",")[0].split(";")
        again = AWSRequest(
            method="POST",
            url=f"{self.endpoint}/",
            data=body,
            headers={name: request.headers[name] for name in names if name in request.headers},
        )
        again.context["timestamp"] = request.headers.get("X-Amz-Date", "")
        signer = SigV4Auth(self._credentials, "kms", self._region)
        signature = signer.signature(
            signer.string_to_sign(again, signer.canonical_request(again)), again
        )
        scope = f"Credential={signer.scope(again)}, "
        return scope in given and hmac.compare_digest(given.rpartition("=")[2], signature)


def _context(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields.get("EncryptionContext") or {}, sort_keys=True).encode()


def _done(**fields: str) -> web.Response:
    return web.Response(text=json.dumps(fields), content_type="application/x-amz-json-1.1")


def _failed(status: int, code: str) -> web.Response:
    document = {"__type": code, "message": "refused by the fake"}
    return web.Response(
        text=json.dumps(document), status=status, content_type="application/x-amz-json-1.1"
    )
