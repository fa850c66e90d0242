"""A key-encryption key in AWS KMS: its JSON protocol over the asynchronous client."""

import asyncio
import base64
import binascii
import os
import re
from typing import Any

import aiohttp
import botocore.session
import msgspec
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

from freehold.adapters.secrets.key_service import KeyServiceClient
from freehold.kernel.errors import Unavailable
from freehold.ports.secrets import KeyGone, SealBroken

# The region becomes part of a host's name: nothing else may stand there.
_ARN = re.compile(
    r"arn:(aws|aws-cn|aws-us-gov):kms:([a-z]{2}(?:-[a-z]+)+-[0-9]):[0-9]{12}:key/[A-Za-z0-9-]{1,64}"
)
_BROKEN = ("InvalidCiphertextException", "IncorrectKeyException")


def kms_region(arn: str) -> str | None:
    """None for what is not the ARN of a KMS key."""
    match = _ARN.fullmatch(arn)
    return match[2] if match else None


class AwsKmsKey:
    """Signed with the credentials that this process finds as every AWS client does.

    They need kms:Encrypt and kms:Decrypt on the key. The context travels as encryption context:
    who may use the same key for another tenant cannot open this one's.
    """

    def __init__(
        self,
        client: KeyServiceClient,
        *,
        arn: str,
        name: str | None = None,
        endpoint: str | None = None,
    ) -> None:
        region = kms_region(arn)
        if region is None:
            raise ValueError("not the ARN of a KMS key")
        self.name = name or arn
        self._arn = arn
        self._client = client
        self._region = region
        suffix = "amazonaws.com.cn" if arn.startswith("arn:aws-cn:") else "amazonaws.com"
        given = endpoint or os.environ.get("AWS_ENDPOINT_URL_KMS")
        self._endpoint = (given or f"https://kms.{region}.{suffix}").rstrip("/") + "/"

    def __repr__(self) -> str:
        return f"AwsKmsKey({self.name})"

    async def wrap(self, key: bytes, *, context: str) -> bytes:
        answer = await self._ask("Encrypt", {"Plaintext": _text(key)}, context)
        return self._bytes(answer, "CiphertextBlob")

    async def unwrap(self, wrapped: bytes, *, context: str) -> bytes:
        answer = await self._ask("Decrypt", {"CiphertextBlob": _text(wrapped)}, context)
        return self._bytes(answer, "Plaintext")

    async def rewrap(self, wrapped: bytes, *, context: str) -> bytes:
        return await self.wrap(await self.unwrap(wrapped, context=context), context=context)

    async def _ask(self, operation: str, fields: dict[str, str], context: str) -> dict[str, Any]:
        document = {**fields, "KeyId": self._arn, "EncryptionContext": {"freehold": context}}
        body = msgspec.json.encode(document)
        headers = await asyncio.to_thread(self._signed, operation, body)
        try:
            status, answer = await self._client.post(self._endpoint, headers, body)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(f"AWS KMS does not answer: {type(error).__name__}") from None
        if status == 200:
            return answer
        code = str(answer.get("__type", "")).rpartition("#")[2]
        if code == "NotFoundException":
            raise KeyGone(f"{self._arn} does not exist")
        if code in _BROKEN:
            raise SealBroken(f"not wrapped by {self._arn} in this place")
        raise Unavailable(f"AWS KMS refused: {code or status}")

    def _signed(self, operation: str, body: bytes) -> dict[str, str]:
        """In a thread: credentials may come from a file, a process or a metadata service."""
        request = AWSRequest(
            method="POST",
            url=self._endpoint,
            data=body,
            headers={
                "Content-Type": "application/x-amz-json-1.1",
                "X-Amz-Target": f"TrentService.{operation}",
            },
        )
        SigV4Auth(_credentials(), "kms", self._region).add_auth(request)
        return dict(request.headers.items())

    def _bytes(self, answer: dict[str, Any], member: str) -> bytes:
        try:
            return base64.b64decode(answer[member], validate=True)
        except (KeyError, TypeError, binascii.Error):
            raise Unavailable("AWS KMS gave an answer without a key") from None


_session = botocore.session.Session()


def _credentials() -> ReadOnlyCredentials:
    found = _session.get_credentials()
    if found is None:
        raise Unavailable("AWS KMS: this process has no AWS credentials")
    frozen: ReadOnlyCredentials = found.get_frozen_credentials()
    return frozen


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
