"""Credentials that are to be changed now and then: by the platform where the provider can
(RFC 7592), by people with a reminder and a second secret beside the first where it cannot."""

import asyncio
import contextlib
import logging
from datetime import datetime
from typing import Any

import msgspec

from freehold.kernel.errors import Conflict, FreeholdError, NotFound, Unavailable, ValidationFailed
from freehold.ports.database import Database
from freehold.ports.jobs import Jobs
from freehold.ports.resources import Resource, ResourceKind, Resources
from freehold.ports.web import Unreachable, Web
from freehold.services.vault import store
from freehold.services.vault.model import (
    API_KEY,
    DUE_TAG,
    OAUTH2,
    REGISTRATION,
    SECRET_KIND,
    NewSecret,
    next_of,
)
from freehold.services.vault.secrets import SecretBox

log = logging.getLogger(__name__)

CHANGE_JOB = "vault-change-secret"
_NOT_SENT_BACK = (
    "client_secret", "client_secret_expires_at", "client_id_issued_at", "registration_access_token",
    "registration_client_uri",
)  # fmt: skip
_RETRY_SECONDS = 60.0


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """Of a client with its authorization server: where it is kept (RFC 7592), and the token for
    that. `repr` hides the token."""

    uri: str
    token: str

    def __repr__(self) -> str:
        return f"Registration({self.uri})"


class SecretChanges:
    """`open` after the database and the jobs; one timer a worker waits for the next that is due."""

    def __init__(
        self,
        *,
        database: Database,
        resources: Resources,
        secrets: SecretBox,
        jobs: Jobs,
        web: Web,
    ) -> None:
        self._database, self._resources = database, resources
        self._secrets, self._jobs, self._web = secrets, jobs, web
        self._wake = asyncio.Event()
        self._timer: asyncio.Task[None] | None = None
        jobs.register(CHANGE_JOB, self._work, concurrency=2, attempts_max=1)
        database.listen(store.SCHEDULES_CHANNEL, lambda _: self._wake.set())

    async def open(self) -> None:
        self._timer = asyncio.create_task(self._wait_for_due())

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._timer

    # -- two secrets beside one another

    async def put_next(self, tenant: str, kind: ResourceKind, name: str, value: str) -> None:
        await self._resources.get(tenant, kind, name)
        if not value:
            raise ValidationFailed("secret: is missing, or empty")
        secret = next_of(SECRET_KIND[kind.name])
        sealed = await self._secrets.take(tenant, secret, name, NewSecret(value))
        async with self._database.transaction() as connection:
            await self._resources.get(tenant, kind, name, connection=connection)
            await self._secrets.put(connection, tenant, secret, name, sealed)

    async def drop_next(self, tenant: str, kind: ResourceKind, name: str) -> None:
        await self._resources.get(tenant, kind, name)
        secret = next_of(SECRET_KIND[kind.name])
        async with self._database.connection() as connection:
            if not await store.delete_secrets(connection, tenant, name, [secret]):
                raise NotFound(f"{kind.noun} {name!r} has no next secret")

    async def promote(self, tenant: str, kind: ResourceKind, name: str) -> None:
        """The next secret is the current one; what was current is gone."""
        provider = await self._resources.get(tenant, kind, name)
        if provider.document.get("source") != "MANAGED":
            raise Conflict(f"the secret of {name!r} is kept elsewhere: change it there")
        secret = SECRET_KIND[kind.name]
        found = (await self._secrets.read(tenant, name, next_of(secret))).get(next_of(secret))
        if found is None:
            raise NotFound(f"{kind.noun} {name!r} has no next secret")
        sealed = await self._secrets.seal(tenant, secret, name, found)
        async with self._database.transaction() as connection:
            await self._resources.get(tenant, kind, name, connection=connection)
            await self._secrets.put(connection, tenant, secret, name, sealed)
            await store.delete_secrets(connection, tenant, name, [next_of(secret)])
            await store.schedule_done(connection, tenant, secret, name)
        await self._show_due(tenant, provider, secret)

    # -- schedules

    async def schedule(
        self,
        tenant: str,
        kind: ResourceKind,
        name: str,
        *,
        every_days: int,
        registration: Registration | None,
    ) -> None:
        provider = await self._resources.get(tenant, kind, name)
        if registration is not None and kind is not OAUTH2:
            raise ValidationFailed("registration: only OAuth 2.0 clients are registered")
        if registration is not None and provider.document.get("source") != "MANAGED":
            raise ValidationFailed("registration: the secret is kept elsewhere: change it there")
        secret = SECRET_KIND[kind.name]
        sealed = None
        if registration is not None:
            data = msgspec.json.encode(registration)
            sealed = await self._secrets.seal(tenant, REGISTRATION, name, data)
        async with self._database.transaction() as connection:
            await store.put_schedule(
                connection, tenant, secret, name,
                way="reminder" if registration is None else "registration", every_days=every_days,
            )  # fmt: skip
            if sealed is not None:
                await self._secrets.put(connection, tenant, REGISTRATION, name, sealed)
            await self._database.notify(connection, store.SCHEDULES_CHANNEL, tenant)
        await self._show_due(tenant, provider, secret)

    async def unschedule(self, tenant: str, kind: ResourceKind, name: str) -> None:
        provider = await self._resources.get(tenant, kind, name)
        secret = SECRET_KIND[kind.name]
        async with self._database.transaction() as connection:
            await store.delete_schedule(connection, tenant, secret, name)
            if kind is OAUTH2:
                await store.delete_secrets(connection, tenant, name, [REGISTRATION])
        await self._show_due(tenant, provider, secret)

    async def schedules(self, tenant: str) -> list[store.Schedule]:
        async with self._database.connection() as connection:
            return await store.schedules(connection, tenant)

    async def next_secrets(self, tenant: str) -> list[tuple[str, str, datetime]]:
        """Kind of secret, provider's name, and since when."""
        async with self._database.connection() as connection:
            return await store.next_secrets(connection, tenant)

    async def _show_due(self, tenant: str, provider: Resource, secret: str) -> None:
        """As a tag: people and their tools see it on the provider itself."""
        due = [
            s for s in await self.schedules(tenant) if (s.kind, s.name) == (secret, provider.name)
        ]
        if due:
            await self._resources.tag(tenant, provider.arn, {DUE_TAG: f"{due[0].due_at:%Y-%m-%d}"})
        elif DUE_TAG in provider.tags:
            await self._resources.untag(tenant, provider.arn, [DUE_TAG])

    # -- changed by us

    async def _wait_for_due(self) -> None:
        while True:
            self._wake.clear()
            seconds: float | None
            try:
                async with self._database.connection() as connection:
                    for due in await store.due(connection):
                        await self._enqueue(due)
                    seconds = await store.next_due_seconds(connection)
            except Unavailable:
                seconds = _RETRY_SECONDS
            if seconds is not None:
                # What is due already is under way: its job sets the next date.
                seconds = max(seconds, _RETRY_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._wake.wait()

    async def _enqueue(self, due: store.Schedule) -> None:
        """Of several workers that see it one enqueues: the id says what, and for which date."""
        payload = {"tenant": due.tenant, "name": due.name}
        id = f"{CHANGE_JOB}-{due.tenant}-{due.name}-{due.due_at.timestamp():.6f}"
        await self._jobs.enqueue(CHANGE_JOB, payload, id=id)

    async def _work(self, payload: dict[str, Any]) -> None:
        tenant, name = payload["tenant"], payload["name"]
        secret = SECRET_KIND[OAUTH2.name]
        try:
            await self.change_now(tenant, name)
        except FreeholdError as error:
            log.warning("the secret of %s in %s was not changed: %s", name, tenant, error)
            async with self._database.connection() as connection:
                await store.schedule_failed(connection, tenant, secret, name, error.message)
        async with self._database.connection() as connection:
            await self._database.notify(connection, store.SCHEDULES_CHANNEL, tenant)

    async def change_now(self, tenant: str, name: str) -> None:
        """A new client secret from the server that the client is registered with. What an earlier
        try may have got and lost is asked for first, and taken instead."""
        provider = await self._resources.get(tenant, OAUTH2, name)
        held = await self._secrets.read(tenant, name, "client-secret", REGISTRATION)
        if REGISTRATION not in held:
            raise ValidationFailed(f"{name!r} has no registration: its secret is changed by people")
        registration = msgspec.json.decode(held[REGISTRATION], type=Registration)
        current = held.get("client-secret", b"").decode()
        client = await self._ask("GET", registration)
        if client.get("client_secret") in (None, current):
            wanted = {k: v for k, v in client.items() if k not in _NOT_SENT_BACK}
            registration = _renewed(registration, client)
            client = await self._ask("PUT", registration, wanted)
        await self._keep(tenant, name, client, _renewed(registration, client), current)
        await self._show_due(tenant, provider, "client-secret")

    async def _keep(
        self,
        tenant: str,
        name: str,
        client: dict[str, Any],
        registration: Registration,
        current: str,
    ) -> None:
        fresh = client.get("client_secret")
        sealed = await self._secrets.seal(
            tenant, REGISTRATION, name, msgspec.json.encode(registration)
        )
        async with self._database.transaction() as connection:
            await self._secrets.put(connection, tenant, REGISTRATION, name, sealed)
        if not isinstance(fresh, str) or fresh == current:
            raise ValidationFailed("the authorization server gave no new secret: change it there")
        new = await self._secrets.seal(tenant, "client-secret", name, fresh.encode())
        async with self._database.transaction() as connection:
            await self._secrets.put(connection, tenant, "client-secret", name, new)
            await store.schedule_done(connection, tenant, "client-secret", name)

    async def _ask(
        self, method: str, registration: Registration, body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        headers = {
            "authorization": f"Bearer {registration.token}", "accept": "application/json",
            "content-type": "application/json",
        }  # fmt: skip
        try:
            answer = await self._web.ask(
                method, registration.uri, headers=headers,
                body=None if body is None else msgspec.json.encode(body),
            )  # fmt: skip
        except Unreachable as error:
            raise Unavailable(f"the authorization server: {error}") from None
        try:
            document = msgspec.json.decode(answer.body) if answer.status == 200 else None
        except msgspec.DecodeError:
            document = None
        if not isinstance(document, dict):
            raise Unavailable(f"the authorization server answered {answer.status}")
        return document


def _renewed(registration: Registration, client: dict[str, Any]) -> Registration:
    """A server may change both with every answer."""
    token = client.get("registration_access_token")
    return Registration(
        uri=registration.uri, token=token if isinstance(token, str) else registration.token
    )


KINDS = {"api-key": API_KEY, "oauth2": OAUTH2}
