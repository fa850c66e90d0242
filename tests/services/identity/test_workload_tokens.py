"""Workload access tokens: what they say, who believes them, and when they end."""

import base64
import hmac
import secrets
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from identity_ground import (
    ISSUER,
    SEALER,
    SECONDS,
    MakeDsn,
    Worker,
    claims_of,
    encoded,
    parts,
    soon,
)
from joserfc import jws, jwt
from joserfc.jwk import ECKey, KeySet

from freehold.adapters.secrets.envelope import EnvelopeSealer
from freehold.adapters.secrets.keyring import Keyring
from freehold.kernel.errors import AccessDenied, NotFound, Unavailable
from freehold.ports.tokens import TokenRefused
from freehold.ports.workloads import Workload
from freehold.services.identity import store
from freehold.services.identity.model import ACTORS_MAX
from freehold.services.identity.native import operations

LIFETIME = timedelta(seconds=SECONDS + 1)
USER_TOKEN = f"eyJhbGciOiJSUzI1NiJ9.{secrets.token_urlsafe(40)}.{secrets.token_urlsafe(40)}"


@pytest.fixture
async def agent(worker: Worker, tenant: str) -> Workload:
    return Workload(tenant=tenant, name=await worker.identity(tenant), user="ada", session="s-1")


async def refused(worker: Worker, token: str, tenant: str) -> str:
    with pytest.raises(TokenRefused) as raised:
        await worker.tokens.read(token, tenant=tenant)
    assert raised.value.status == 401
    return raised.value.message


# -- what a token says


async def test_a_token_says_who_the_agent_is_and_for_whom_it_acts(
    worker: Worker, agent: Workload
) -> None:
    token = await worker.tokens.issue(agent)
    header, claims = parts(token)
    assert header["alg"] == "ES256"
    assert header["typ"] == "workload-access-token+jwt"
    assert claims.pop("jti")
    assert claims.pop("born")
    assert claims.pop("exp") == claims.pop("iat") + SECONDS
    assert claims == {
        "iss": ISSUER,
        "sub": f"arn:aws:bedrock-agentcore:us-east-1:{agent.tenant}:"
        f"workload-identity-directory/default/workload-identity/{agent.name}",
        "aud": worker.tokens.audience,
        "tenant": agent.tenant,
        "user": "ada",
        "session": "s-1",
    }
    assert await worker.tokens.read(token, tenant=agent.tenant) == agent


async def test_an_agent_that_acts_for_itself_has_no_user(worker: Worker, tenant: str) -> None:
    alone = Workload(tenant=tenant, name=await worker.identity(tenant))
    token = await worker.tokens.issue(alone)
    assert "user" not in claims_of(token)
    assert await worker.tokens.read(token, tenant=tenant) == alone


async def test_the_chain_of_callers_stands_in_nested_act_claims(
    worker: Worker, agent: Workload
) -> None:
    agent = Workload(
        tenant=agent.tenant, name=agent.name, user="ada", actors=("planner-1", "front-door")
    )
    token = await worker.tokens.issue(agent)
    act = claims_of(token)["act"]
    assert act["sub"].endswith("workload-identity/planner-1")
    assert act["act"]["sub"].endswith("workload-identity/front-door")
    assert "act" not in act["act"]
    assert (await worker.tokens.read(token, tenant=agent.tenant)).actors == agent.actors


async def test_a_chain_of_agents_has_an_end(worker: Worker, agent: Workload) -> None:
    longest = tuple(f"agent-{number}" for number in range(ACTORS_MAX))
    chained = Workload(tenant=agent.tenant, name=agent.name, actors=longest)
    token = await worker.tokens.issue(chained)
    assert (await worker.tokens.read(token, tenant=agent.tenant)).actors == longest
    with pytest.raises(AccessDenied, match="more than 8 agents"):
        await worker.tokens.issue(
            Workload(tenant=agent.tenant, name=agent.name, actors=(*longest, "one-more"))
        )


async def test_there_is_no_token_for_an_identity_that_is_not_there(
    worker: Worker, tenant: str
) -> None:
    with pytest.raises(NotFound):
        await worker.tokens.issue(Workload(tenant=tenant, name="nobody"))


# -- the user's own token behind it


@pytest.fixture
def for_ada(agent: Workload, worker: Worker) -> Workload:
    return Workload(
        tenant=agent.tenant, name=agent.name, user="https://idp.example|ada",
        user_token=USER_TOKEN, user_until=float(int(worker.clock().timestamp()) + 3600),
    )  # fmt: skip


async def test_the_users_token_is_kept_for_the_platform_and_is_not_in_the_agents(
    worker: Worker, for_ada: Workload
) -> None:
    token = await worker.tokens.issue(for_ada)
    assert USER_TOKEN.split(".")[1] not in str(parts(token))
    assert claims_of(token)["user_token"] is True
    assert await worker.tokens.read(token, tenant=for_ada.tenant) == for_ada


async def test_a_dump_of_the_database_has_no_users_token_and_no_private_key(
    worker: Worker, for_ada: Workload
) -> None:
    """The bar: database dump."""
    await worker.tokens.issue(for_ada)
    async with worker.database.connection() as connection:
        rows = await connection.execute("SELECT sealed_token FROM workload_user_tokens")
        dumped = b"".join(bytes(row[0]) for row in await rows.fetchall())
        rows = await connection.execute("SELECT id, sealed_private FROM signing_keys")
        keys = await rows.fetchall()
    assert USER_TOKEN.encode() not in dumped
    for id, sealed in keys:
        private = worker.keys._opened[id].key.as_dict(private=True)["d"]
        raw = base64.urlsafe_b64decode(private + "=")
        assert private.encode() not in bytes(sealed)
        assert raw not in bytes(sealed)


async def test_a_users_token_put_behind_another_is_not_opened(
    worker: Worker, for_ada: Workload
) -> None:
    """The bar: swapped rows."""
    mine, yours = await worker.tokens.issue(for_ada), await worker.tokens.issue(for_ada)
    async with worker.database.connection() as connection:
        await connection.execute(
            "UPDATE workload_user_tokens SET sealed_token = (SELECT sealed_token"
            " FROM workload_user_tokens WHERE jti = %s) WHERE jti = %s",
            (claims_of(yours)["jti"], claims_of(mine)["jti"]),
        )
    assert (await worker.tokens.read(yours, tenant=for_ada.tenant)).user_token == USER_TOKEN
    with pytest.raises(Unavailable):
        await worker.tokens.read(mine, tenant=for_ada.tenant)


async def test_a_token_whose_users_token_is_gone_is_good_for_nothing(
    worker: Worker, for_ada: Workload
) -> None:
    token = await worker.tokens.issue(for_ada)
    async with worker.database.connection() as connection:
        await connection.execute(
            "DELETE FROM workload_user_tokens WHERE jti = %s", (claims_of(token)["jti"],)
        )
    await refused(worker, token, for_ada.tenant)


async def test_no_token_outlives_the_users_own(worker: Worker, for_ada: Workload) -> None:
    now = int(worker.clock().timestamp())
    short = Workload(
        tenant=for_ada.tenant, name=for_ada.name, user=for_ada.user, user_until=now + 60.9
    )
    token = await worker.tokens.issue(short)
    assert claims_of(token)["exp"] == now + 60
    with pytest.raises(TokenRefused, match="has expired"):
        await worker.tokens.issue(
            Workload(tenant=for_ada.tenant, name=for_ada.name, user=for_ada.user, user_until=now)
        )


async def test_users_tokens_do_not_pile_up(worker: Worker, for_ada: Workload) -> None:
    old = claims_of(await worker.tokens.issue(for_ada))["jti"]
    worker.clock.ahead += LIFETIME
    fresh = Workload(
        tenant=for_ada.tenant, name=for_ada.name, user=for_ada.user, user_token=USER_TOKEN
    )
    await worker.tokens.issue(fresh)
    async with worker.database.connection() as connection:
        rows = await connection.execute(
            "SELECT jti FROM workload_user_tokens WHERE jti = %s", (old,)
        )
        assert await rows.fetchall() == []


# -- who does not believe it


async def test_an_expired_token_is_refused(worker: Worker, agent: Workload) -> None:
    token = await worker.tokens.issue(agent)
    assert await worker.tokens.read(token, tenant=agent.tenant) == agent
    worker.clock.ahead += LIFETIME
    assert "get a new one" in await refused(worker, token, agent.tenant)


async def test_a_token_from_the_future_is_refused(worker: Worker, agent: Workload) -> None:
    worker.clock.ahead += LIFETIME
    token = await worker.tokens.issue(agent)
    worker.clock.ahead -= LIFETIME
    await refused(worker, token, agent.tenant)


async def test_another_tenant_has_no_use_for_it(worker: Worker, agent: Workload) -> None:
    token = await worker.tokens.issue(agent)
    other = "999999999999"
    await worker.identity(other, agent.name)
    assert "not for use here" in await refused(worker, token, other)


async def test_another_platform_refuses_it(
    worker: Worker, agent: Workload, new_worker: Any, fresh_dsn: MakeDsn
) -> None:
    elsewhere: Worker = await new_worker(await fresh_dsn())
    await elsewhere.identity(agent.tenant, agent.name)
    token = await worker.tokens.issue(agent)
    assert "did not sign" in await refused(elsewhere, token, agent.tenant)
    assert elsewhere.tokens.audience != worker.tokens.audience


async def test_a_token_for_another_audience_is_refused_though_the_key_is_right(
    worker: Worker, agent: Workload
) -> None:
    claims = claims_of(await worker.tokens.issue(agent))
    good = worker.tokens._jwts.sign(claims, "workload-access-token+jwt")
    assert await worker.tokens.read(good, tenant=agent.tenant) == agent
    for audience in ("https://elsewhere.example", worker.tokens.audience + "0", ""):
        claims["aud"] = audience
        forged = worker.tokens._jwts.sign(claims, "workload-access-token+jwt")
        await refused(worker, forged, agent.tenant)


async def test_a_deleted_identitys_tokens_die_with_it_on_every_worker(
    worker: Worker, agent: Workload, new_worker: Any
) -> None:
    other: Worker = await new_worker()
    token = await worker.tokens.issue(agent)
    assert await other.tokens.read(token, tenant=agent.tenant) == agent
    await worker.identities.delete(agent.tenant, agent.name)
    await refused(worker, token, agent.tenant)

    async def dead_there() -> bool:
        try:
            await other.tokens.read(token, tenant=agent.tenant)
        except TokenRefused:
            return True
        return False

    assert await soon(dead_there) < 1


async def test_an_identity_of_the_same_name_does_not_inherit_tokens(
    worker: Worker, agent: Workload
) -> None:
    token = await worker.tokens.issue(agent)
    await worker.identities.delete(agent.tenant, agent.name)
    await worker.identity(agent.tenant, agent.name)
    await refused(worker, token, agent.tenant)
    again = await worker.tokens.issue(agent)
    assert await worker.tokens.read(again, tenant=agent.tenant) == agent


@pytest.mark.parametrize("part", [0, 1, 2])
async def test_a_token_changed_anywhere_is_refused(
    worker: Worker, agent: Workload, part: int
) -> None:
    token = await worker.tokens.issue(agent)
    pieces = token.split(".")
    for at in range(0, len(pieces[part]) - 1, 7):
        changed = "A" if pieces[part][at] != "A" else "B"
        piece = pieces[part][:at] + changed + pieces[part][at + 1 :]
        await refused(worker, ".".join([*pieces[:part], piece, *pieces[part + 1 :]]), agent.tenant)


def forged_headers(good: dict[str, Any], own: ECKey) -> dict[str, dict[str, Any]]:
    return {
        "no algorithm": {**good, "alg": "none"},
        "another algorithm": {**good, "alg": "HS256"},
        "another type": {**good, "typ": "JWT"},
        "no type": {k: v for k, v in good.items() if k != "typ"},
        "no key id": {k: v for k, v in good.items() if k != "kid"},
        "an unknown key": {**good, "kid": "somebody-elses"},
        "a key id that is no text": {**good, "kid": 7},
        "a key of its own": {**good, "jwk": own.as_dict(private=False)},
        "keys elsewhere": {**good, "jku": "https://attacker.example/jwks.json"},
        "a certificate": {**good, "x5c": ["MIIB"]},
        "something critical": {**good, "crit": ["exp"]},
        "not compressed": {**good, "zip": "DEF"},
        "unencoded": {**good, "b64": False},
    }


async def test_forged_headers_are_refused_whoever_signed(worker: Worker, agent: Workload) -> None:
    """The bar: forged JWT: alg none, kid, jku, crit, wrong key type."""
    token = await worker.tokens.issue(agent)
    header, claims = parts(token)
    own = ECKey.generate_key("P-256")
    _, real = worker.keys.signing()
    for name, forged in forged_headers(header, own).items():
        signatures = [token.rpartition(".")[2], ""]
        for key in (own, real):
            text = jws.serialize_compact(
                {"alg": "ES256"}, f"{encoded(forged)}".encode(), key, algorithms=["ES256"]
            )
            signatures.append(text.rpartition(".")[2])
        for signature in signatures:
            message = await refused(
                worker, f"{encoded(forged)}.{encoded(claims)}.{signature}", agent.tenant
            )
            assert agent.name not in message, name


async def test_a_public_key_is_no_secret_to_sign_with(worker: Worker, agent: Workload) -> None:
    """The bar: wrong key type (HS256 with what everybody can read)."""
    header, claims = parts(await worker.tokens.issue(agent))
    [public, *_] = worker.keys.published()
    for secret in (public["x"].encode(), ECKey.import_key(public).as_pem(private=False)):
        text = f"{encoded({**header, 'alg': 'HS256'})}.{encoded(claims)}"
        digest = hmac.digest(secret, text.encode(), "sha256")
        forged = f"{text}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"
        await refused(worker, forged, agent.tenant)


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "a.b", "a.b.c.d", "\x00.\x00.\x00", "é.é.é", "e30.e30.", "x" * 20_000,
     "e30=.e30=.e30=", "WyJhIl0.e30.e30"],
)  # fmt: skip
async def test_what_is_no_token_is_refused(worker: Worker, tenant: str, text: str) -> None:
    await refused(worker, text, tenant)


async def test_a_key_that_somebody_wrote_into_the_database_signs_nothing(
    worker: Worker, agent: Workload, new_worker: Any, fresh_dsn: MakeDsn
) -> None:
    dsn = await fresh_dsn()
    victim: Worker = await new_worker(dsn)
    name = await victim.identity(agent.tenant)
    header, claims = parts(await victim.tokens.issue(Workload(tenant=agent.tenant, name=name)))
    own = ECKey.generate_key("P-256")
    private = str(own.as_dict(private=True)).encode()
    strange = EnvelopeSealer(Keyring({1: bytes([7]) * 32}))
    async with victim.database.connection() as connection:
        for id, sealed in (
            ("planted-plain", private),
            (
                "planted-sealed",
                strange.seal(private, context="platform|signing_key|planted-sealed"),
            ),
            ("planted-moved", SEALER.seal(private, context="platform|signing_key|other")),
        ):
            await connection.execute(
                "INSERT INTO signing_keys (id, sealed_private, signs_from) VALUES (%s, %s, now())",
                (id, sealed),
            )
    late: Worker = await new_worker(dsn)
    for id in ("planted-plain", "planted-sealed", "planted-moved"):
        forged = jwt.encode({**header, "kid": id}, claims, own, algorithms=["ES256"])
        await refused(late, forged, agent.tenant)
    good = await late.tokens.issue(Workload(tenant=agent.tenant, name=name))
    assert (await late.tokens.read(good, tenant=agent.tenant)).name == name


# -- what others see


async def test_anyone_can_check_an_assertion_with_the_published_keys(
    worker: Worker, agent: Workload
) -> None:
    token_endpoint = "https://idp.example/token"
    assertion = await worker.tokens.assertion(agent, audience=token_endpoint)
    documents = {
        o.name: await o.act(None, {}, None) for o in operations(worker.tokens, worker.keys)
    }
    discovery = msgspec.to_builtins(documents["GetOpenIdConfiguration"])
    assert discovery["issuer"] == ISSUER
    assert discovery["jwks_uri"] == f"{ISSUER}/jwks.json"
    published = msgspec.to_builtins(documents["GetSigningKeys"])
    assert not any("d" in key for key in published["keys"])
    found = jwt.decode(assertion, KeySet.import_key_set(published), algorithms=["ES256"])
    assert found.claims["aud"] == token_endpoint
    assert found.claims["iss"] == ISSUER
    assert found.claims["sub"].endswith(f"/workload-identity/{agent.name}")
    assert found.claims["exp"] - found.claims["iat"] == 300


async def test_an_assertion_is_no_access_token_and_is_never_for_the_platform_itself(
    worker: Worker, agent: Workload
) -> None:
    assertion = await worker.tokens.assertion(agent, audience="https://idp.example/token")
    assert "not a workload access token" in await refused(worker, assertion, agent.tenant)
    with pytest.raises(AccessDenied):
        await worker.tokens.assertion(agent, audience=worker.tokens.audience)


async def test_nothing_secret_stands_in_a_repr(worker: Worker, for_ada: Workload) -> None:
    """The bar: secrets in logs."""
    token = await worker.tokens.issue(for_ada)
    read = await worker.tokens.read(token, tenant=for_ada.tenant)
    assert read.user_token == USER_TOKEN
    async with worker.database.connection() as connection:
        stored = await store.keys(connection)
    shown = repr([read, for_ada, worker.tokens, worker.keys, stored])
    assert USER_TOKEN not in shown
    assert "sealed" not in shown
