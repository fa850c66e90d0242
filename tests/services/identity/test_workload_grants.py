"""Who gets a workload access token, for which user, and what a call of an agent brings to it."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from identity_ground import SECONDS, Worker, claims_of, encoded, key_of, runtime_arn, session_of

from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import (
    AccessDenied,
    Conflict,
    NotFound,
    Unauthorized,
    Unavailable,
    ValidationFailed,
)
from freehold.ports.tokens import TokenRefused, TokenRules, VerifiedToken
from freehold.ports.workloads import Workload
from freehold.processes.identity import trusted_everywhere
from freehold.services.identity.grants import TokenGrants
from freehold.services.identity.issuers import TrustedIssuers
from freehold.services.identity.sessions import FOR_USER, SessionIdentities
from freehold.services.runtime.model import RUNTIME
from freehold.settings import SettingsError

WAT = "X-Amz-Bedrock-AgentCore-Identity-WAT"


class Verifier:
    """Takes the tokens that it was told of, each by one provider's rules."""

    def __init__(self) -> None:
        self.good: dict[tuple[str, str], VerifiedToken] = {}
        self.away: set[str] = set()
        self.asked: list[str] = []

    def knows(self, rules: TokenRules, token: str, issuer: str, subject: str, until: float) -> None:
        self.good[rules.discovery_url, token] = VerifiedToken(
            issuer=issuer, subject=subject, expires_at=until, claims={}
        )

    async def verify(self, token: str, rules: TokenRules) -> VerifiedToken:
        self.asked.append(rules.discovery_url)
        if rules.discovery_url in self.away:
            raise Unavailable("the provider is away")
        found = self.good.get((rules.discovery_url, token))
        if found is None:
            raise TokenRefused("its signature is wrong")
        return found


class Authorizers:
    """The runtimes' own, by id."""

    def __init__(self) -> None:
        self.rules: dict[str, TokenRules] = {}

    async def token_rules(self, tenant: str, runtime_id: str, endpoint: str) -> TokenRules | None:
        if runtime_id.startswith("broken"):
            raise Conflict("it is not ready")
        return self.rules.get(runtime_id)


class Authorizer:
    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str | None]] = []
        self.allows = True

    async def authorize(self, caller: Caller, operation: str, resource_arn: str | None) -> str:
        self.asked.append((caller.principal, operation, resource_arn))
        if not self.allows:
            raise AccessDenied("no")
        return caller.tenant


def rules_of(host: str, *audiences: str) -> TokenRules:
    return TokenRules(
        discovery_url=f"https://{host}/.well-known/openid-configuration",
        audiences=frozenset(audiences),
    )


def jwt_of(host: str, subject: str) -> str:
    return f"{encoded({'alg': 'RS256'})}.{encoded({'iss': f'https://{host}', 'sub': subject})}.AA"


class Ground(msgspec.Struct):
    worker: Worker
    verifier: Verifier
    authorizers: Authorizers
    authorizer: Authorizer
    issuers: TrustedIssuers
    grants: TokenGrants
    sessions: SessionIdentities

    async def read(self, token: str, tenant: str) -> Workload:
        return await self.worker.tokens.read(token, tenant=tenant)

    async def act_for(
        self, caller: Caller, runtime_id: str, session: str = "session-1", **more: Any
    ) -> tuple[str | None, str]:
        """(user, token)"""
        user, headers = await self.sessions.act_for(
            caller, tenant=more.pop("tenant", caller.tenant), session_id=session,
            runtime_arn=runtime_arn(more.pop("of", caller.tenant), runtime_id),
            named=more.pop("named", None), handed=more.pop("handed", None),
        )  # fmt: skip
        assert headers[WAT] == headers["WorkloadAccessToken"]
        return user, headers[WAT]


def ground_of(worker: Worker, everywhere: Sequence[TokenRules] = ()) -> Ground:
    verifier, authorizers, authorizer = Verifier(), Authorizers(), Authorizer()
    issuers = TrustedIssuers(
        worker.resources, runtime_kind=RUNTIME, authorizers=authorizers, everywhere=everywhere
    )
    return Ground(
        worker=worker, verifier=verifier, authorizers=authorizers, authorizer=authorizer,
        issuers=issuers,
        grants=TokenGrants(worker.tokens, worker.identities, issuers=issuers, verifier=verifier),
        sessions=SessionIdentities(
            worker.tokens, worker.identities, authorizer=authorizer, now=worker.clock
        ),
    )  # fmt: skip


@pytest.fixture
def ground(worker: Worker) -> Ground:
    return ground_of(worker)


@pytest.fixture
async def agent(worker: Worker, tenant: str) -> str:
    return await worker.identity(tenant)


@pytest.fixture
async def runtime(ground: Ground, worker: Worker, tenant: str) -> str:
    id = await worker.runtime(tenant)
    await ground.sessions.ensure(tenant, id)
    return id


def bearer_of(tenant: str, subject: str, until: float, token: str = "") -> Caller:
    user = f"https://idp.example|{subject}"
    return Caller(
        tenant=tenant, principal=user, kind=CallerKind.OAUTH_USER, user=user,
        claims={"iss": "https://idp.example", "sub": subject, "exp": until},
        token=token or jwt_of("idp.example", subject),
    )  # fmt: skip


# -- the three operations, by an access key


async def test_a_key_gets_tokens_of_any_identity_of_its_tenant(
    ground: Ground, agent: str, runtime: str, tenant: str
) -> None:
    for name in (agent, runtime):
        token = await ground.grants.for_itself(key_of(tenant), tenant, name)
        assert await ground.read(token, tenant) == Workload(tenant=tenant, name=name)
        token = await ground.grants.for_user_id(key_of(tenant), tenant, name, "auth0|ada")
        assert (await ground.read(token, tenant)).user == "auth0|ada"


async def test_another_tenants_identity_is_not_there(ground: Ground, agent: str) -> None:
    """The bar: another tenant's id."""
    stranger = key_of("999999999999")
    with pytest.raises(NotFound):
        await ground.grants.for_itself(stranger, stranger.tenant, agent)


async def test_a_caller_whom_another_tenants_policy_let_in_gets_no_tokens_there(
    ground: Ground, agent: str, tenant: str
) -> None:
    with pytest.raises(AccessDenied):
        await ground.grants.for_itself(key_of("999999999999"), tenant, agent)


async def test_a_token_that_opened_a_runtime_opens_no_identity(
    ground: Ground, agent: str, tenant: str, worker: Worker
) -> None:
    with pytest.raises(AccessDenied):
        await ground.grants.for_itself(
            bearer_of(tenant, "ada", worker.clock().timestamp() + 60), tenant, agent
        )


@pytest.mark.parametrize(
    "user",
    ["https://idp.example|ada", "accounts.google.com|7", "urn:idp|ada", "", "a\nb", "x" * 129],
)
async def test_no_word_of_a_caller_stands_for_a_verified_token(
    ground: Ground, agent: str, tenant: str, user: str
) -> None:
    with pytest.raises(ValidationFailed):
        await ground.grants.for_user_id(key_of(tenant), tenant, agent, user)


# -- by a session


async def test_a_session_gets_tokens_of_its_own_agent(
    ground: Ground, runtime: str, tenant: str
) -> None:
    inside = session_of(tenant, runtime, "my/session")
    token = await ground.grants.for_itself(inside, tenant, runtime)
    assert await ground.read(token, tenant) == Workload(
        tenant=tenant, name=runtime, session="my/session"
    )


async def test_a_session_gets_no_tokens_of_another_agent_or_of_none(
    ground: Ground, runtime: str, agent: str, tenant: str, worker: Worker
) -> None:
    neighbour = await worker.runtime(tenant)
    await ground.sessions.ensure(tenant, neighbour)
    for name in (agent, neighbour, "nobody"):
        with pytest.raises(AccessDenied, match="its own agent's identity"):
            await ground.grants.for_itself(session_of(tenant, runtime), tenant, name)
        with pytest.raises(AccessDenied):
            await ground.grants.for_jwt(session_of(tenant, runtime), tenant, name, "a.b.c")


async def test_a_session_names_no_user_but_the_one_it_was_begun_for(
    ground: Ground, runtime: str, tenant: str
) -> None:
    inside = session_of(tenant, runtime, user="ada")
    token = await ground.grants.for_user_id(inside, tenant, runtime, "ada")
    assert (await ground.read(token, tenant)).user == "ada"
    for caller in (inside, session_of(tenant, runtime)):
        with pytest.raises(AccessDenied, match="names no other user"):
            await ground.grants.for_user_id(caller, tenant, runtime, "grace")


# -- for a user's token


async def test_without_a_trusted_issuer_no_token_says_who_a_user_is(
    ground: Ground, agent: str, tenant: str
) -> None:
    with pytest.raises(TokenRefused, match="no issuer of users' tokens is trusted"):
        await ground.grants.for_jwt(key_of(tenant), tenant, agent, jwt_of("idp.example", "ada"))


async def test_the_authorizer_of_any_runtime_of_the_tenant_is_trusted(
    ground: Ground, agent: str, tenant: str, worker: Worker
) -> None:
    rules, token = rules_of("idp.example", "app"), jwt_of("idp.example", "ada")
    until = float(int(worker.clock().timestamp()) + 400)
    ground.verifier.knows(rules, token, "https://idp.example", "ada", until)
    id = await worker.runtime(tenant, authorizerConfiguration={"customJWTAuthorizer": {}})
    ground.authorizers.rules[id] = rules
    wat = await ground.grants.for_jwt(key_of(tenant), tenant, agent, token)
    assert claims_of(wat)["exp"] == until
    assert await ground.read(wat, tenant) == Workload(
        tenant=tenant, name=agent, user="https://idp.example|ada", user_token=token,
        user_until=until,
    )  # fmt: skip


async def test_another_tenants_authorizer_is_not_trusted(
    ground: Ground, agent: str, tenant: str, worker: Worker
) -> None:
    rules, token = rules_of("idp.example", "app"), jwt_of("idp.example", "ada")
    ground.verifier.knows(rules, token, "https://idp.example", "ada", 9e9)
    id = await worker.runtime("999999999999", authorizerConfiguration={"customJWTAuthorizer": {}})
    ground.authorizers.rules[id] = rules
    with pytest.raises(TokenRefused):
        await ground.grants.for_jwt(key_of(tenant), tenant, agent, token)
    assert ground.verifier.asked == []


async def test_a_runtimes_own_authorizer_is_the_only_one_for_its_identity(
    ground: Ground, runtime: str, tenant: str, worker: Worker
) -> None:
    own, other = rules_of("own.example", "app"), rules_of("other.example", "app")
    mine, theirs = jwt_of("own.example", "ada"), jwt_of("other.example", "ada")
    ground.verifier.knows(own, mine, "https://own.example", "ada", 9e9)
    ground.verifier.knows(other, theirs, "https://other.example", "ada", 9e9)
    ground.authorizers.rules[runtime] = own
    neighbour = await worker.runtime(tenant, authorizerConfiguration={"customJWTAuthorizer": {}})
    ground.authorizers.rules[neighbour] = other
    for caller in (key_of(tenant), session_of(tenant, runtime)):
        wat = await ground.grants.for_jwt(caller, tenant, runtime, mine)
        assert (await ground.read(wat, tenant)).user == "https://own.example|ada"
        with pytest.raises(TokenRefused):
            await ground.grants.for_jwt(caller, tenant, runtime, theirs)


async def test_the_operators_issuers_are_trusted_in_every_tenant(
    worker: Worker, agent: str, tenant: str
) -> None:
    [rules] = trusted_everywhere(" https://idp.example/.well-known/openid-configuration app api ,")
    assert rules == rules_of("idp.example", "app", "api")
    ground = ground_of(worker, [rules])
    token = jwt_of("idp.example", "ada")
    ground.verifier.knows(rules, token, "https://idp.example", "ada", 9e9)
    wat = await ground.grants.for_jwt(key_of(tenant), tenant, agent, token)
    assert (await ground.read(wat, tenant)).user_token == token


@pytest.mark.parametrize("text", ["https://idp.example/.well-known/openid-configuration", "x y"])
def test_an_issuer_without_an_audience_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(SettingsError, match="an audience"):
        trusted_everywhere(text)


async def test_who_is_trusted_follows_the_runtimes(
    ground: Ground, agent: str, tenant: str, worker: Worker
) -> None:
    token = jwt_of("idp.example", "ada")
    with pytest.raises(TokenRefused):
        await ground.grants.for_jwt(key_of(tenant), tenant, agent, token)
    rules = rules_of("idp.example", "app")
    ground.verifier.knows(rules, token, "https://idp.example", "ada", 9e9)
    id = await worker.runtime(tenant, authorizerConfiguration={"customJWTAuthorizer": {}})
    ground.authorizers.rules[id] = rules
    ground.issuers.heard_change(f"{tenant}/{RUNTIME.name}/{id}")
    await ground.grants.for_jwt(key_of(tenant), tenant, agent, token)
    await worker.resources.delete(tenant, RUNTIME, id)
    ground.issuers.heard_change(f"{tenant}/{RUNTIME.name}/{id}")
    with pytest.raises(TokenRefused):
        await ground.grants.for_jwt(key_of(tenant), tenant, agent, token)


async def test_a_provider_that_is_away_is_no_yes(worker: Worker, agent: str, tenant: str) -> None:
    """The bar: an error inside authentication. The likeliest provider is asked first."""
    rules = [rules_of("other.example", "app"), rules_of("idp.example", "app")]
    ground = ground_of(worker, rules)
    ground.verifier.away.add(rules[1].discovery_url)
    with pytest.raises(Unavailable):
        await ground.grants.for_jwt(key_of(tenant), tenant, agent, jwt_of("idp.example", "ada"))
    assert ground.verifier.asked[0] == rules[1].discovery_url


@pytest.mark.parametrize(
    ("issuer", "subject"),
    [
        ("", "ada"),
        ("https://idp.example", ""),
        ("localissuer", "ada"),
        ("https://idp.example", "a\r\nb"),
        ("auth0|x", "https://a"),
    ],
)
async def test_a_user_whose_name_could_be_a_callers_word_is_refused(
    worker: Worker, agent: str, tenant: str, issuer: str, subject: str
) -> None:
    rules = rules_of("idp.example", "app")
    ground = ground_of(worker, [rules])
    ground.verifier.knows(rules, "a.b.c", issuer, subject, 9e9)
    with pytest.raises(TokenRefused):
        await ground.grants.for_jwt(key_of(tenant), tenant, agent, "a.b.c")


# -- what a call brings to an agent


async def test_a_call_without_a_user_brings_a_token_of_the_agent_alone(
    ground: Ground, runtime: str, tenant: str
) -> None:
    user, token = await ground.act_for(key_of(tenant), runtime)
    assert user is None
    assert await ground.read(token, tenant) == Workload(
        tenant=tenant, name=runtime, session="session-1"
    )


async def test_a_key_names_its_user_where_it_may(ground: Ground, runtime: str, tenant: str) -> None:
    user, token = await ground.act_for(key_of(tenant), runtime, named="ada")
    assert user == (await ground.read(token, tenant)).user == "ada"
    caller = key_of(tenant)
    assert ground.authorizer.asked == [(caller.principal, FOR_USER, runtime_arn(tenant, runtime))]
    ground.authorizer.allows = False
    with pytest.raises(AccessDenied):
        await ground.act_for(caller, runtime, named="ada")
    with pytest.raises(ValidationFailed):
        await ground.act_for(caller, runtime, named="https://idp.example|ada")


async def test_a_person_calls_for_themselves(ground: Ground, runtime: str, tenant: str) -> None:
    person = Caller(
        tenant=tenant, principal="p", kind=CallerKind.PERSON, user="ada@example.com",
        roles=frozenset({"invoker"}),
    )  # fmt: skip
    for named in (None, "ada@example.com"):
        user, token = await ground.act_for(person, runtime, named=named)
        assert user == (await ground.read(token, tenant)).user == "ada@example.com"
    with pytest.raises(AccessDenied, match="for themselves"):
        await ground.act_for(person, runtime, named="grace@example.com")


async def test_a_gateway_calls_as_itself_and_names_no_user(
    ground: Ground, runtime: str, tenant: str
) -> None:
    arn = f"arn:aws:bedrock-agentcore:us-east-1:{tenant}:gateway/tools-abcdefghij"
    gateway = Caller(tenant=tenant, principal=arn, kind=CallerKind.GATEWAY)
    user, token = await ground.act_for(gateway, runtime)
    assert user is None
    assert (await ground.read(token, tenant)).actors == ("tools-abcdefghij",)
    ground.authorizer.allows = False  # as roles.cedar has it
    with pytest.raises(AccessDenied):
        await ground.act_for(gateway, runtime, named="ada")


async def test_the_user_of_a_bearer_token_is_the_tokens_whatever_is_named(
    ground: Ground, runtime: str, tenant: str, worker: Worker
) -> None:
    until = float(int(worker.clock().timestamp()) + 300)
    caller = bearer_of(tenant, "ada", until)
    user, token = await ground.act_for(caller, runtime, named="grace")
    assert user == "https://idp.example|ada"
    assert await ground.read(token, tenant) == Workload(
        tenant=tenant, name=runtime, session="session-1", user=user, user_token=caller.token,
        user_until=until,
    )  # fmt: skip


async def test_a_bearer_that_names_nobody_is_refused(
    ground: Ground, runtime: str, tenant: str
) -> None:
    for user, claims in (
        (None, {"iss": "https://idp.example", "sub": "ada"}),
        ("https://idp.example|ada", {"sub": "ada"}),
        ("https://idp.example|ada", {"iss": "https://idp.example", "sub": "grace"}),
    ):
        caller = Caller(
            tenant=tenant, principal="x", kind=CallerKind.OAUTH_USER, user=user, claims=claims
        )
        with pytest.raises(Unauthorized):
            await ground.act_for(caller, runtime)


async def test_one_token_is_signed_for_a_session_and_a_user_until_a_third_of_it_is_left(
    ground: Ground, runtime: str, tenant: str, worker: Worker
) -> None:
    caller = key_of(tenant)
    _, first = await ground.act_for(caller, runtime, named="ada")
    assert (await ground.act_for(caller, runtime, named="ada"))[1] == first
    worker.clock.ahead = timedelta(seconds=SECONDS * 2 / 3 - 30)
    assert (await ground.act_for(caller, runtime, named="ada"))[1] == first
    worker.clock.ahead = timedelta(seconds=SECONDS * 2 / 3 + 1)
    _, second = await ground.act_for(caller, runtime, named="ada")
    assert claims_of(second)["exp"] > claims_of(first)["exp"]


async def test_no_two_users_sessions_or_tokens_share_one(
    ground: Ground, runtime: str, tenant: str, worker: Worker
) -> None:
    until = worker.clock().timestamp() + 300
    others = [
        await ground.act_for(key_of(tenant), runtime),
        await ground.act_for(key_of(tenant), runtime, named="ada"),
        await ground.act_for(key_of(tenant), runtime, named="grace"),
        await ground.act_for(key_of(tenant), runtime, "session-2", named="ada"),
        await ground.act_for(bearer_of(tenant, "ada", until), runtime),
        await ground.act_for(bearer_of(tenant, "ada", until, token="another.one.x"), runtime),
        await ground.act_for(session_of(tenant, runtime), runtime),
    ]
    assert len({token for _, token in others}) == len(others)


async def test_a_runtime_from_before_it_had_an_identity_gets_one(
    ground: Ground, tenant: str, worker: Worker
) -> None:
    id = await worker.runtime(tenant)
    _, token = await ground.act_for(key_of(tenant), id)
    assert (await ground.read(token, tenant)).name == id
    with pytest.raises(NotFound):
        await ground.act_for(key_of(tenant), "gone-AAAAAAAAAA")


async def test_the_agent_learns_where_consent_ends(
    ground: Ground, runtime: str, tenant: str, worker: Worker
) -> None:
    async def headers() -> dict[str, str]:
        _, found = await ground.sessions.act_for(
            key_of(tenant), tenant=tenant, runtime_arn=runtime_arn(tenant, runtime),
            session_id="s", named=None, handed=None,
        )  # fmt: skip
        return found

    assert "OAuth2CallbackUrl" not in await headers()
    urls = ["https://app.example/done", "https://app.example/other"]
    await worker.identities.update(
        tenant, {"name": runtime, "allowedResourceOauth2ReturnUrls": urls}
    )
    assert (await headers())["OAuth2CallbackUrl"] == urls[0]


# -- agents that call agents


@pytest.fixture
async def second(ground: Ground, worker: Worker, tenant: str) -> str:
    id = await worker.runtime(tenant)
    await ground.sessions.ensure(tenant, id)
    return id


async def test_the_user_is_carried_on_from_agent_to_agent_and_the_chain_with_them(
    ground: Ground, runtime: str, second: str, tenant: str, worker: Worker
) -> None:
    until = float(int(worker.clock().timestamp()) + 300)
    person = bearer_of(tenant, "ada", until)
    _, at_first = await ground.act_for(person, runtime)
    user, at_second = await ground.act_for(
        session_of(tenant, runtime), second, "session-2", handed=at_first
    )
    _, at_third = await ground.act_for(
        session_of(tenant, second, "session-2"), runtime, "session-3", handed=at_second
    )
    assert user == "https://idp.example|ada"
    assert await ground.read(at_third, tenant) == Workload(
        tenant=tenant, name=runtime, session="session-3", user=user, user_token=person.token,
        user_until=until, actors=(second, runtime),
    )  # fmt: skip


async def test_an_agent_that_hands_nothing_on_is_known_all_the_same(
    ground: Ground, runtime: str, second: str, tenant: str
) -> None:
    user, token = await ground.act_for(session_of(tenant, runtime, user="ada"), second)
    assert user is None
    assert (await ground.read(token, tenant)).actors == (runtime,)


async def test_a_session_hands_on_no_token_but_its_own(
    ground: Ground, runtime: str, second: str, tenant: str
) -> None:
    _, token = await ground.act_for(key_of(tenant), runtime, named="ada")
    _, of_neighbour = await ground.act_for(key_of(tenant), runtime, "session-9", named="grace")
    for thief, stolen in (
        (session_of(tenant, second), token),
        (session_of(tenant, runtime), of_neighbour),
    ):
        with pytest.raises(TokenRefused, match="its own"):
            await ground.act_for(thief, second, handed=stolen)


async def test_a_session_cannot_name_a_user_whom_nobody_gave_it(
    ground: Ground, runtime: str, second: str, tenant: str
) -> None:
    inside = session_of(tenant, runtime, user="ada")
    assert (await ground.act_for(inside, second, named="ada"))[0] == "ada"
    with pytest.raises(AccessDenied, match="hand on the workload access token"):
        await ground.act_for(inside, second, named="grace")
    _, token = await ground.act_for(key_of(tenant), runtime, named="ada")
    with pytest.raises(AccessDenied, match="of another user"):
        await ground.act_for(inside, second, named="grace", handed=token)


@pytest.mark.parametrize("handed", ["", "nonsense", "a.b.c"])
async def test_a_token_handed_on_that_is_none_is_401_and_never_overlooked(
    ground: Ground, runtime: str, second: str, tenant: str, handed: str
) -> None:
    for caller in (key_of(tenant), session_of(tenant, runtime)):
        with pytest.raises(TokenRefused):
            await ground.act_for(caller, second, handed=handed)


async def test_a_bearer_of_one_user_and_a_token_of_another_do_not_go_together(
    ground: Ground, runtime: str, second: str, tenant: str, worker: Worker
) -> None:
    until = worker.clock().timestamp() + 300
    _, token = await ground.act_for(bearer_of(tenant, "ada", until), runtime)
    assert (await ground.act_for(bearer_of(tenant, "ada", until), second, handed=token))[0]
    with pytest.raises(TokenRefused, match="of another user"):
        await ground.act_for(bearer_of(tenant, "grace", until), second, handed=token)


async def test_nobody_speaks_for_another_tenants_users(
    ground: Ground, runtime: str, agent: str, tenant: str, worker: Worker
) -> None:
    stranger = "999999999999"
    theirs = await worker.identity(stranger)
    handed = await worker.tokens.issue(Workload(tenant=stranger, name=theirs, user="ada"))
    user, token = await ground.act_for(
        key_of(stranger), runtime, tenant=tenant, of=tenant, handed=handed
    )
    assert user is None
    assert await ground.read(token, tenant) == Workload(
        tenant=tenant, name=runtime, session="session-1"
    )
    with pytest.raises(AccessDenied):
        await ground.act_for(key_of(stranger), runtime, tenant=tenant, of=tenant, named="ada")


async def test_an_access_key_of_another_tenant_hands_on_nothing_of_this_one(
    ground: Ground, runtime: str, tenant: str
) -> None:
    _, token = await ground.act_for(key_of(tenant), runtime, named="ada")
    with pytest.raises(TokenRefused):
        await ground.act_for(
            key_of("999999999999"), runtime, tenant=tenant, of=tenant, handed=token
        )


# -- an identity and its runtime


async def test_the_identity_of_a_runtime_goes_with_it_and_not_before(
    ground: Ground, runtime: str, tenant: str, worker: Worker
) -> None:
    token = await ground.grants.for_itself(key_of(tenant), tenant, runtime)
    with pytest.raises(Conflict, match="goes with the resource that it is of"):
        await worker.identities.delete(tenant, runtime)
    await worker.resources.delete(tenant, RUNTIME, runtime)
    worker.identities.heard_change("")
    with pytest.raises(TokenRefused):
        await ground.read(token, tenant)
    with pytest.raises(NotFound):
        await ground.sessions.ensure(tenant, runtime)


async def test_deleting_an_identity_takes_no_other_resource_along(
    ground: Ground, tenant: str, worker: Worker
) -> None:
    """An identity may have the very name that is another resource's id."""
    id = await worker.runtime(tenant)
    await ground.worker.resources.create(
        tenant, msgspec.structs.replace(RUNTIME, name="grandchild", arn_resource="x/{id}"),
        id="child", name="child", status="READY", document={}, parent=f"{id}/target",
    )  # fmt: skip
    await worker.identity(tenant, id)
    await worker.identities.delete(tenant, id)
    assert (await worker.resources.get(tenant, RUNTIME, id)).id == id
    kind = msgspec.structs.replace(RUNTIME, name="grandchild")
    assert await worker.resources.get(tenant, kind, "child", parent=f"{id}/target")
