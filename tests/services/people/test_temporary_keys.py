"""What botocore signs with a person's temporary credentials, as the edges' verifier judges it."""

import hashlib
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as Signing
from people_ground import Ground

from freehold.edges.sigv4 import (
    KeyExpired,
    SignatureIncomplete,
    SignatureMismatch,
    SignatureRules,
    TokenOfKeyRefused,
    Verifier,
)
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import Unavailable
from freehold.services.people.model import Credentials

RULES = SignatureRules(region="us-east-1", services=frozenset({"freehold"}))


async def made(ground: Ground, *roles: str) -> Credentials:
    member, _ = await ground.person(*roles)
    return await ground.keys.create(ground.first, member.person.id, member.person.name)


def signed(
    given: Credentials, *, token: str | None = None, secret: str | None = None, query: bool = False
) -> dict[str, Any]:
    """An ASGI scope; a token of "" is left out."""
    sent = given.session_token if token is None else token
    signing = Signing(given.access_key_id, secret or given.secret_access_key, sent or None)
    request = AWSRequest(method="GET", url="http://edge.test/x")
    signer = SigV4QueryAuth if query else SigV4Auth
    signer(signing, "freehold", "us-east-1").add_auth(request)
    parts = urlsplit(request.url)
    headers = [(b"host", b"edge.test")] + [
        (k.lower().encode(), v.encode()) for k, v in request.headers.items()
    ]
    return {
        "type": "http", "method": "GET", "raw_path": parts.path.encode(), "path": parts.path,
        "query_string": parts.query.encode(), "headers": headers, "scheme": "http",
    }  # fmt: skip


async def judged(ground: Ground, scope: dict[str, Any]) -> Caller:
    verifier = Verifier(ground.keys, RULES)
    return await verifier.verify(verifier.read(scope), hashlib.sha256(b"").hexdigest())


@pytest.mark.parametrize("query", [False, True], ids=["header", "presigned"])
async def test_the_caller_is_the_person(ground: Ground, query: bool) -> None:
    given = await made(ground, "operator")
    caller = await judged(ground, signed(given, query=query))
    assert caller == Caller(
        tenant=ground.first,
        principal=f"arn:aws:iam::{ground.first}:user/{given.user}",
        kind=CallerKind.PERSON,
        access_key_id=given.access_key_id,
        user=given.user,
        roles=frozenset({"operator"}),
    )


@pytest.mark.parametrize("query", [False, True], ids=["header", "presigned"])
@pytest.mark.parametrize("token", ["", "x", "x" * 43])
async def test_without_its_own_token_it_is_refused(ground: Ground, token: str, query: bool) -> None:
    given = await made(ground)
    with pytest.raises(TokenOfKeyRefused):
        await judged(ground, signed(given, token=token, query=query))


async def test_the_token_alone_is_worth_nothing(ground: Ground) -> None:
    given = await made(ground)
    with pytest.raises(SignatureMismatch):
        await judged(ground, signed(given, secret="guessed"))


async def test_a_token_that_is_not_signed_is_refused(ground: Ground) -> None:
    given = await made(ground)
    plain = signed(given, token="")
    plain["headers"].append((b"x-amz-security-token", given.session_token.encode()))
    with pytest.raises(SignatureIncomplete):
        await judged(ground, plain)


async def test_a_token_of_another_key_is_refused(ground: Ground) -> None:
    first, second = await made(ground), await made(ground)
    with pytest.raises(TokenOfKeyRefused):
        await judged(ground, signed(first, token=second.session_token))


async def test_its_end_is_told_to_who_holds_it_and_to_nobody_else(ground: Ground) -> None:
    ground.clock.later(hours=-12, seconds=-1)
    given = await made(ground)
    with pytest.raises(KeyExpired):
        await judged(ground, signed(given))
    with pytest.raises(SignatureMismatch):
        await judged(ground, signed(given, secret="guessed"))
    with pytest.raises(TokenOfKeyRefused):
        await judged(ground, signed(given, token="guessed"))


async def test_the_secret_is_sealed_for_its_own_row(ground: Ground) -> None:
    """Swapped rows do not open: the tenant and the id are authenticated with the secret."""
    first, second = await made(ground), await made(ground)
    async with ground.database.connection() as connection:
        await connection.execute(
            "UPDATE people_credentials SET sealed_secret = (SELECT sealed_secret"
            " FROM people_credentials WHERE id = %s) WHERE id = %s",
            (first.access_key_id, second.access_key_id),
        )
    with pytest.raises(Unavailable):
        await judged(ground, signed(second))
