"""What it costs inside the server to know who calls and whether they may, in CPU a request.

    .venv/bin/python benchmarks/auth.py [--times 500] [--rounds 5]

Each beside a bare limit in the same run: the cryptography that the algorithm demands, and nothing
else. The requests are those that boto3 sends; the tokens are an OpenID provider's. Medians.
"""

import argparse
import base64
import hashlib
import hmac
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA256
from database_under_test import cpu_us, database, loop_runner
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

from freehold.adapters.cedar.engine import CedarEngine
from freehold.adapters.oidc.verifier import OidcVerifier
from freehold.adapters.postgres.resources import PostgresResources
from freehold.edges.sigv4 import SignatureRules, Verifier
from freehold.kernel.caller import Caller, CallerKind
from freehold.ports.authorizer import AccessKey
from freehold.ports.tokens import TokenRules
from freehold.ports.web import WebAnswer
from freehold.services.access.authorizer import CedarAuthorizer
from freehold.services.access.policies import ResourcePolicyService
from freehold.services.runtime.model import RUNTIME

TENANT, REGION = "123456789012", "us-east-1"
INVOKE = "bedrock-agentcore:InvokeAgentRuntime"
BODY = json.dumps({"prompt": "x" * 900}).encode()
ISSUER = "https://issuer.example"
FRESH = 4000
"""New tokens of each kind."""

Act = Callable[[], Awaitable[Any]]


class Keys:
    def __init__(self, key: AccessKey) -> None:
        self._key = key

    async def active(self, access_key_id: str) -> AccessKey | None:
        return self._key if access_key_id == self._key.id else None


def signed_scope(key: AccessKey) -> dict[str, Any]:
    """As boto3 signs InvokeAgentRuntime and the server sees it."""
    arn = f"arn%3Aaws%3Abedrock-agentcore%3A{REGION}%3A{TENANT}%3Aruntime%2Fdemo-abcdefghij"
    url = f"http://localhost:8400/runtimes/{arn}/invocations?qualifier=DEFAULT"
    request = AWSRequest("POST", url, data=BODY, headers={
        "Content-Type": "application/json", "User-Agent": "Boto3/1.44", "amz-sdk-request": "1",
        "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id": "s" * 40,
    })  # fmt: skip
    SigV4Auth(Credentials(key.id, key.secret), "bedrock-agentcore", REGION).add_auth(request)
    parts = urlsplit(url)
    headers = [(b"host", parts.netloc.encode())]
    headers += [(n.lower().encode(), v.encode()) for n, v in request.headers.items()]
    return {
        "type": "http", "method": "POST", "path": parts.path, "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(), "headers": headers, "scheme": "http",
    }  # fmt: skip


def sigv4() -> dict[str, Act]:
    key = AccessKey(id="FHIABENCHMARKAAAAAAA", tenant=TENANT, secret="s" * 40)
    scope = signed_scope(key)
    verifier = Verifier(
        Keys(key), SignatureRules(region=REGION, services=frozenset({"bedrock-agentcore"}))
    )

    async def verify() -> None:
        signed = verifier.read(scope)
        await verifier.verify(signed, hashlib.sha256(BODY).hexdigest())

    async def bare() -> None:
        hashlib.sha256(BODY).hexdigest()
        secret = b"AWS4" + key.secret.encode()
        for part in (b"20261121", b"us-east-1", b"bedrock-agentcore", b"aws4_request"):
            secret = hmac.digest(secret, part, "sha256")
        hashlib.sha256(b"c" * 400).hexdigest()
        hmac.digest(secret, b"s" * 150, "sha256")

    return {"SigV4, body of 1 KB": verify, "- bare: its hashes": bare}


class ProviderInMemory:
    def __init__(self, keys: list[Any]) -> None:
        document = {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/jwks"}
        self._jwks = json.dumps(KeySet(keys).as_dict(private=False)).encode()
        self._document = json.dumps(document).encode()

    async def ask(self, method: str, url: str, **_: Any) -> WebAnswer:
        body = self._jwks if url.endswith("/jwks") else self._document
        return WebAnswer(status=200, headers={"content-type": "application/json"}, body=body)


def tokens() -> dict[str, Act]:
    rsa = RSAKey.generate_key(2048, {"kid": "rsa", "alg": "RS256", "use": "sig"})
    curve = ECKey.generate_key("P-256", {"kid": "ec", "alg": "ES256", "use": "sig"})
    verifier = OidcVerifier(ProviderInMemory([rsa, curve]))
    rules = TokenRules(
        discovery_url=f"{ISSUER}/.well-known/openid-configuration",
        audiences=frozenset({"api"}), clients=frozenset({"app"}), scopes=frozenset({"invoke"}),
    )  # fmt: skip
    issued = 0

    def token(key: Any) -> str:
        nonlocal issued
        issued += 1
        now = int(time.time())
        claims = {
            "iss": ISSUER, "sub": "ada", "aud": "api", "client_id": "app", "scope": "invoke x",
            "iat": now, "exp": now + 3600, "jti": str(issued), "email": "ada@example.com",
            "groups": ["a", "b", "c"],
        }  # fmt: skip
        header = {"alg": "RS256" if key is rsa else "ES256", "kid": key.kid}
        return jwt.encode(header, claims, key)

    one = token(rsa)
    fresh = {id(key): iter([token(key) for _ in range(FRESH)]) for key in (rsa, curve)}
    head, _, signature = one.rpartition(".")
    public, raw = rsa.public_key, base64.urlsafe_b64decode(signature + "==")
    content = base64.urlsafe_b64decode(head.partition(".")[2] + "==")

    async def cached() -> None:
        await verifier.verify(one, rules)

    def new(key: Any) -> Act:
        async def verify() -> None:
            await verifier.verify(next(fresh[id(key)]), rules)

        return verify

    async def bare_cached() -> None:
        hashlib.sha256(one.encode()).digest()
        msgspec.json.decode(content)

    async def bare() -> None:
        public.verify(raw, head.encode(), padding.PKCS1v15(), SHA256())

    return {
        "JWT, seen before": cached,
        "- bare: its hash, its claims decoded": bare_cached,
        "JWT, new, RS256": new(rsa),
        "- bare: RSA-2048 verified": bare,
        "JWT, new, ES256": new(curve),
    }


async def decisions(pool: Any) -> dict[str, Act]:
    engine = CedarEngine()
    policies = ResourcePolicyService(pool, engine)
    authorizer = CedarAuthorizer(engine, policies)
    resources = PostgresResources(pool, region=REGION)
    plain, shared = [
        (
            await resources.create(
                TENANT, RUNTIME, id=f"{name}-abcdefghij", name=name, status="READY", document={}
            )
        )[0].arn
        for name in ("plain", "shared")
    ]
    statement = {
        "Effect": "Allow", "Principal": "*", "Action": INVOKE, "Resource": shared,
    }  # fmt: skip
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    await policies.put(TENANT, shared, json.dumps(policy))
    caller = Caller(
        tenant=TENANT, principal=f"arn:aws:iam::{TENANT}:access-key/X",
        kind=CallerKind.ACCESS_KEY, roles=frozenset({"developer"}),
    )  # fmt: skip
    known = {(caller.kind, caller.roles, INVOKE): True}

    async def own() -> None:
        assert await authorizer.authorize(caller, INVOKE, plain) == TENANT

    async def with_policy() -> None:
        assert await authorizer.authorize(caller, INVOKE, shared) == TENANT

    async def bare() -> None:
        assert known[caller.kind, caller.roles, INVOKE]

    return {
        "authorization, no policy on the resource": own,
        "authorization, the resource has a policy": with_policy,
        "- bare: a look into a dict": bare,
    }


async def measure(times: int, rounds: int) -> None:
    async with database() as (_, pool):
        acts = {**sigv4(), **tokens(), **await decisions(pool)}
        found: dict[str, list[float]] = {name: [] for name in acts}
        for act in acts.values():
            await act()
        for _ in range(rounds):
            for name, act in acts.items():
                found[name].append(await cpu_us(act, times))
    print(f"medians of {rounds} interleaved rounds of {times}\n\n| step | CPU us |\n|---|---|")
    for name, figures in found.items():
        print(f"| {name} | {statistics.median(figures):.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    assert options.times * options.rounds < FRESH, "there are not that many new tokens"
    loop_runner()(measure(options.times, options.rounds))


if __name__ == "__main__":
    main()
