"""Bedrock's side of Signature Version 4: what a request must have been signed with."""

import hashlib
import hmac
from urllib.parse import quote

from aiohttp import web

from freehold.ports.models import ModelKind, ModelProvider


def signing_provider(base_url: str) -> ModelProvider:
    """Whose requests `expected_signature` knows."""
    return ModelProvider(
        kind=ModelKind.BEDROCK,
        base_url=base_url,
        region="us-west-2",
        aws_keys=("AKIAPLATFORM", "platform-secret", "platform-token"),
    )


def expected_signature(request: web.Request, body: bytes) -> str:
    """By AWS's description of version 4, of the request as it arrived."""

    def keyed(key: bytes, text: str) -> bytes:
        return hmac.digest(key, text.encode(), "sha256")

    names = request.headers["authorization"].split("SignedHeaders=")[1].split(",")[0]
    assert {"host", "content-type", "x-amz-date", "x-amz-security-token"} <= set(names.split(";"))
    canonical = "\n".join(
        (
            request.method,
            quote(request.raw_path, safe="/~"),
            "",
            *(f"{name}:{request.headers[name]}" for name in names.split(";")),
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        )
    )
    when = request.headers["x-amz-date"]
    scope = f"{when[:8]}/us-west-2/bedrock/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = b"AWS4platform-secret"
    for part in scope.split("/"):
        key = keyed(key, part)
    signature = keyed(key, f"AWS4-HMAC-SHA256\n{when}\n{scope}\n{digest}").hex()
    credential = f"AWS4-HMAC-SHA256 Credential=AKIAPLATFORM/{scope}"
    return f"{credential}, SignedHeaders={names}, Signature={signature}"
