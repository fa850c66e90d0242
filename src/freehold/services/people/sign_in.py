"""Sign-in of people and their sessions. Implements `ports.sign_in.SignIn`."""

import hmac
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from freehold.kernel import clock, ids
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import AccessDenied, FreeholdError, Unauthorized
from freehold.ports.audit import Audit, AuditEvent
from freehold.ports.database import Connection, Database
from freehold.ports.sign_in import Account, Begun, SignedIn, SignInRefused
from freehold.services.people import sign_in_store, store
from freehold.services.people.claims import RoleRule, roles_of
from freehold.services.people.guesses import Guesses
from freehold.services.people.model import (
    Person,
    checked_tenant,
    local_path,
    name_from,
    new_secret,
    sha256,
)
from freehold.services.people.passwords import PASSWORD_CHARS_MAX, Passwords
from freehold.services.people.provider import Claims, Provider

HOME = "/console"
PENDING = timedelta(minutes=10)
PENDING_MAX = 10_000
_SEEN_EVERY = timedelta(minutes=1)
_QUERY_CHARS_MAX = 8192
_WRONG = "that name or password is not right"


class SessionLimits(msgspec.Struct, frozen=True, kw_only=True):
    idle: timedelta = timedelta(hours=1)
    lifetime: timedelta = timedelta(hours=12)


class SignInService:
    """`first` is the account that a person is put in when several are theirs."""

    def __init__(
        self,
        database: Database,
        *,
        first: str,
        provider: Provider | None,
        rules: tuple[RoleRule, ...],
        passwords: Passwords,
        audit: Audit,
        limits: SessionLimits,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._database = database
        self._first = first
        self._provider = provider
        self._rules = rules
        self._passwords = passwords
        self._guesses = Guesses(database, now)
        self._audit = audit
        self._limits = limits
        self._now = now

    @property
    def provider(self) -> str | None:
        return None if self._provider is None else self._provider.host

    # -- with the provider

    async def begin(self, next: str = HOME) -> Begun:
        provider = self._needed_provider()
        state, binding = new_secret(), new_secret()
        url = await provider.authorization_url(state, binding)
        now = self._now()
        async with self._database.connection() as connection:
            await sign_in_store.insert_pending(
                connection,
                tenant=self._first,
                state_sha256=sha256(state),
                binding_sha256=sha256(binding),
                next=local_path(next, HOME),
                now=now,
                expires_at=now + PENDING,
                pending_max=PENDING_MAX,
            )
        return Begun(url=url, binding=binding, seconds_max=int(PENDING.total_seconds()))

    async def finish(self, query: str, *, binding: str | None, source: str) -> SignedIn:
        async with _Audited(self, "SignIn", source) as audited:
            provider = self._needed_provider()
            answer = _answer(query)
            next = await self._take(answer.get("state"), binding)
            assert binding is not None, "what was taken was bound to one"
            await provider.check_issuer(answer.get("iss"))
            if "error" in answer:
                raise SignInRefused("the provider did not let you in, or you went back")
            claims = await provider.redeem(answer.get("code") or "", binding)
            person = await self._known(claims)
            return audited.as_(await self._signed_in(person, next))

    async def _take(self, state: str | None, binding: str | None) -> str:
        """Once, and by the browser that began alone: a link from elsewhere signs nobody in.

        The state is used up only by that browser: whoever has seen it cannot spoil it.
        """
        if not state or not binding:
            raise SignInRefused("this sign-in was not begun in this browser; begin again")
        async with self._database.transaction() as connection:
            taken = await sign_in_store.take_pending(connection, sha256(state), self._now())
            if taken is None or not hmac.compare_digest(taken[0], sha256(binding)):
                raise SignInRefused("this sign-in is over or was not begun here; begin again")
        return taken[1]

    async def _known(self, claims: Claims) -> Person:
        """Whom the claims name: known, awaited by email, or new where a rule has a role for them.

        Roles of rules are those of this sign-in: what the provider took away is gone.
        """
        provider = self._needed_provider()
        granted = roles_of(self._rules, claims.all, provider.settings.roles_claim)
        async with self._database.transaction() as connection:
            await store.lock(connection)
            person = await store.person_by_subject(connection, claims.issuer, claims.subject)
            email = _verified_email(claims.all)
            if person is None and email is not None:
                person = await store.link(connection, email, claims.issuer, claims.subject)
            if person is None and granted:
                person = await _new_person(connection, claims, email, home=min(granted))
            if person is None:
                raise SignInRefused("you are known to the provider, but have no role here")
            await store.drop_roles(connection, person.id, "claims")
            for tenant, roles in granted.items():
                await store.put_roles(connection, tenant, person.id, roles, "claims")
            await store.tell(connection, person.id)
        return person

    # -- with a password

    async def local(self, name: str, password: str, *, next: str = HOME, source: str) -> SignedIn:
        async with _Audited(self, "SignInLocal", source) as audited:
            if self._provider is not None:
                raise SignInRefused("people sign in with the provider here")
            if len(name) > 64 or len(password) > PASSWORD_CHARS_MAX or "\0" in name:
                raise SignInRefused(_WRONG)
            await self._guesses.at_password(self._first, name, source)
            async with self._database.connection() as connection:
                found = await store.password_of(connection, name)
            right = await self._passwords.matches(password, found[1] if found else None)
            if not right or found is None:
                raise SignInRefused(_WRONG)
            signed_in = await self._signed_in(found[0], local_path(next, HOME))
            await self._guesses.password_was_right(name, source)
            return audited.as_(signed_in)

    # -- sessions

    async def session(self, token: str) -> Caller | None:
        now, hashed = self._now(), sha256(token)
        async with self._database.connection() as connection:
            seen = await sign_in_store.session(
                connection, hashed, now=now, idle=now - self._limits.idle
            )
            if seen is None or not seen.roles:
                return None
            if now - seen.seen_at > _SEEN_EVERY:
                await sign_in_store.touch_session(connection, hashed, now)
        caller = person_caller(seen.tenant, seen.name, seen.roles)
        if seen.issuer is None:
            return caller
        # How agents know a user of the same provider: consent is theirs to give.
        known_as = {"iss": seen.issuer, "sub": seen.subject}
        return msgspec.structs.replace(caller, claims=known_as)

    async def end(self, token: str) -> None:
        async with self._database.connection() as connection:
            await sign_in_store.delete_session(connection, sha256(token))

    async def accounts(self, token: str) -> list[Account]:
        async with self._database.connection() as connection:
            seen = await self._seen(connection, token)
            held = await store.roles_by_tenant(connection, seen.person)
        first = sorted(held, key=lambda tenant: (tenant != self._first, tenant))
        return [Account(tenant=t, name=held[t][0], roles=held[t][1]) for t in first]

    async def switch(self, token: str, tenant: str) -> SignedIn:
        """No later than the session before would have ended."""
        checked_tenant(tenant)
        fresh = new_secret()
        now = self._now()
        async with self._database.transaction() as connection:
            seen = await self._seen(connection, token)
            held = await store.roles_by_tenant(connection, seen.person)
            if tenant not in held:
                raise AccessDenied("you have no role in that account")
            if not await sign_in_store.delete_session(connection, sha256(token)):
                raise Unauthorized("this session has ended; sign in again")
            await sign_in_store.insert_session(
                connection,
                tenant=tenant,
                token_sha256=sha256(fresh),
                person=seen.person,
                now=now,
                expires_at=seen.expires_at,
            )
        return SignedIn(
            token=fresh,
            seconds_max=int((seen.expires_at - now).total_seconds()),
            caller=person_caller(tenant, seen.name, held[tenant][1]),
            next=HOME,
        )

    async def _seen(self, connection: Connection, token: str) -> sign_in_store.Seen:
        now = self._now()
        seen = await sign_in_store.session(
            connection, sha256(token), now=now, idle=now - self._limits.idle
        )
        if seen is None:
            raise Unauthorized("this session has ended; sign in again")
        return seen

    async def _signed_in(self, person: Person, next: str) -> SignedIn:
        """A token that nobody has seen before, whatever the browser brought along."""
        token, now = new_secret(), self._now()
        async with self._database.transaction() as connection:
            held = await store.roles_by_tenant(connection, person.id)
            if not person.active or not held:
                raise SignInRefused("you have no role here, or were disabled; ask an admin")
            homes = [t for t in (self._first, person.home) if t in held]
            tenant = homes[0] if homes else min(held)
            await sign_in_store.insert_session(
                connection,
                tenant=tenant,
                token_sha256=sha256(token),
                person=person.id,
                now=now,
                expires_at=now + self._limits.lifetime,
            )
            await store.note_sign_in(connection, person.id, now)
        return SignedIn(
            token=token,
            seconds_max=int(self._limits.lifetime.total_seconds()),
            caller=person_caller(tenant, person.name, held[tenant][1]),
            next=next,
        )

    def _needed_provider(self) -> Provider:
        if self._provider is None:
            raise SignInRefused("no provider is set: sign in with a password")
        return self._provider

    async def record(self, event: AuditEvent) -> None:
        await self._audit.write(event)

    def event(self, operation: str, source: str, **more: Any) -> AuditEvent:
        values: dict[str, Any] = {
            "tenant": self._first, "principal": "nobody", "kind": CallerKind.PERSON.value, **more,
        }  # fmt: skip
        return AuditEvent(
            call_id=ids.request_id(),
            phase="outcome",
            at=self._now(),
            operation=f"console:{operation}",
            source=source,
            **values,
        )


class _Audited:
    """Says how a sign-in ended, also one that was refused. A success counts once it is written."""

    def __init__(self, service: SignInService, operation: str, source: str) -> None:
        self._service, self._operation, self._source = service, operation, source
        self._signed_in: SignedIn | None = None

    async def __aenter__(self) -> "_Audited":
        return self

    def as_(self, signed_in: SignedIn) -> SignedIn:
        self._signed_in = signed_in
        return signed_in

    async def __aexit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if self._signed_in is not None:
            caller = self._signed_in.caller
            await self._service.record(
                self._service.event(
                    self._operation,
                    self._source,
                    tenant=caller.tenant,
                    principal=caller.principal,
                    user=caller.user,
                    outcome="allowed",
                    status=200,
                )
            )
        elif isinstance(error, FreeholdError):
            outcome = "denied" if error.status < 500 else "failed"
            await self._service.record(
                self._service.event(
                    self._operation,
                    self._source,
                    outcome=outcome,
                    status=error.status,
                    detail={"why": error.message},
                )
            )


def person_caller(tenant: str, name: str, roles: frozenset[str]) -> Caller:
    return Caller(
        tenant=tenant,
        principal=f"arn:aws:iam::{tenant}:user/{name}",
        kind=CallerKind.PERSON,
        user=name,
        roles=roles,
    )


async def _new_person(
    connection: Connection, claims: Claims, email: str | None, *, home: str
) -> Person:
    """A name of its own: one that somebody has gets a suffix, so that nobody passes for them."""
    said = (claims.all.get(each) for each in ("preferred_username", "email", "name"))
    wanted = next((n for s in said if isinstance(s, str) and (n := name_from(s))), "person")
    id = "p-" + ids.random_text(16)
    for name in (wanted, f"{wanted}-{ids.random_text(6).lower()}"):
        if await store.insert_person(
            connection, tenant=home, id=id, name=name,
            email=None, issuer=claims.issuer, subject=claims.subject,
        ):  # fmt: skip
            break
    if email is not None:
        await store.set_email(connection, id, email)
    person = await store.person_by_id(connection, id)
    if person is None:
        raise SignInRefused("a person like you exists already; ask an admin")
    return person


def _verified_email(claims: dict[str, Any]) -> str | None:
    """Only one that the provider vouches for: others are whatever somebody typed there."""
    email = claims.get("email")
    return email if isinstance(email, str) and claims.get("email_verified") is True else None


def _answer(query: str) -> dict[str, str]:
    """Each parameter once: of two, one could be read here and the other elsewhere."""
    if len(query) > _QUERY_CHARS_MAX:
        raise SignInRefused("that is no answer of the provider")
    pairs = parse_qsl(query, keep_blank_values=True)
    answer = dict(pairs)
    if len(answer) != len(pairs):
        raise SignInRefused("that is no answer of the provider")
    return answer
