"""Signed requests to try on a verifier, and the verifier that tries them."""

from datetime import UTC, datetime
from typing import Any

from aws_edge_driver import (
    CREDENTIALS,
    KEY,
    REGION,
    Keys,
    wire_scope,
)
from botocore.auth import S3SigV4QueryAuth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest

from freehold.edges import sigv4
from freehold.edges.sigv4 import SignatureRules, Verifier
from freehold.kernel.caller import Caller

SERVICE = "bedrock-agentcore"
RULES = SignatureRules(region=REGION, services=frozenset({SERVICE}))
S3_RULES = SignatureRules(
    region=REGION,
    services=frozenset({"s3"}),
    path_encoded_once=True,
    payload_literals=frozenset({"UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"}),
)
BODY = b'{"prompt":"hi"}'
PATH = (
    "/runtimes/arn%3Aaws%3Abedrock-agentcore%3Aus-east-1%3A123456789012%3Aruntime%2Fdemo"
    "/invocations?qualifier=DEFAULT&accountId=123456789012"
)

Scope = dict[str, Any]


async def check(
    scope: Scope,
    body: bytes = BODY,
    *,
    rules: SignatureRules = RULES,
    keys: Keys | None = None,
    now: datetime | None = None,
) -> Caller:
    moment = now or datetime.now(UTC)
    verifier = Verifier(keys or Keys(KEY), rules, now=lambda: moment)
    signed = verifier.read(scope)
    return await verifier.verify(signed, sigv4.hashlib.sha256(body).hexdigest())


def presigned_scope(
    path: str = PATH, *, expires: int = 300, method: str = "GET", signer: Any = SigV4QueryAuth
) -> Scope:
    request = AWSRequest(method=method, url=f"http://edge.test{path}")
    service = "s3" if signer is S3SigV4QueryAuth else SERVICE
    signer(CREDENTIALS, service, REGION, expires=expires).add_auth(request)
    return wire_scope(request)
