"""A provider's keys: fetched seldom, once for all who wait, and kept no longer than they may be."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from freehold.adapters.oidc.provider import Times
from freehold.adapters.oidc.verifier import OidcVerifier
from freehold.adapters.web.client import CheckedWeb
from freehold.kernel.errors import Unavailable
from freehold.ports.tokens import TokenRefused, TokenRules
from token_issuer import TokenIssuer

TIMES = Times()


class Clock:
    """Of a verifier: stands still until it is turned."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def verifier(loopback: CheckedWeb, clock: Clock) -> AsyncIterator[OidcVerifier]:
    verifier = OidcVerifier(loopback, clock=clock)
    yield verifier
    await verifier.close()


def rules(issuer: TokenIssuer, **more: Any) -> TokenRules:
    return TokenRules(discovery_url=issuer.discovery_url, **more)


async def refused(verifier: OidcVerifier, issuer: TokenIssuer, token: str) -> str:
    with pytest.raises(TokenRefused) as raised:
        await verifier.verify(token, rules(issuer))
    return raised.value.message


async def settled(verifier: OidcVerifier, issuer: TokenIssuer) -> None:
    """What it fetches behind its callers is there."""
    provider = verifier._providers[issuer.discovery_url]
    while provider.busy:
        await asyncio.sleep(0.001)


async def test_keys_are_fetched_once_for_many_tokens(
    issuer: TokenIssuer, verifier: OidcVerifier
) -> None:
    for number in range(20):
        token = issuer.token(sub=f"user-{number}")
        assert (await verifier.verify(token, rules(issuer))).subject == f"user-{number}"
    assert issuer.asked == ["/.well-known/openid-configuration", "/jwks"]


async def test_many_at_once_wait_for_one_fetch(issuer: TokenIssuer, verifier: OidcVerifier) -> None:
    issuer.gate.clear()
    waiting = [
        asyncio.create_task(verifier.verify(issuer.token(sub=str(n)), rules(issuer)))
        for n in range(50)
    ]
    await asyncio.sleep(0)
    waiting[0].cancel()  # whoever began it and leaves does not end it for the others
    issuer.gate.set()
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError)
    assert [each.subject for each in done[1:]] == [str(n) for n in range(1, 50)]  # type: ignore[union-attr]
    assert issuer.count() == 1


async def test_a_new_key_is_known_at_once_when_nothing_was_fetched_lately(
    issuer: TokenIssuer, verifier: OidcVerifier, clock: Clock
) -> None:
    await verifier.verify(issuer.token(), rules(issuer))
    clock.seconds += TIMES.cooldown
    issuer.rotate("RS256", "new")
    assert (await verifier.verify(issuer.token(), rules(issuer))).subject == "ada"
    assert issuer.count() == 2


async def test_a_new_key_is_known_within_30_seconds(
    issuer: TokenIssuer, verifier: OidcVerifier, clock: Clock
) -> None:
    """The bar: key rotated."""
    await verifier.verify(issuer.token(), rules(issuer))
    issuer.rotate("RS256", "new")
    token = issuer.token()
    clock.seconds += 1
    await refused(verifier, issuer, token)
    clock.seconds += 29
    assert (await verifier.verify(token, rules(issuer))).subject == "ada"


async def test_a_flood_of_unknown_keys_is_one_fetch_a_cooldown(
    issuer: TokenIssuer, verifier: OidcVerifier, clock: Clock
) -> None:
    """The bar: unknown-kid flood."""
    await verifier.verify(issuer.token(), rules(issuer))
    for flood in range(3):
        clock.seconds += TIMES.cooldown
        forged = [issuer.token(header={"kid": f"made-up-{flood}-{n}"}) for n in range(300)]
        async with asyncio.TaskGroup() as group:
            for token in forged:
                group.create_task(refused(verifier, issuer, token))
    assert issuer.count() == 1 + 3
    assert (await verifier.verify(issuer.token(), rules(issuer))).subject == "ada"


async def test_a_flood_finds_a_provider_that_is_down_and_asks_it_no_oftener(
    issuer: TokenIssuer, verifier: OidcVerifier, clock: Clock
) -> None:
    await verifier.verify(issuer.token(), rules(issuer))
    clock.seconds += TIMES.cooldown
    issuer.status = 503
    for n in range(50):
        await refused(verifier, issuer, issuer.token(header={"kid": f"made-up-{n}"}))
    assert issuer.count() == 2
    assert (await verifier.verify(issuer.token(), rules(issuer))).subject == "ada"


async def test_forged_signatures_under_a_known_key_ask_nobody(
    issuer: TokenIssuer, verifier: OidcVerifier, clock: Clock
) -> None:
    await verifier.verify(issuer.token(), rules(issuer))
    clock.seconds += TIMES.cooldown
    another = issuer.token(sub="bob").rpartition(".")[2]
    await refused(verifier, issuer, f"{issuer.token().rpartition('.')[0]}.{another}")
    assert issuer.count() == 1


async def test_what_is_no_token_asks_nobody(issuer: TokenIssuer, verifier: OidcVerifier) -> None:
    for token in ("", "secret", "a.b.c", issuer.token(header={"alg": "HS256"})):
        await refused(verifier, issuer, token)
    assert issuer.asked == []


async def test_old_keys_serve_while_new_ones_are_fetched(
    issuer: TokenIssuer, verifier: OidcVerifier, clock: Clock
) -> None:
    token = issuer.token()
    await verifier.verify(token, rules(issuer))
    clock.seconds += TIMES.fresh
    issuer.gate.clear()
    assert (await verifier.verify(token, rules(issuer))).subject == "ada"  # waits for nobody
    issuer.gate.set()
    await settled(verifier, issuer)
    assert issuer.count() == 2


async def test_after_a_long_silence_keys_are_fetched_first(
    issuer: TokenIssuer, verifier: OidcVerifier, clock: Clock
) -> None:
    """Else one token of a key that was removed long ago would pass."""
    token = issuer.token()
    await verifier.verify(token, rules(issuer))
    issuer.rotate("RS256", "new")
    clock.seconds += TIMES.stale
    await refused(verifier, issuer, token)


async def test_a_provider_that_hangs_holds_up_nobody_twice(
    issuer: TokenIssuer, verifier: OidcVerifier, clock: Clock
) -> None:
    token = issuer.token()
    await verifier.verify(token, rules(issuer))
    issuer.status = 503
    clock.seconds += TIMES.stale
    assert (await verifier.verify(token, rules(issuer))).subject == "ada"
    issuer.gate.clear()
    clock.seconds += TIMES.retry
    async with asyncio.timeout(1):
        assert (await verifier.verify(token, rules(issuer))).subject == "ada"
    issuer.gate.set()
    await settled(verifier, issuer)


async def test_a_provider_that_is_down_is_bridged_to_the_hard_limit_and_then_it_is_401(
    issuer: TokenIssuer, verifier: OidcVerifier, clock: Clock
) -> None:
    """The bar: provider down."""
    token = issuer.token()
    await verifier.verify(token, rules(issuer))
    issuer.status = 503
    clock.seconds += TIMES.limit - 1
    assert (await verifier.verify(token, rules(issuer))).subject == "ada"
    await settled(verifier, issuer)
    clock.seconds += TIMES.retry
    assert "gives no keys" in await refused(verifier, issuer, token)
    assert "gives no keys" in await refused(verifier, issuer, issuer.token(sub="bob"))
    asked = len(issuer.asked)
    for _ in range(20):
        await refused(verifier, issuer, token)
    assert len(issuer.asked) == asked  # nor is it asked for each
    issuer.status = 200
    clock.seconds += TIMES.retry
    assert (await verifier.verify(token, rules(issuer))).subject == "ada"


async def test_a_provider_that_was_never_there_is_unavailable(
    issuer: TokenIssuer, verifier: OidcVerifier, clock: Clock
) -> None:
    issuer.status = 500
    for _ in range(10):
        with pytest.raises(Unavailable):
            await verifier.verify(issuer.token(), rules(issuer))
    assert len(issuer.asked) == 1
    issuer.status = 200
    clock.seconds += TIMES.retry
    assert (await verifier.verify(issuer.token(), rules(issuer))).subject == "ada"


async def test_a_key_that_is_gone_opens_nothing_not_even_for_a_token_seen_before(
    issuer: TokenIssuer, verifier: OidcVerifier, clock: Clock
) -> None:
    old = issuer.token()
    await verifier.verify(old, rules(issuer))
    issuer.rotate("RS256", "new")
    clock.seconds += TIMES.cooldown
    await verifier.verify(issuer.token(), rules(issuer))
    await refused(verifier, issuer, old)


async def test_all_keys_gone_is_an_answer_too(
    issuer: TokenIssuer, verifier: OidcVerifier, clock: Clock
) -> None:
    token = issuer.token()
    await verifier.verify(token, rules(issuer))
    issuer.jwks["keys"] = []
    clock.seconds += TIMES.fresh
    await verifier.verify(token, rules(issuer))
    await settled(verifier, issuer)
    await refused(verifier, issuer, token)


@pytest.mark.parametrize(
    "answer",
    [b"", b"<html>", b"[]", b'{"keys":{}}', b"[" * 5000, {"keys": [{"kid": "x"}] * 101},
     b" " * (300 << 10)],
)  # fmt: skip
async def test_what_is_no_set_of_keys_takes_no_key_away(
    issuer: TokenIssuer, verifier: OidcVerifier, clock: Clock, answer: Any
) -> None:
    await verifier.verify(issuer.token(), rules(issuer))
    issuer.documents["/jwks"] = answer
    clock.seconds += TIMES.fresh
    await verifier.verify(issuer.token(sub="bob"), rules(issuer))
    await settled(verifier, issuer)
    await verifier.verify(issuer.token(sub="eve"), rules(issuer))
    assert issuer.count() == 2


async def test_keys_that_cannot_be_used_do_not_harm_the_others(
    issuer: TokenIssuer, verifier: OidcVerifier
) -> None:
    rsa = next(jwk for jwk in issuer.jwks["keys"] if jwk["kid"] == "RS256")
    elliptic = next(jwk for jwk in issuer.jwks["keys"] if jwk["kid"] == "ES256")
    issuer.jwks["keys"][:0] = [
        None, 1, "key", [], {}, {"kty": "RSA"}, {"kty": ["RSA"]}, {"kty": "EC", "crv": "P-256"},
        {**rsa, "kid": 1}, {**rsa, "kid": "a", "alg": ["RS256"]}, {**rsa, "kid": "b", "key_ops": 1},
        {**rsa, "kid": "c", "e": "AA"}, {**rsa, "kid": "d", "n": "AQAB"}, {**rsa, "n": "!"},
        {**elliptic, "kid": "e", "y": elliptic["x"]}, {**elliptic, "kid": "f", "crv": "P-999"},
        {"kty": "OKP", "crv": "Ed25519", "x": "AA", "kid": "g"}, {"kty": "OKP", "crv": 1, "x": "A"},
    ]  # fmt: skip
    for alg in ("RS256", "ES256", "EdDSA"):
        assert (await verifier.verify(issuer.token(alg), rules(issuer))).subject == "ada"


async def test_a_token_that_names_no_key_is_taken_where_there_is_only_one(
    issuer: TokenIssuer, verifier: OidcVerifier, clock: Clock
) -> None:
    issuer.jwks["keys"] = []
    issuer.add_key("RS256", "only", kid=None)
    token = issuer.token(header={"kid": "-"})
    await refused(verifier, issuer, token)
    nameless = _without_kid(issuer)
    assert (await verifier.verify(nameless, rules(issuer))).subject == "ada"
    clock.seconds += TIMES.cooldown
    issuer.jwks["keys"] = []
    issuer.add_key("RS256", "the-next", kid=None)
    assert (await verifier.verify(_without_kid(issuer), rules(issuer))).subject == "ada"
    clock.seconds += TIMES.cooldown
    issuer.add_key("RS256", "a-second", kid=None)
    await refused(verifier, issuer, _without_kid(issuer))
    await refused(verifier, issuer, _without_kid(issuer))


def _without_kid(issuer: TokenIssuer) -> str:
    return issuer.bare_token({"typ": "JWT"}, issuer.claims())
